"""Published extractors: parity with the libraries whose networks they are, and what is refused before it is loaded.

Weights are random, in files of the published ones' formats and sizes."""

import contextlib
import dataclasses
import os
import pickle

import cleanfid.inception_pytorch
import numpy as np
import pytest
import torch
import torch_fidelity
import torchvision
from contest.fidelity import register
from torch.nn import functional as F
from torch_fidelity import feature_extractor_inceptionv3 as inceptionv3
from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16

from lct.data.imageset import ImageSet, write_imageset
from lct.files.hashing import sha256_file
from lct.metrics import distances, features, pretrained
from lct.metrics.settings import FeatureSpec, PretrainedExtractor
from tests.helpers.features import extract_all
from tests.helpers.networks import Script


def settings(architecture, resize, size, **more):
    return PretrainedExtractor(
        id=f"test-{architecture}-{resize}",
        architecture=architecture,
        weights="test",
        file="x",
        features=size,
        resize=resize,
        **more,
    )


INCEPTION = settings("inception", "torch-fidelity", 2048)
PYTORCH_FID = settings("inception", "pytorch-fid", 2048)
VGG16 = settings("vgg16", "torch-fidelity", 4096)
SCRIPT = settings("torchscript", "own", 12)


class Fresh(inceptionv3.FeatureExtractorInceptionV3):
    """torch-fidelity's network before it is given weights."""

    def load_state_dict(self, state):
        return None


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Weight files: state dicts of Inception-v3 and VGG16, and a small TorchScript network."""
    folder, draws = tmp_path_factory.mktemp("weights"), torch.Generator().manual_seed(0)
    with torch.random.fork_rng(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(inceptionv3, "load_state_dict_from_url", lambda *a, **k: {})
        torch.manual_seed(0)
        inception = Fresh("fresh", ["2048"]).state_dict()
        scripted = torch.jit.script(Script().eval())
    for name, value in inception.items():
        if value.dim() == 4:  # keeps activations of one size through all layers
            value.normal_(std=(2 / value[0].numel()) ** 0.5, generator=draws)
        elif name.endswith(("bias", "running_mean")):
            value.normal_(std=0.1, generator=draws)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in torchvision.models.vgg16().state_dict().items()}
    vgg = {}
    for name, shape in shapes.items():
        rows = torch.randn(min(512, shape[0]), *shape[1:], generator=draws)  # repeated: drawing 138 M takes seconds
        scale = (2 / rows[0].numel()) ** 0.5 if len(shape) > 1 else 0.1
        vgg[name] = scale * rows.repeat(-(-shape[0] // len(rows)), *(1 for _ in shape[1:]))[: shape[0]]
    torch.save(inception, folder / "inception.pth")
    torch.save(vgg, folder / "vgg16.pth")
    scripted.save(str(folder / "script.pt"))
    return {"inception": folder / "inception.pth", "vgg16": folder / "vgg16.pth", "script": folder / "script.pt"}


@pytest.fixture(scope="session")
def images():
    draws = torch.Generator().manual_seed(1)
    coarse = torch.rand(3, 3, 9, 9, generator=draws)
    return (F.interpolate(coarse, size=(48, 48), mode="bicubic").clamp(0, 1) * 255).to(torch.uint8)


def load(chosen, path):
    return features.load_network(chosen, path, sha256_file(path))


@torch.no_grad()
def test_inception_is_torch_fidelitys(files, images):
    theirs = inceptionv3.FeatureExtractorInceptionV3(
        "x", ["2048", "logits"], feature_extractor_weights_path=files["inception"]
    )
    state = torch.get_rng_state()
    ours = load(INCEPTION, files["inception"])
    assert torch.equal(state, torch.get_rng_state())
    found, logits = ours(images)
    expected = theirs(images)
    assert torch.equal(found, expected[0]) and torch.equal(logits, expected[1])
    assert found.shape == (3, 2048) and logits.shape == (3, 1008) and found.std() > 0.01
    assert not any(p.requires_grad for p in ours.parameters()) and not ours.training


@torch.no_grad()
def test_inception_with_the_other_resize_is_pytorch_fids(files, images, monkeypatch):
    """clean-fid ships pytorch-fid's network without its resize, which is torch's bilinear one of values in [0, 1]."""
    state = torch.load(files["inception"], weights_only=True)
    monkeypatch.setattr(cleanfid.inception_pytorch, "load_state_dict_from_url", lambda *a, **k: state)
    theirs = cleanfid.inception_pytorch.InceptionV3(output_blocks=[3], resize_input=False).eval()
    resized = F.interpolate(images.float() / 255, size=(299, 299), mode="bilinear", align_corners=False)
    expected = theirs(resized)[0].flatten(1)
    found, _ = load(PYTORCH_FID, files["inception"])(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_two_resizes_differ_by_a_shift_that_tensorflow_made(files, images):
    ours, theirs = (load(one, files["inception"])(images)[0] for one in (INCEPTION, PYTORCH_FID))
    assert 1e-3 < ((ours - theirs).norm() / ours.norm()).item() < 0.5
    ramp = torch.arange(48).float().expand(1, 3, 48, 48)
    old, new = pretrained.resize_torch_fidelity(ramp), pretrained.resize_pytorch_fid(ramp)
    back = (old * 128 + 128, (new + 1) * 127.5)  # grey levels again
    places = torch.arange(299) * 48 / 299
    torch.testing.assert_close(back[0][0, 0, 0], places.clamp(max=47), rtol=0, atol=1e-3)
    half = places + 0.5 * 48 / 299 - 0.5  # torch aligns centres of pixels, TensorFlow 1 their upper left corners
    torch.testing.assert_close(back[1][0, 0, 0], half.clamp(0, 47), rtol=0, atol=1e-3)
    full = torch.full((1, 3, 8, 8), 255, dtype=torch.uint8)
    assert pretrained.resize_torch_fidelity(full).max() == 127 / 128
    assert pretrained.resize_pytorch_fid(full).max().item() == pytest.approx(1, abs=1e-6)


@torch.no_grad()
def test_vgg16_is_torch_fidelitys(files, images):
    theirs = FeatureExtractorVGG16("x", ["fc2_relu"], feature_extractor_weights_path=files["vgg16"])
    found, logits = load(VGG16, files["vgg16"])(images)
    assert torch.equal(found, theirs(images)[0]) and logits is None
    assert found.shape == (3, 4096) and found.std() > 0.01
    assert FeatureExtractorVGG16.get_default_feature_layer_for_metric("prc") == VGG16.layer


@torch.no_grad()
def test_torchscript_gives_its_features_in_the_precision_asked_for(files, images):
    script = torch.jit.load(files["script"])
    expected = script(images, return_features=True)
    found, logits = load(SCRIPT, files["script"])(images)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert logits is None and found.dtype == torch.float32
    half, _ = load(dataclasses.replace(SCRIPT, dtype="float16"), files["script"])(images)
    assert torch.equal(half, found.half())


class Images(torch.utils.data.Dataset):
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_registered_network_gives_torch_fidelity_our_numbers(files, tmp_path, dtype):
    draws, sets = np.random.default_rng(0), []
    view = FeatureSpec(extractor=SCRIPT.id, jpeg_quality=None)
    for i, count in enumerate((60, 40)):
        pixels = draws.normal(110 + 20 * i, 50 + 10 * i, (count, 24, 24, 3)).clip(0, 255).astype(np.uint8)
        write_imageset(tmp_path / f"{i}.zip", pixels)
        sets.append(ImageSet(tmp_path / f"{i}.zip"))
    theirs = torch_fidelity.calculate_metrics(
        input1=Images(torch.from_numpy(sets[1].array()).permute(0, 3, 1, 2)),
        input2=Images(torch.from_numpy(sets[0].array()).permute(0, 3, 1, 2)),
        feature_extractor=register(load(SCRIPT, files["script"]), dtype),
        fid=True,
        prc=True,
        batch_size=20,
        cuda=False,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
    )
    model = {view: load(SCRIPT, files["script"])}
    real, generated = (extract_all(model, one, batch=20)[view] for one in sets)
    assert real.confidence is None
    real, generated = real.features, generated.features
    stats = [distances.statistics(one) for one in (generated, real)]
    found, size = distances.frechet(*stats), sum(one.sigma.trace() for one in stats)
    assert abs(found - theirs["frechet_inception_distance"]) < size * (1e-9 if dtype == torch.float64 else 1e-5)
    prc = distances.precision_recall(generated=generated.to(dtype), real=real.to(dtype))
    assert (prc.precision, prc.recall) == (theirs["precision"], theirs["recall"])


# ---- what is refused -------------------------------------------------------------------------------------------


class Malice:
    """A pickle that leaves a file where it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("chosen", [INCEPTION, VGG16])
