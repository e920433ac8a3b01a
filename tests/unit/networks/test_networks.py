"""The U-Net, its norms and its parametrisation: counts, definitions restated in NumPy, gradients, boundary, loading."""

import copy
import typing

import numpy as np
import pytest
import torch

from lct.networks import unet as precondition
from lct.networks.settings import Network, Norm, Scaling, layout, parameters
from lct.networks.unet import NORMS, UNet, _drop, consistency, load_weights, positional_embedding
from lct.schedules import NoiseGrid

MINI = {"channels": 32, "channel_mult": (1, 2), "blocks": 1, "attention_resolutions": (4,)}
NORM_NAMES = typing.get_args(Norm)
TABLE = [  # block norm, output norm, blocks, all parameters, trainable ones
    ("group", "group", 4, 151_325_956, 151_325_956),
    ("batch", "batch", 4, 151_325_956, 151_325_956),
    ("instance-affine", "instance-affine", 4, 151_325_956, 151_325_956),
    ("group", "layer", 4, 151_587_844, 151_587_844),
    ("group", "non-scaling-layer", 4, 151_587_844, 151_456_772),
    ("layer", "layer", 4, 165_468_676, 165_468_676),
    ("non-scaling-layer", "non-scaling-layer", 4, 165_468_676, 158_355_972),
    ("rms", "rms", 4, 158_355_972, 158_355_972),
    ("non-scaling-group", "non-scaling-group", 4, 151_325_956, 151_284_612),
    ("non-scaling-instance", "non-scaling-instance", 4, 151_325_956, 151_284_612),
    ("group", "group", 2, 96_408_324, 96_408_324),
]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def mini(norm="group", seed=0, latent_channels=4, resolution=4, **settings):
    network = Network(**(MINI | {"block_norm": norm, "output_norm": norm} | settings))
    return UNet(network, latent_channels, resolution, seeded(seed))


