"""The autoencoder: seeded training, storage in diffusers' layout, and what a damaged folder says."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from lct.data import autoencoder
from lct.data.imageset import ImageSet, write_imageset
from lct.data.settings import Encoding, TrainedAutoencoder
from lct.files.checkpoint import Checkpoint
from lct.streams import generator

TINY = TrainedAutoencoder(block_out_channels=(8, 8, 8), steps=6, batch=8, norm_groups=4)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "set.zip"
    y, x = np.mgrid[:16, :16] / 15
    waves = [np.sin(3 * (a * x + b * y)) * 0.5 + 0.5 for a, b in np.random.default_rng(0).normal(size=(21, 2))]
    write_imageset(path, (np.repeat((255 * w).astype(np.uint8)[:, :, None], 3, 2) for w in waves))
    return ImageSet(path)


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    model = autoencoder.create(TINY)
    history = list(autoencoder.train(model, TINY, images))
    folder = tmp_path_factory.mktemp("trained")
    autoencoder.save(model, folder)
    return model, history, folder


def one_line(error):
    assert "\n" not in str(error.value), str(error.value)


def test_training_reports_every_step_and_lowers_the_loss(trained):
    model, history, _ = trained
    assert len(history) == 6 and all(map(math.isfinite, history)) and history[-1] < history[0]
    assert not model.training and not any(p.requires_grad for p in model.parameters())


def test_equal_seeds_give_equal_bytes_and_leave_the_global_generator_alone(trained, images, tmp_path):
    _, history, folder = trained
    torch.manual_seed(99)
    before = torch.get_rng_state()
    model = autoencoder.create(TINY)
    again = list(autoencoder.train(model, TINY, images))
    autoencoder.save(model, tmp_path)
    autoencoder.load(tmp_path)
    assert torch.equal(before, torch.get_rng_state())
    assert again == history
    for name in (autoencoder.CONFIG_NAME, autoencoder.WEIGHTS_NAME):
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes()


def test_a_training_that_was_stopped_anywhere_goes_on_to_the_same_bytes(trained, images, tmp_path):
    def attempt(steps, identity="mine"):
        """Take so many steps, save the state, and be killed in the next one."""
        checkpoint = Checkpoint(tmp_path / "work", {"of": identity}, TINY.steps, save_seconds=1e9)
        model = autoencoder.create(TINY)
        history = list(itertools.islice(autoencoder.train(model, TINY, images, checkpoint=checkpoint), steps))
        return model, history, checkpoint

    _, history, checkpoint = attempt(4)
    checkpoint.save()
    assert attempt(1, "another")[1] == history[:1], "a state of other settings is not taken"
    model, rest, checkpoint = attempt(None)
    assert history + rest == trained[1] and len(rest) == 2
    autoencoder.save(model, tmp_path)
    assert (trained[2] / autoencoder.WEIGHTS_NAME).read_bytes() == (tmp_path / autoencoder.WEIGHTS_NAME).read_bytes()
    checkpoint.remove()
    assert not (tmp_path / "work").exists()


def test_another_seed_gives_other_weights():
    first, second = (autoencoder.create(TrainedAutoencoder(seed=seed)) for seed in (0, 1))
    assert not torch.equal(first.encoder.conv_in.weight, second.encoder.conv_in.weight)


def test_initial_weights_follow_torchs_default_law():
    weights = autoencoder.create(TrainedAutoencoder()).decoder.mid_block.resnets[0].conv1.weight
    bound = (weights[0].numel()) ** -0.5
    assert 0.98 * bound < weights.abs().max() <= bound and abs(weights.mean()) < 0.05 * bound


def test_the_first_loss_is_the_stated_formula(images):
    settings = TrainedAutoencoder(block_out_channels=(8, 8), norm_groups=4, steps=1, batch=4, kl_weight=0.3)
    model = autoencoder.create(settings)
    draws = generator(settings.seed, "autoencoder/step", 0)
    picks = torch.randint(21, (4,), generator=draws)
    with torch.no_grad():
        x = torch.from_numpy(images.array()[picks].transpose(0, 3, 1, 2) / 127.5 - 1).float()
        mean, log_variance = model.quant_conv(model.encoder(x)).chunk(2, 1)
        z = mean + (log_variance / 2).exp() * torch.randn(mean.shape, generator=draws)
        error = (model.decode(z).sample - x).double()
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).double().sum((1, 2, 3)).mean() / 256
    expected = error.abs().mean() + error.square().mean() + 0.3 * kl
    (loss,) = autoencoder.train(model, settings, images)
    assert loss == pytest.approx(expected.item(), rel=1e-5)


def test_a_stored_model_is_diffusers_own_and_decodes_alike(trained):
    model, _, folder = trained
    z = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    ours = autoencoder.load(folder)
    theirs = AutoencoderKL.from_pretrained(folder).eval()
    with torch.no_grad():
        assert torch.equal(ours.decode(z).sample, model.decode(z).sample)
        assert torch.equal(theirs.decode(z).sample, model.decode(z).sample)
    assert autoencoder.downsampling(ours) == 4


def test_attention_weights_under_their_older_names_are_read(images, tmp_path):
    """stabilityai/sd-vae-ft-ema is stored with the names of 2022."""
    model = autoencoder.create(TrainedAutoencoder(block_out_channels=(8, 8), norm_groups=4, middle_attention=True))
    autoencoder.save(model, tmp_path)
    state = load_file(tmp_path / autoencoder.WEIGHTS_NAME)
    older = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    renamed = {}
    for name, value in state.items():
        for new, old in older.items():
            name = name.replace(new, old)
        renamed[name] = value
    assert renamed.keys() != state.keys()
    save_file(renamed, tmp_path / autoencoder.WEIGHTS_NAME, metadata={"format": "pt"})
    found = autoencoder.load(tmp_path).state_dict()
    assert all(torch.equal(found[name], value) for name, value in state.items())


def test_posterior_draws_belong_to_the_image_and_not_to_the_batch(trained, images):
    model = trained[0]
    encoded = [autoencoder.encode(model, images, Encoding(batch=batch), "train") for batch in (4, 7, 32)]
    assert encoded[0].shape == (21, 4, 4, 4) and encoded[0].dtype == torch.float32
    for other in encoded[1:]:
        torch.testing.assert_close(other, encoded[0], rtol=1e-4, atol=1e-5)
    assert torch.equal(autoencoder.encode(model, images, Encoding(batch=4), "train"), encoded[0])
    part = autoencoder.encode(model, images, Encoding(batch=4), "train", range(8, 21))
    assert torch.equal(part, encoded[0][8:])
    for seed, side in ((1, "train"), (0, "heldout")):
        other = autoencoder.encode(model, images, Encoding(batch=4, seed=seed), side)
        assert not torch.isclose(other, encoded[0], atol=1e-2).all((1, 2, 3)).any(), (seed, side)


def test_posterior_draws_follow_the_posterior(trained, images):
    model = trained[0]
    mode = autoencoder.encode(model, images, Encoding(sample="mode"), "train")
    draw = autoencoder.encode(model, images, Encoding(), "train")
    with torch.no_grad():
        posterior = model.encode(autoencoder.to_network(images.array())).latent_dist
    torch.testing.assert_close(mode, posterior.mean, rtol=1e-4, atol=1e-5)
    noise = (draw - mode) / posterior.std
    assert abs(noise.mean()) < 0.1 and abs(noise.std() - 1) < 0.1


def test_the_two_sides_draw_from_streams_of_their_own(trained, images):
    """Image i of one side and image i of the other share nothing but their index."""
    model = trained[0]
    mode = autoencoder.encode(model, images, Encoding(sample="mode"), "train")
    with torch.no_grad():
        std = model.encode(autoencoder.to_network(images.array())).latent_dist.std
    noise = [(autoencoder.encode(model, images, Encoding(), side) - mode) / std for side in ("train", "heldout")]
    correlation = torch.corrcoef(torch.stack(noise).flatten(1))[0, 1]
    assert abs(correlation) < 4 / noise[0].numel() ** 0.5
    assert autoencoder.encode(model, images, Encoding(sample="mode"), "heldout").equal(mode)


def test_the_scaling_factor_of_a_configuration_changes_nothing(trained, images, tmp_path):
    """Pitfall P4: a factor that is read nowhere cannot be applied twice."""
    z, decoded = [], []
    for factor in (0.18215, 1.0, 13.0):
        autoencoder.save(trained[0], tmp_path)
        path = tmp_path / autoencoder.CONFIG_NAME
        path.write_text(json.dumps(json.loads(path.read_text()) | {"scaling_factor": factor}))
        model = autoencoder.load(tmp_path)
        assert model.config.scaling_factor == factor
        z.append(autoencoder.encode(model, images, Encoding(), "train"))
        decoded.append(np.stack(list(autoencoder.decode(model, z[0], 8))))
    assert all(other.equal(z[0]) for other in z) and all((other == decoded[0]).all() for other in decoded)
    sources = (Path(autoencoder.__file__).parents[1]).rglob("*.py")
    assert not [path for path in sources if ".scaling_factor" in path.read_text()]


def test_nan_latents_name_their_image(images):
    model = autoencoder.create(TINY).eval().requires_grad_(False)
    model.quant_conv.bias[0] = float("nan")
    with pytest.raises(ValueError, match="set.zip: image 0: expected finite latents") as error:
        autoencoder.encode(model, images, Encoding(), "train")
    one_line(error)


def test_images_of_an_odd_size_are_refused(trained, tmp_path):
    write_imageset(tmp_path / "odd.zip", np.zeros((2, 18, 16, 3), np.uint8))
    with pytest.raises(ValueError, match="multiples of 4.* found 18x16"):
        autoencoder.encode(trained[0], ImageSet(tmp_path / "odd.zip"), Encoding(), "train")


def test_decoding_is_the_same_for_full_and_filled_batches(trained):
    z = torch.randn(7, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    whole = np.stack(list(autoencoder.decode(trained[0], z, batch=7)))
    parts = np.stack(list(autoencoder.decode(trained[0], z, batch=3)))
    assert whole.shape == (7, 16, 16, 3) and whole.dtype == np.uint8
    assert np.abs(whole.astype(int) - parts).max() <= 1  # one level where rounding meets truncation
    with pytest.raises(ValueError, match="image 2: expected finite"):
        list(autoencoder.decode(trained[0], z.index_fill(0, torch.tensor([2]), torch.nan), batch=3))


@pytest.mark.parametrize(("bias", "value"), [(float("inf"), "inf"), (float("nan"), "NaN"), (-1e4, "1e\\+04")])
def test_decoded_values_that_are_no_pixels_name_their_image(bias, value):
    model = autoencoder.create(TINY).eval().requires_grad_(False)
    model.decoder.conv_out.bias[1] = bias
    with pytest.raises(ValueError, match=rf"sampling: image 20: expected decoded values .* found {value};") as error:
        list(autoencoder.decode(model, torch.zeros(2, 4, 4, 4), 2, where="sampling", first=20))
    one_line(error)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    model = autoencoder.create(TINY).eval().requires_grad_(False)
    model.decoder.conv_out.bias[1] = float("nan")
    autoencoder.save(model, tmp_path)
    with pytest.raises(
        ValueError, match="safetensors: expected finite weights, found .* decoder.conv_out.bias"
    ) as error:
        autoencoder.load(tmp_path)
    one_line(error)


def test_pixels_are_clamped_and_truncated():
    levels = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0, 2 * 100.999 / 255 - 1])
    found = autoencoder.to_uint8(levels.view(1, 1, 1, -1).expand(1, 3, 1, -1))[0, 0, :, 0]
    assert found.tolist() == [0, 0, 127, 255, 255, 100]
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 256, 1).repeat(3, 3)
    back = autoencoder.to_uint8(autoencoder.to_network(pixels)).astype(int)
    assert np.abs(back - pixels).max() <= 1


def test_psnr_matches_its_definition():
    a, b = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 4, 3), np.uint8)
    error = np.mean((a.astype(float) - b) ** 2)
    parts = [autoencoder.squared_error(a[:2], b[:2]), autoencoder.squared_error(a[2:], b[2:])]
    assert sum(parts) == autoencoder.squared_error(a, b) == autoencoder.squared_error(b, a)
    expected = 20 * math.log10(255) - 10 * math.log10(error)
    assert autoencoder.psnr(sum(parts), a.size) == pytest.approx(expected, rel=1e-12)
    assert autoencoder.psnr(0, a.size) == math.inf


def damaged(folder, tmp_path, change):
    state = load_file(folder / autoencoder.WEIGHTS_NAME)
    (tmp_path / autoencoder.CONFIG_NAME).write_bytes((folder / autoencoder.CONFIG_NAME).read_bytes())
    change(state)
    save_file(state, tmp_path / autoencoder.WEIGHTS_NAME, metadata={"format": "pt"})
    return tmp_path


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda state: state.pop("decoder.conv_in.weight"), r"1 missing \(decoder.conv_in.weight\)"),
        (lambda state: state.update(surplus=torch.zeros(2)), r"1 extra \(surplus\)"),
        (lambda state: state.update({"decoder.conv_out.bias": torch.zeros(5)}), "decoder.conv_out.bias"),
    ],
)
def test_a_folder_with_other_tensors_is_refused_in_one_line(trained, tmp_path, change, message):
    with pytest.raises(ValueError, match=message) as error:
        autoencoder.load(damaged(trained[2], tmp_path, change))
    one_line(error)


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_truncated_weights_are_refused_in_one_line(trained, tmp_path, share):
    folder = damaged(trained[2], tmp_path, lambda state: None)
    content = (folder / autoencoder.WEIGHTS_NAME).read_bytes()
    (folder / autoencoder.WEIGHTS_NAME).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match="expected a whole safetensors file") as error:
        autoencoder.load(folder)
    one_line(error)


def test_missing_and_foreign_configurations_are_refused(trained, tmp_path):
    with pytest.raises(FileNotFoundError, match="config.json"):
        autoencoder.load(tmp_path)
    folder = damaged(trained[2], tmp_path, lambda state: None)
    for text in ("{", "[]", json.dumps({"_class_name": "UNet2DModel"})):
        (folder / autoencoder.CONFIG_NAME).write_text(text)
        with pytest.raises(ValueError, match="expected the configuration of an AutoencoderKL") as error:
            autoencoder.load(folder)
        one_line(error)


def test_a_loss_that_is_not_finite_stops_training(images):
    settings = TrainedAutoencoder(block_out_channels=(8, 8), norm_groups=4, steps=30, batch=4, lr=1e30, warmup_steps=0)
    with pytest.raises(ValueError, match="expected a finite loss") as error:
        list(autoencoder.train(autoencoder.create(settings), settings, images))
    one_line(error)


def test_pixels_are_truncated_as_the_authors_do_or_rounded():
    decoded = torch.tensor([-2.0, -1.0, 0.0, 0.9999, 2.0]).view(1, 1, 1, 5).expand(1, 3, 1, 5)
    assert autoencoder.to_uint8(decoded)[0, 0, :, 0].tolist() == [0, 0, 127, 254, 255]
    assert autoencoder.to_uint8(decoded, "nearest")[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]