def test_a_pickle_with_more_than_tensors_is_refused_and_not_run(tmp_path, chosen):
    mark = tmp_path / "it-ran"
    torch.save({"fc.weight": torch.zeros(2), "more": Malice(mark)}, tmp_path / "x.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Malice(mark)))
    for name in ("x.pth", "plain.pth"):
        with pytest.raises(ValueError, match="expected a state dict of tensors and nothing else") as error:
            load(chosen, tmp_path / name)
        assert "\n" not in str(error.value) and not mark.exists()
    with contextlib.suppress(Exception):  # what torch-fidelity's own loading would have done
        inceptionv3.FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=tmp_path / "x.pth")
    assert mark.exists()


@pytest.mark.parametrize("name", ["inception", "vgg16", "script"])
def test_another_hash_is_refused_before_anything_is_loaded(files, monkeypatch, name):
    chosen = {"inception": INCEPTION, "vgg16": VGG16, "script": SCRIPT}[name]
    for module, function in ((torch, "load"), (torch.jit, "load")):
        monkeypatch.setattr(module, function, lambda *a, **k: pytest.fail("it was loaded"))
    with pytest.raises(ValueError, match="expected sha256 0000.*found .*nothing of them was loaded"):
        features.load_network(chosen, files[name], "0" * 64)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>404</html>", "expected a state dict of tensors and nothing else"),
        (b"", "expected a state dict of tensors and nothing else"),
    ],
)
def test_files_that_are_no_weights_end_in_one_line(tmp_path, content, message):
    (tmp_path / "x.pth").write_bytes(content)
    for chosen in (INCEPTION, VGG16):
        with pytest.raises(ValueError, match=message) as error:
            load(chosen, tmp_path / "x.pth")
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="expected a TorchScript file") as error:
        load(SCRIPT, tmp_path / "x.pth")
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="expected weights of extractor .*, found nothing"):
        features.load_network(SCRIPT, tmp_path / "nothing.pt", "0" * 64)


def test_tensors_of_another_network_are_refused_in_one_line(files, tmp_path):
    state = torch.load(files["inception"], weights_only=True)
    del state["fc.bias"]
    torch.save(state, tmp_path / "less.pth")
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    for chosen, path in ((INCEPTION, tmp_path / "less.pth"), (VGG16, files["inception"])):
        with pytest.raises(ValueError, match="expected the tensors of the network, found") as error:
            load(chosen, path)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="expected a state dict of tensors, found a list"):
        load(INCEPTION, tmp_path / "list.pth")


def test_a_network_of_another_width_than_declared_is_refused(files, images):
    with pytest.raises(ValueError, match="expected 13 features, found 12"), torch.no_grad():
        load(dataclasses.replace(SCRIPT, features=13), files["script"])(images)