def busy(network, seed=1):
    """Leave the initial zeros behind, so that every path of the network matters."""
    generator = seeded(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network


def inputs(batch=3, seed=2, dtype=torch.float32, shape=(4, 4, 4)):
    generator = seeded(seed)
    x = torch.randn(batch, *shape, generator=generator, dtype=torch.float64).to(dtype)
    return x, torch.linspace(-1500, 1000, batch, dtype=dtype)


def count(network):
    all_of_them = list(network.parameters())
    return sum(p.numel() for p in all_of_them), sum(p.numel() for p in all_of_them if p.requires_grad)


# Size


@pytest.mark.parametrize(("block_norm", "output_norm", "blocks", "total", "trainable"), TABLE)
def test_parameter_counts_of_the_paper_scale_networks(block_norm, output_norm, blocks, total, trainable):
    settings = Network(block_norm=block_norm, output_norm=output_norm, blocks=blocks)
    assert count(UNet(settings, 4, 32)) == (total, trainable)
    assert parameters(settings, 4, 32) == (total, trainable)


@pytest.mark.parametrize("norm", NORM_NAMES)
@pytest.mark.parametrize(
    ("changes", "latent_channels", "resolution"),
    [({}, 4, 4), ({"channel_mult": (1, 1, 2), "blocks": 2, "attention_in_middle": "both"}, 3, 8),
     ({"channel_mult": (2,), "embedding_mult": 2, "attention_in_middle": "none"}, 16, 5)],
)  # fmt: skip
def test_counts_from_the_layout_equal_the_network(norm, changes, latent_channels, resolution):
    settings = Network(**(MINI | changes | {"block_norm": norm}))
    assert parameters(settings, latent_channels, resolution) == count(UNet(settings, latent_channels, resolution))


def test_the_final_network_has_108_norms_and_attends_at_16_8_and_in_the_first_middle_block():
    network = UNet(Network(block_norm="non-scaling-layer", output_norm="non-scaling-layer"), 4, 32)
    assert sum(isinstance(m, torch.nn.LayerNorm) for m in network.modules()) == 108
    plan = layout(Network(), 32)
    attending = [b for b in (*plan.encoder, *plan.decoder) if b.heads]
    assert {b.side_out for b in attending} == {16, 8, 4} and len(attending) == 2 * (4 + 5) + 1
    assert [b.name for b in attending if b.side_out == 4] == ["middle0"]
    assert all(b.heads * 64 == b.channels_out for b in attending)
    widths = {b.side_out: b.channels_out for b in plan.encoder if b.resample == "none"}
    assert widths == {32: 128, 16: 256, 8: 384, 4: 512}


def test_one_head_where_a_block_is_narrower_than_a_head():
    assert {b.heads for b in layout(Network(**MINI), 4).encoder if b.side_out == 4} == {1}


# Initial weights


def test_initial_weights_come_from_the_generator_alone():
    before = torch.random.get_rng_state()
    first, second, other = mini(seed=0), mini(seed=0), mini(seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    first, second, other = (network.state_dict() for network in (first, second, other))
    for name, a in first.items():
        b, c = second[name], other[name]
        assert torch.equal(a, b), name
        drawn = not (a == a.flatten()[0]).all()
        assert drawn == (not torch.equal(a, c)), name


def test_initial_weights_are_uniform_in_one_over_the_root_of_fan_in():
    network = mini(channels=64)
    for name, module in network.named_modules():
        if not isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            continue
        if name.rpartition(".")[2] in ("conv1", "attention_out", "output_conv"):
            assert (module.weight == 0).all() and (module.bias == 0).all(), name
            continue
        bound = module.weight[0].numel() ** -0.5
        assert module.weight.abs().max() <= bound and module.bias.abs().max() <= bound, name
        # a uniform on +-b has standard deviation b / sqrt(3); 6 standard errors of the estimate
        assert abs(module.weight.std() * 3**0.5 / bound - 1) < 6 * (0.2 / module.weight.numel()) ** 0.5, name


def test_untrained_network_answers_zero_so_that_f_starts_as_the_skip():
    network = mini("non-scaling-layer")
    x, label = inputs()
    assert (network(x, label) == 0).all()
    sigma = torch.tensor([0.002, 1.0, 80.0])
    expected = precondition.c_skip(sigma, Scaling(sigma_min=0.002))[:, None, None, None] * x
    torch.testing.assert_close(consistency(network, x, sigma, Scaling(sigma_min=0.002)), expected)


# Pieces restated


def test_positional_embedding_restated():
    label = np.array([-1553.7, 0.0, 1.0, 1095.5])
    frequencies = 10000.0 ** (-np.arange(64) / 64)
    expected = np.concatenate([np.cos(np.outer(label, frequencies)), np.sin(np.outer(label, frequencies))], 1)
    np.testing.assert_allclose(positional_embedding(torch.from_numpy(label), 128), expected, atol=1e-11)
    single = positional_embedding(torch.from_numpy(label).float(), 128)
    np.testing.assert_allclose(single, expected, atol=5e-4)  # float32 labels of size 1500 carry errors of 1e-4


def normalised(x, kind, groups):
    """(x - mean) / sqrt(variance + eps) over the sets that each norm shares, in NumPy."""
    batch, channels, height, width = x.shape
    if kind == "rms":
        return x / np.sqrt((x**2).mean((1, 2, 3), keepdims=True) + np.finfo(x.dtype).eps)
    axes = {"batch": (0, 2, 3), "layer": (1, 2, 3), "instance": (2, 3)}.get(kind)
    if axes is None:
        return normalised(x.reshape(batch * groups, -1, height, width), "layer", 1).reshape(x.shape)
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)


@pytest.mark.parametrize("name", NORM_NAMES)
def test_norms_restated(name):
    channels, side = 40, 3
    norm = NORMS[name](channels, side, None).double()
    x = torch.randn(5, channels, side, side, generator=seeded(), dtype=torch.float64) * 3 + 1
    kind = name.removeprefix("non-scaling-").removesuffix("-affine")
    expected = normalised(x.numpy(), kind, groups=10)  # 32 groups would leave fewer than 4 channels in each
    np.testing.assert_allclose(norm(x).detach(), expected, rtol=1e-9, atol=1e-9)
    shape = {"layer": (channels, side, side), "rms": (channels, side, side)}.get(kind, (channels,))
    held = {parameter: (tuple(value.shape), value.requires_grad) for parameter, value in norm.named_parameters()}
    expected_held = {} if name == "instance" else {"weight": (shape, not name.startswith("non-scaling"))}
    if name not in ("instance", "rms"):
        expected_held["bias"] = (shape, True)
    assert held == expected_held


@pytest.mark.parametrize("kind", ["layer", "group", "instance"])
def test_non_scaling_norm_is_the_norm_with_weight_one(kind):
    scaling = NORMS["instance-affine" if kind == "instance" else kind](8, 4, None)
    plain = NORMS[f"non-scaling-{kind}"](8, 4, None)
    bias = torch.randn(scaling.bias.shape, generator=seeded())
    with torch.no_grad():
        for norm in (scaling, plain):
            norm.bias.copy_(bias)
    x, y = (torch.randn(3, 8, 4, 4, generator=seeded(7)).requires_grad_() for _ in range(2))
    torch.testing.assert_close(plain(x), scaling(y), rtol=0, atol=0)
    (plain(x).square().sum() + scaling(y).square().sum()).backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=0, atol=0)
    torch.testing.assert_close(plain.bias.grad, scaling.bias.grad, rtol=0, atol=0)
    assert plain.weight.grad is None and scaling.weight.grad is not None


def test_group_count():
    assert [NORMS["group"](c, 4, None).num_groups for c in (32, 96, 128, 256)] == [8, 24, 32, 32]
    assert NORMS["group"](128, 4, 16).num_groups == 16


def attention(tokens, weight_in, bias_in, weight_out, bias_out, heads):
    """Multi-head self-attention of (tokens, channels), one head after the other, in NumPy."""
    q, k, v = np.split(tokens @ weight_in.T + bias_in, 3, axis=1)
    size = q.shape[1] // heads
    answers = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        score = q[:, part] @ k[:, part].T / np.sqrt(size)
        score = np.exp(score - score.max(1, keepdims=True))
        answers.append(score / score.sum(1, keepdims=True) @ v[:, part])
    return np.concatenate(answers, 1) @ weight_out.T + bias_out


def test_attention_restated():
    block = busy(mini(head_channels=16)).double().encoder["side4_block0"]
    assert block.heads == 2
    x, _ = inputs(dtype=torch.float64, shape=(32, 4, 4))
    values = [v.detach().numpy() for m in (block.attention_in, block.attention_out) for v in (m.weight, m.bias)]
    expected = [attention(s.reshape(32, 16).T, *values, heads=2).T.reshape(32, 4, 4) for s in x.numpy()]
    np.testing.assert_allclose(block._attend(x).detach(), np.stack(expected), rtol=1e-9, atol=1e-12)


def convolution(x, weight, bias):
    """3x3 or 1x1 convolution of (C, H, W) with zero padding, as a sum over shifts, in NumPy."""
    reach = weight.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach)))
    height, width = x.shape[1:]
    shifts = [(a, b) for a in range(weight.shape[2]) for b in range(weight.shape[3])]
    views = {(a, b): padded[:, a : a + height, b : b + width] for a, b in shifts}
    return sum(np.einsum("oc,chw->ohw", weight[:, :, a, b], views[a, b]) for a, b in shifts) + bias[:, None, None]


@pytest.mark.parametrize("name", ["encoder.side2_down", "decoder.side4_up", "decoder.side2_block0"])
def test_residual_block_restated(name):
    network = busy(mini("layer")).double()
    block = network.get_submodule(name)
    p = {key: value.detach().numpy() for key, value in block.named_parameters()}
    side = block.norm0.normalized_shape[-1]
    x, _ = inputs(2, dtype=torch.float64, shape=(block.conv0.in_channels, side, side))
    embedding = torch.randn(2, 128, generator=seeded(3), dtype=torch.float64)

    def resample(v):
        if block.resample == "down":
            return (v[:, ::2, ::2] + v[:, 1::2, ::2] + v[:, ::2, 1::2] + v[:, 1::2, 1::2]) / 4
        return v.repeat(2, 1).repeat(2, 2) if block.resample == "up" else v

    def norm(v, key):
        return normalised(v[None], "layer", 1)[0] * p[f"{key}.weight"] + p[f"{key}.bias"]

    def silu(v):
        return v / (1 + np.exp(-v))

    for sample, noise in zip(x.numpy(), embedding.numpy(), strict=True):
        h = convolution(resample(silu(norm(sample, "norm0"))), p["conv0.weight"], p["conv0.bias"])
        scale, shift = np.split(p["affine.weight"] @ noise + p["affine.bias"], 2)
        h = silu(norm(h, "norm1") * (1 + scale[:, None, None]) + shift[:, None, None])
        skip = resample(sample)
        if block.skip is not None:
            skip = convolution(skip, p["skip.weight"], p["skip.bias"])
        expected = convolution(h, p["conv1.weight"], p["conv1.bias"]) + skip
        actual = block(torch.from_numpy(sample)[None], torch.from_numpy(noise)[None], None)[0].detach()
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9)


def test_scalings_restated():
    sigma = np.geomspace(0.002, 80, 50)
    tensor, s = torch.from_numpy(sigma), Scaling(sigma_min=0.002)
    c_out = (sigma - 0.002) * 0.5 / np.sqrt(sigma**2 + 0.25)
    np.testing.assert_allclose(precondition.c_skip(tensor, s), 0.25 / ((sigma - 0.002) ** 2 + 0.25), rtol=1e-12)
    np.testing.assert_allclose(precondition.c_out(tensor, s), c_out, rtol=1e-12)
    np.testing.assert_allclose(precondition.c_in(tensor, s), 1 / np.sqrt(sigma**2 + 0.25), rtol=1e-12)
    np.testing.assert_allclose(precondition.noise_label(tensor, s), 1000 * 0.25 * np.log(sigma + 1e-44), rtol=1e-12)


# Behaviour


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("points", [11, 641, 1281])
def test_boundary_condition(dtype, points):
    network = busy(mini("non-scaling-layer")).to(dtype)
    x, _ = inputs(dtype=dtype)
    sigma = torch.from_numpy(NoiseGrid().sigmas(points)).to(dtype)
    assert torch.equal(consistency(network, x, sigma[-1].expand(3), Scaling(sigma_min=0.002)), x)
    assert not torch.equal(consistency(network, x, sigma[-2].expand(3), Scaling(sigma_min=0.002)), x)


@pytest.mark.parametrize("norm", NORM_NAMES)
def test_gradients_reach_everything_but_frozen_scales(norm):
    network = busy(mini(norm))
    x, label = inputs(batch=6)
    network(x, label).square().sum().backward()
    for name, parameter in network.named_parameters():
        frozen = norm.startswith("non-scaling") and name.endswith("weight") and "norm" in name
        assert parameter.requires_grad == (not frozen), name
        if frozen:
            assert parameter.grad is None and (parameter == 1).all(), name
        else:
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().sum() > 0, name


def test_output_norm_is_chosen_apart_from_the_blocks():
    network = mini("group", output_norm="non-scaling-layer")
    assert isinstance(network.output_norm, torch.nn.LayerNorm) and not network.output_norm.weight.requires_grad
    assert isinstance(network.encoder["side4_block0"].norm2, torch.nn.GroupNorm)


def test_samples_do_not_see_each_other():
    network = busy(mini("non-scaling-layer")).double()
    x, label = inputs(dtype=torch.float64)
    alone = torch.cat([network(x[j : j + 1], label[j : j + 1]) for j in range(3)])
    torch.testing.assert_close(network(x, label), alone)


def test_the_noise_level_and_every_pixel_matter():
    network = busy(mini("non-scaling-layer")).double()
    x, label = inputs(1, dtype=torch.float64)
    assert (network(x, label) - network(x, label + 50)).abs().min() > 0
    grown = torch.autograd.functional.jacobian(lambda v: network(v, label).flatten(), x)
    assert (grown.abs().sum((0, 1)) > 0).all()


def test_dropout_is_shared_by_equal_generators_and_absent_in_evaluation():
    network = busy(mini(dropout=0.5))
    x, label = inputs()
    before = torch.random.get_rng_state()
    once, again, other = (network(x, label, seeded(s)) for s in (0, 0, 1))
    assert torch.equal(once, again) and not torch.equal(once, other)
    assert torch.equal(torch.random.get_rng_state(), before)
    with pytest.raises(ValueError, match="generator for dropout"):
        network(x, label)
    network.eval()
    assert torch.equal(network(x, label), network(x, label, seeded(0)))


def test_dropout_keeps_the_mean():
    dropped = _drop(torch.ones(200_000), 0.2, seeded())
    assert dropped.mean().item() == pytest.approx(1, abs=0.005)
    assert set(dropped.unique().tolist()) == {0.0, 1.25}


def test_answer_keeps_the_dtype_of_the_latents_under_autocast():
    network = busy(mini("non-scaling-layer"))
    x, _ = inputs()
    sigma = torch.tensor([0.002, 0.5, 80.0])
    plain = consistency(network, x, sigma, Scaling(sigma_min=0.002))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = consistency(network, x, sigma, Scaling(sigma_min=0.002))
    assert mixed.dtype == torch.float32 and torch.equal(mixed[0], x[0])
    torch.testing.assert_close(mixed, plain, rtol=0.1, atol=0.1)


def test_same_bytes_with_deterministic_algorithms():
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        first, second = gradients(), gradients()
    finally:
        torch.use_deterministic_algorithms(before)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def gradients():
    network = busy(mini("non-scaling-layer"))
    x, label = inputs()
    network(x, label).square().sum().backward()
    return [p.grad for p in network.parameters() if p.requires_grad]


# Weights


@pytest.mark.parametrize("norm", ["group", "batch", "non-scaling-layer"])
def test_weights_survive_the_way_through_named_tensors(norm):
    network = busy(mini(norm)).eval()
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    settings = Network(**(MINI | {"block_norm": norm, "output_norm": norm}))
    loaded = load_weights(UNet(settings, 4, 4), state, "weights.safetensors").eval()
    x, label = inputs()
    assert torch.equal(loaded(x, label), network(x, label))
    assert count(loaded) == count(network)
    assert torch.equal(copy.deepcopy(loaded)(x, label), network(x, label))


def without(state, name):
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda s: without(s, "embed0.bias"), "1 missing .first: embed0.bias. and 0 unknown"),
        (lambda s: s | {"surplus": torch.zeros(1)}, "0 missing and 1 unknown .first: surplus"),
        (lambda s: s | {"embed0.bias": torch.zeros(3)}, "embed0.bias: expected shape .128,., found .3,."),
        (lambda s: s | {"embed0.bias": torch.full((128,), torch.nan)}, "finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_one_line(damage, says):
    state = damage(dict(mini().state_dict()))
    with pytest.raises(ValueError, match=f"^some/file: .*{says}") as error:
        load_weights(UNet(Network(**MINI), 4, 4), state, "some/file")
    assert "\n" not in str(error.value)


# Bad input


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Network(channels=0), "positive channels"),
        (lambda: Network(channel_mult=()), "channel_mult"),
        (lambda: Network(blocks=0), "blocks"),
        (lambda: Network(channels=33), "even number"),
        (lambda: Network(dropout=1.0), "dropout"),
        (lambda: Network(groups=16, block_norm="non-scaling-layer", output_norm="non-scaling-layer"), "groups"),
        (lambda: Network(groups=0), "groups"),
        (lambda: Scaling(sigma_data=0.0), "sigma_data"),
        (lambda: UNet(Network(), 4, 12), "divisible by 8"),
        (lambda: parameters(Network(), 4, 0), "divisible by 8"),
        (lambda: UNet(Network(**(MINI | {"channels": 50})), 4, 4), "groups of a group norm"),
        (lambda: UNet(Network(**(MINI | {"channels": 50, "head_channels": 15})), 4, 4), "head_channels"),
    ],
)
def test_bad_input_is_refused_in_one_line(make, says):
    with pytest.raises(ValueError, match=says) as error:
        make()
    assert "\n" not in str(error.value) and "expected" in str(error.value)
