"""Metrics: parity with torch-fidelity end to end and with NumPy, semantic cases, the trained extractor, protocols."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch
import torch_fidelity
from contest.fidelity import register
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy import linalg, ndimage
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from lct.data.imageset import ImageSet, write_imageset
from lct.files.checkpoint import Checkpoint
from lct.files.hashing import sha256_file
from lct.metrics import distances, evaluation, extractor, features
from lct.metrics.distances import statistics
from lct.metrics.evaluation import ExtractorIdentity, ReferenceImages
from lct.metrics.settings import DEGRADATIONS, FeatureSpec, PretrainedExtractor, Protocol, TrainedExtractor
from tests.helpers.features import extract_all

TINY = TrainedExtractor(id="cnn8", channels=(4, 6), features=8, steps=12, batch=16)
PLAIN = FeatureSpec(extractor="cnn8", jpeg_quality=None)


def stripes(count, seed):
    """Noisy stripes across or along, and which: two classes a small network learns in a few steps."""
    draws = np.random.default_rng(seed)
    labels = draws.integers(0, 2, count)
    waves = 127 + 100 * np.sin(np.arange(16) * draws.uniform(1, 2, (count, 1)))
    images = np.where(labels[:, None, None], waves[:, None, :], waves[:, :, None])
    images = images + draws.normal(0, 12, (count, 16, 16))
    return np.repeat(images.clip(0, 255).astype(np.uint8)[..., None], 3, 3), labels.tolist()


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("sets"), {}
    for name, count, seed in (("real", 96, 0), ("generated", 64, 1)):
        images, labels = stripes(count, seed)
        write_imageset(folder / f"{name}.zip", images)
        made[name] = ImageSet(folder / f"{name}.zip"), labels
    return made


@pytest.fixture(scope="module")
def trained(sets, tmp_path_factory):
    model = extractor.create(TINY, classes=2)
    history = list(extractor.train(model, TINY, *sets["real"]))
    path = tmp_path_factory.mktemp("extractor") / "cnn8.safetensors"
    save_file(model.state_dict(), path)
    return model, history, path


def loaded(path, settings=TINY):
    return {PLAIN: features.load_network(settings, path, sha256_file(path))}


def frechet(first, second, of=distances.frechet):
    return of(statistics(first), statistics(second))


def cloud(count, dimension=6, seed=0, shift=0.0, scale=1.0):
    draws = torch.Generator().manual_seed(seed)
    return shift + scale * torch.randn(count, dimension, generator=draws, dtype=torch.float64)


# ---- distances -------------------------------------------------------------------------------------------------


def frechet_by_hand(a, b):
    """Frechet distance by symmetric square roots: tr (S1 S2)^(1/2) = tr (S1^(1/2) S2 S1^(1/2))^(1/2)."""
    a, b = a.numpy(), b.numpy()
    means = a.mean(0), b.mean(0)
    covariances = [(x - m).T @ (x - m) / (len(x) - 1) for x, m in zip((a, b), means, strict=True)]
    values, vectors = linalg.eigh(covariances[0])
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    cross = np.sqrt(linalg.eigvalsh(root @ covariances[1] @ root).clip(0)).sum()
    return ((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * cross


def precision_recall_by_hand(generated, real, k):
    generated, real = generated.numpy(), real.numpy()

    def covered(points, centres):
        own = np.linalg.norm(centres[:, None] - centres[None], axis=2)
        radius = np.sort(own, axis=1)[:, k]  # column 0 is the point itself
        return (np.linalg.norm(points[:, None] - centres[None], axis=2) <= radius).any(1).mean()

    return covered(generated, real), covered(real, generated)


@pytest.mark.parametrize("seed", range(3))
def test_frechet_matches_numpy_and_cleanfid(seed):
    mixing = cloud(6, seed=50 + seed)
    a, b = cloud(300, seed=seed) @ mixing, cloud(200, seed=seed + 10, shift=0.3, scale=1.4) @ mixing
    expected = frechet_by_hand(a, b)
    assert frechet(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet(b, a) == pytest.approx(expected, rel=1e-9)
    assert frechet(a, b, distances.frechet_cleanfid) == pytest.approx(expected, rel=1e-7)


def spread_out(count, seed, turn, condition=1e-2, rank=None, dimension=48):
    """Features whose covariance has eigenvalues from 1 down to `condition`, none beyond `rank`, in turned axes."""
    axes, _ = np.linalg.qr(np.random.default_rng(turn).normal(size=(dimension, dimension)))
    scales = np.logspace(0, np.log10(condition) / 2, dimension) * (np.arange(dimension) < (rank or dimension))
    drawn = np.random.default_rng(seed).normal(size=(count, dimension))
    return torch.from_numpy(drawn * scales @ axes)


def exactly(a, b):
    """Frechet distance with its trace from the centred features themselves: no covariance, so no root of one. Also the
    size of what it is a difference of, tr(S1 + S2)."""
    (x, n), (y, m) = ((one.numpy() - one.numpy().mean(0), len(one) - 1) for one in (a, b))
    overlap = linalg.svdvals(x @ y.T).sum() / np.sqrt(n * m)
    total = (x**2).sum() / n + (y**2).sum() / m
    shift = a.numpy().mean(0) - b.numpy().mean(0)
    return shift @ shift + total - 2 * overlap, total


SINGULAR = {  # name -> the two sets
    "fewer images than features": (spread_out(12, 1, 0), spread_out(12, 2, 1)),
    "one side of full rank": (spread_out(12, 1, 0), spread_out(400, 2, 1)),
    "the same hyperplane": (spread_out(400, 1, 0, rank=9), spread_out(300, 2, 0, rank=9)),
    "two hyperplanes": (spread_out(400, 1, 0, rank=9), spread_out(300, 2, 1, rank=9)),
    "hardly any spread": (spread_out(400, 1, 0, condition=1e-9, rank=9), spread_out(12, 2, 1, condition=1e-9)),
}


@pytest.mark.parametrize("condition", [1.0, 1e-3, 1e-7])
def test_frechet_is_torch_fidelitys_where_covariances_have_full_rank(condition):
    a, b = spread_out(600, 1, 0, condition) + 0.1, spread_out(500, 2, 1, condition)
    stats = [fid_features_to_statistics(one) for one in (a, b)]
    theirs = fid_statistics_to_metric(*stats, verbose=False)["frechet_inception_distance"]
    size = sum(np.trace(one["sigma"]) for one in stats)
    assert abs(frechet(a, b) - theirs) < 1e-9 * size
    assert abs(frechet(a, b) - exactly(a, b)[0]) < 1e-13 * size and theirs > 1e-3 * size


@pytest.mark.parametrize("name", SINGULAR)
def test_frechet_is_exact_where_covariances_are_singular(name):
    """torch-fidelity's takes roots of eigenvalues that are zero up to rounding, and is some 1e-8 off there."""
    a, b = SINGULAR[name]
    expected, size = exactly(a, b)
    assert abs(frechet(a, b) - expected) < 1e-13 * size
    stats = [fid_features_to_statistics(one) for one in (a, b)]
    theirs = fid_statistics_to_metric(*stats, verbose=False)["frechet_inception_distance"]
    assert abs(frechet(a, b) - theirs) < 1e-7 * size


@pytest.mark.parametrize("condition", [1.0, 1e-3, 1e-6])
def test_the_trace_by_cholesky_factors_is_the_exact_trace(condition):
    a, b = (statistics(spread_out(count, seed, seed - 1, condition)) for count, seed in ((600, 1), (500, 2)))
    size = np.trace(a.sigma) + np.trace(b.sigma)
    assert abs(distances.overlap_by_cholesky(a.sigma, b.sigma) - distances.overlap(a, b)) < 1e-13 * size


@pytest.mark.parametrize("name", ["fewer images than features", "the same hyperplane", "nearly a hyperplane"])
def test_the_trace_by_cholesky_factors_is_refused_where_rounding_could_show(name):
    if name != "nearly a hyperplane":
        a, b = (statistics(features).sigma for features in SINGULAR[name])
    else:  # of full rank, so that the factors exist
        a, b = (statistics(spread_out(600, seed, seed, 1e-16)).sigma for seed in (1, 2))
        assert np.isfinite(linalg.cholesky(a)).all()
    assert distances.overlap_by_cholesky(a, b) is None


def test_wide_features_take_the_fast_route_narrow_ones_and_singular_ones_the_exact_one(monkeypatch):
    taken = []
    for route in ("overlap", "overlap_by_cholesky"):
        call = getattr(distances, route)
        monkeypatch.setattr(distances, route, lambda *pair, call=call, route=route: taken.append(route) or call(*pair))
    sizes = {}
    for dimension, count in ((64, 200), (1024, 2048), (1024, 40)):
        a, b = (statistics(cloud(count, dimension, seed, scale=1 + seed)) for seed in (0, 1))
        value, taken[:] = distances.frechet(a, b), []
        distances.frechet(a, b)
        sizes[dimension, count] = tuple(taken)
        exact = (a.mu - b.mu) @ (a.mu - b.mu) + np.trace(a.sigma) + np.trace(b.sigma) - 2 * distances.overlap(a, b)
        assert abs(value - exact) < 1e-9 * (np.trace(a.sigma) + np.trace(b.sigma))
    assert sizes == {
        (64, 200): ("overlap",),
        (1024, 2048): ("overlap_by_cholesky",),
        (1024, 40): ("overlap_by_cholesky", "overlap"),
    }


def test_a_root_is_taken_once_and_gives_its_covariance_back():
    stats = statistics(spread_out(300, 0, 0))
    assert stats.root is stats.root and stats.root.shape == (48, 48)
    np.testing.assert_allclose(stats.root @ stats.root.T, stats.sigma, rtol=0, atol=1e-14)
    assert statistics(spread_out(12, 0, 0)).root.shape == (48, 11)
    assert statistics(torch.ones(9, 5)).root.shape == (5, 0)


def test_frechet_of_shifted_features_is_the_squared_shift():
    a = cloud(500)
    assert frechet(a, a + 0.5) == pytest.approx(6 * 0.25, rel=1e-6)


def test_frechet_keeps_its_digits_far_from_the_origin():
    """What a float32 mean would lose."""
    a, b = cloud(2000), cloud(2000, seed=1)
    assert frechet(a + 1e4, b + 1e4) == pytest.approx(frechet(a, b), rel=1e-5)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_and_recall_match_numpy(k):
    generated, real = cloud(120, seed=1, scale=0.7), cloud(150, seed=2)
    found = distances.precision_recall(generated=generated, real=real, k=k)
    precision, recall = precision_recall_by_hand(generated, real, k)
    assert (found.precision, found.recall) == (pytest.approx(precision, abs=1e-6), pytest.approx(recall, abs=1e-6))
    assert precision != recall


def test_identical_sets_are_at_distance_zero_and_cover_each_other():
    a = cloud(400, 16)
    assert abs(frechet(a, a)) < 1e-9 and abs(frechet(a, a, distances.frechet_cleanfid)) < 1e-6
    assert distances.precision_recall(generated=a, real=a) == distances.PrecisionRecall(1.0, 1.0)


def test_the_order_of_images_does_not_matter():
    a, b = cloud(300, seed=0), cloud(200, seed=1, shift=0.2)
    shuffled = a[torch.randperm(300, generator=torch.Generator().manual_seed(0))]
    assert frechet(shuffled, b) == pytest.approx(frechet(a, b), rel=1e-9)
    assert distances.precision_recall(generated=shuffled, real=b) == distances.precision_recall(generated=a, real=b)


def test_a_collapsed_generator_is_precise_and_recalls_little():
    real = cloud(400)
    collapsed = real[:1] + 0.01 * cloud(400, seed=3)
    found = distances.precision_recall(generated=collapsed, real=real)
    assert found.precision > 0.99 and found.recall < 0.02


def test_a_scattered_generator_recalls_all_and_is_imprecise():
    """The other way round, so that exchanged arguments cannot pass."""
    real = cloud(400, 2)
    found = distances.precision_recall(generated=cloud(400, 2, seed=3, scale=8.0), real=real)
    assert found.recall > 0.95 and found.precision < 0.3


def test_constant_and_few_images_have_a_distance():
    real, constant = cloud(100), torch.ones(40, 6, dtype=torch.float64)
    expected = real.var(0).sum() + (real.mean(0) - 1).square().sum()
    assert frechet(constant, real) == pytest.approx(expected.item(), rel=1e-6)
    second = frechet(constant, real, distances.frechet_cleanfid)
    assert second is None or second == pytest.approx(expected.item(), rel=1e-2)
    few = frechet(cloud(4), real)
    assert np.isfinite(few) and few > 0


def test_confidence_is_the_largest_probability():
    logits = torch.tensor([[0.0, 0.0], [np.log(3.0), 0.0]], dtype=torch.float64)
    assert distances.confidence(logits).tolist() == pytest.approx([0.5, 0.75], rel=1e-12)


@pytest.mark.parametrize("count", [2, 300, distances.BLOCK])
def test_statistics_of_one_block_are_torch_fidelitys_to_the_last_bit(count):
    whole = cloud(count, 7, shift=3.0).float()
    theirs = fid_features_to_statistics(whole.double())
    found = statistics(whole)
    assert np.array_equal(found.mu, theirs["mu"]) and np.array_equal(found.sigma, theirs["sigma"])
    assert found.count == count and found.sigma.dtype == np.float64


def test_statistics_of_several_blocks_do_not_depend_on_how_features_arrive(monkeypatch):
    monkeypatch.setattr(distances, "BLOCK", 64)
    whole = cloud(1000, 5, shift=1e3)
    theirs = fid_features_to_statistics(whole)
    found = [distances.statistics(whole)]
    for size in (1, 63, 250):
        moments, folded = distances.FeatureMoments(), []
        for part in whole.split(size):
            moments.add(part)
            folded.append(moments._waiting)
        assert max(folded) < 64 + size  # what is held at any time
        found.append(moments.statistics())
    for one in found:
        np.testing.assert_allclose(one.mu, theirs["mu"], rtol=1e-14)
        np.testing.assert_allclose(one.sigma, theirs["sigma"], rtol=1e-9, atol=1e-12)
        assert np.array_equal(one.sigma, found[0].sigma) and np.array_equal(one.mu, found[0].mu)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_precision_and_recall_are_torch_fidelitys_to_the_last_bit(dtype):
    generated, real = cloud(700, 40, seed=1, scale=0.9).to(dtype), cloud(900, 40, seed=2).to(dtype)
    options = {"prc_batch_size": 10_000, "save_cpu_ram": True, "verbose": False}
    for k in (1, 3, 9):
        theirs = prc_features_to_metric(generated, real, prc_neighborhood=k, **options)
        found = distances.precision_recall(generated=generated, real=real, k=k)
        assert (found.precision, found.recall) == (theirs["precision"], theirs["recall"])
        assert 0 < found.recall < 1
        known = distances.precision_recall(generated=generated, real=real, k=k, real_radii=distances.radii(real, k))
        assert known == found


def test_distances_never_fill_a_whole_matrix(monkeypatch):
    generated, real = cloud(150, seed=1, scale=0.7), cloud(170, seed=2)
    whole = distances.precision_recall(generated=generated, real=real)
    sizes, cdist = [], torch.cdist
    monkeypatch.setattr(torch, "cdist", lambda a, b, **how: sizes.append(len(a) * len(b)) or cdist(a, b))
    for block in (2, 10, 64):  # 2: fewer than k + 1 at a time; 10: whole blocks
        monkeypatch.setattr(distances, "BLOCK", block)
        assert distances.precision_recall(generated=generated, real=real) == whole
        assert max(sizes) <= block**2
        sizes.clear()


def test_half_precision_distances_are_those_of_the_authors_toolbox():
    """Restated from its description: features and radii in float16, the k-th distance chosen among float32 values."""
    generated, real = (cloud(n, 64, seed=s, scale=0.8).float().half() for n, s in ((90, 1), (110, 2)))

    def covered(points, centres, k=3):
        radius = torch.cdist(centres[None], centres[None])[0].float().kthvalue(k + 1).values.half()
        return (torch.cdist(points[None], centres[None])[0] <= radius).any(1).double().mean().item()

    found = distances.precision_recall(generated=generated, real=real)
    assert found.precision == pytest.approx(covered(generated, real), abs=1e-6)
    assert found.recall == pytest.approx(covered(real, generated), abs=1e-6)
    few = distances.precision_recall(generated=generated[:8], real=real[:9])
    assert 0 <= few.recall <= 1  # torch computes distances between few points in another way, not in half precision
    exact = distances.precision_recall(generated=generated.double(), real=real.double())
    assert abs(found.recall - exact.recall) < 0.1


def test_features_of_the_wrong_kind_are_refused():
    with pytest.raises(TypeError, match="floating"):
        statistics(torch.zeros(10, 6, dtype=torch.int64))
    with pytest.raises(ValueError, match="2 or more images, found 1"):
        statistics(cloud(1))
    with pytest.raises(ValueError, match="generated: expected more than k = 3 images, found 3"):
        distances.precision_recall(generated=cloud(3), real=cloud(10))


# ---- torch-fidelity end to end ---------------------------------------------------------------------------------


class Images(torch.utils.data.Dataset):
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return torch.from_numpy(self.images[index]).permute(2, 0, 1)


def test_every_number_equals_torch_fidelitys_own_run(trained, sets):
    real, generated = sets["real"][0], sets["generated"][0]
    theirs = torch_fidelity.calculate_metrics(
        input1=Images(generated),
        input2=Images(real),
        feature_extractor=register(loaded(trained[2])[PLAIN]),
        fid=True,
        prc=True,
        prc_neighborhood=3,
        batch_size=32,
        cuda=False,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
    )
    a, b = (extract_all(loaded(trained[2]), images, batch=32)[PLAIN].features for images in (generated, real))
    assert frechet(a, b) == pytest.approx(theirs[torch_fidelity.KEY_METRIC_FID], rel=1e-12)
    found = distances.precision_recall(generated=a, real=b, k=3)
    assert found.precision == theirs[torch_fidelity.KEY_METRIC_PRECISION]
    assert found.recall == theirs[torch_fidelity.KEY_METRIC_RECALL]
    assert found.precision != found.recall


# ---- extractor and features ------------------------------------------------------------------------------------


def test_the_extractor_learns_its_labels(trained, sets):
    model, history, _ = trained
    assert len(history) == 12 and history[-1] < history[0]
    assert extractor.accuracy(model, TINY, *sets["generated"], batch=20) > 0.9
    assert not model.training and not any(p.requires_grad for p in model.parameters())


def test_an_extractor_that_was_stopped_goes_on_to_the_same_weights(trained, sets, tmp_path):
    models = []
    for steps in (5, None):
        checkpoint = Checkpoint(tmp_path / "work", {}, TINY.steps, save_seconds=1e9)
        models.append(extractor.create(TINY, classes=2))
        list(itertools.islice(extractor.train(models[-1], TINY, *sets["real"], checkpoint=checkpoint), steps))
        checkpoint.save()
    state = trained[0].state_dict()
    assert all(torch.equal(value, state[name]) for name, value in models[1].state_dict().items())


def test_equal_seeds_give_equal_weights(trained, sets):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = extractor.create(TINY, classes=2)
    list(extractor.train(again, TINY, *sets["real"]))
    assert torch.equal(before, torch.get_rng_state())
    state = trained[0].state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())
    other = extractor.create(dataclasses.replace(TINY, seed=1), classes=2)
    assert not torch.equal(other.convs[0].weight, extractor.create(TINY, classes=2).convs[0].weight)


def test_a_stored_extractor_gives_the_same_features(trained, sets):
    images = sets["generated"][0]
    here = {PLAIN: features.FeatureNetwork(TINY, trained[0], "cpu")}
    ours, stored = (extract_all(one, images, batch=16)[PLAIN] for one in (here, loaded(trained[2])))
    assert torch.equal(ours.features, stored.features) and torch.equal(ours.confidence, stored.confidence)
    assert ours.features.shape == (64, 8) and ours.features.dtype == torch.float32
    exact, _ = trained[0](extractor.to_network(images.array()[:16]))
    assert torch.equal(ours.features[:16].double(), exact)  # float32 holds all digits there are
    assert ours.confidence.shape == (64,) and ours.confidence.dtype == torch.float64


def test_features_hardly_depend_on_the_batch_and_not_at_all_on_the_division(trained, sets):
    model, images = loaded(trained[2]), sets["generated"][0]
    whole = extract_all(model, images, batch=24)[PLAIN].features
    torch.testing.assert_close(extract_all(model, images, batch=7)[PLAIN].features, whole, rtol=1e-4, atol=1e-5)
    first = extract_all(model, images, batch=24, limit=30)[PLAIN].features
    assert torch.equal(first[:24], whole[:24]) and len(first) == 30
    second = features.extract(model, images, range(24, 48), 24)
    assert torch.equal(second[PLAIN].features, whole[24:48])


def test_labels_are_needed(sets):
    images, labels = sets["real"]
    for wrong in (labels[:-1], [None, *labels[1:]]):
        with pytest.raises(ValueError, match="expected a label for every image, found 1 without"):
            list(extractor.train(extractor.create(TINY, classes=2), TINY, images, wrong))
    with pytest.raises(ValueError, match="2 or more classes"):
        extractor.create(TINY, classes=1)


def test_rotations_are_learned_from_images_without_labels(tmp_path):
    """Pictures with an upright: a bright sky over dark ground, light from the left."""
    draws = np.random.default_rng(0)
    sky = np.linspace(230, 40, 16)[:, None] + np.linspace(25, -25, 16)[None] + draws.normal(0, 15, (160, 16, 16))
    images = np.repeat(sky.clip(0, 255).astype(np.uint8)[..., None], 3, 3)
    none = [None] * 160
    write_imageset(tmp_path / "x.zip", images)
    settings = dataclasses.replace(TINY, labels="rotations", steps=40)
    assert extractor.classes(settings, none) == 4 and "90" in settings.learned
    weights = []
    with ImageSet(tmp_path / "x.zip") as found:
        for resident in (extractor.RESIDENT, 0):  # from memory, and read step by step
            extractor.RESIDENT, before = resident, extractor.RESIDENT
            model = extractor.create(settings, classes=4)
            history = list(extractor.train(model, settings, found, none))
            extractor.RESIDENT = before
            weights.append(model.state_dict())
        assert history[-1] < history[0]
        assert extractor.accuracy(model, settings, found, none, batch=50) > 0.9
        with pytest.raises(ValueError, match=r"expected a label for every image, found 160 .*labels: rotations"):
            list(extractor.train(extractor.create(TINY, classes=2), TINY, found, none))
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    write_imageset(tmp_path / "wide.zip", images[:, :8])
    with pytest.raises(ValueError, match="expected square images to turn, found 8x16"):
        list(extractor.train(model, settings, ImageSet(tmp_path / "wide.zip"), none))


def test_turning_goes_by_quarters():
    image = torch.arange(12, dtype=torch.uint8).reshape(3, 2, 2)
    found = extractor.turned(image.expand(4, 3, 2, 2), torch.arange(4))
    assert [one[0].flatten().tolist() for one in found] == [[0, 1, 2, 3], [1, 3, 0, 2], [3, 2, 1, 0], [2, 0, 3, 1]]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda state: state.pop("head.bias"), r"missing \['head.bias'\]"),
        (lambda state: state.update(more=torch.zeros(1)), r"extra \['more'\]"),
        (lambda state: state.update({"convs.1.weight": torch.zeros(4, 5, 3, 3)}), "fit together"),
    ],
)
def test_other_tensors_are_refused_in_one_line(trained, tmp_path, change, message):
    state = load_file(trained[2])
    change(state)
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=message) as error:
        extractor.load(tmp_path / "x.safetensors")
    assert "\n" not in str(error.value)


def test_truncated_and_missing_extractors_are_named(trained, tmp_path):
    content = trained[2].read_bytes()
    for share in (0, 0.3, 0.99):
        (tmp_path / "x.safetensors").write_bytes(content[: int(len(content) * share)])
        with pytest.raises(ValueError, match="x.safetensors: expected a whole safetensors file") as error:
            extractor.load(tmp_path / "x.safetensors")
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"nothing.safetensors: expected .*, found nothing"):
        extractor.load(tmp_path / "nothing.safetensors")


def test_damaged_weights_are_noticed_in_the_features(trained, sets):
    model = loaded(trained[2])
    model[PLAIN].module.norms[2].bias[0] = torch.nan
    with pytest.raises(ValueError, match="images 0-15: expected finite features"):
        extract_all(model, sets["real"][0], batch=16)


@pytest.mark.parametrize("side", [16, 64])
def test_degradations_are_a_gaussian_blur_and_gaussian_noise_of_their_strength(side):
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    for name, share in (("blur-weak", 1 / 32), ("blur-strong", 1 / 8)):
        size = share * side
        expected = ndimage.gaussian_filter(image.astype(float), (size, size, 0), mode="nearest")
        error = features.degraded(image, DEGRADATIONS[name], 0).astype(float) - expected
        assert np.sqrt((error**2).mean()) < 0.2 * (image.astype(float) - expected).std(), name
    grey = np.full((side, side, 3), 128, np.uint8)
    for name, size in (("noise-weak", 16), ("noise-strong", 64)):
        noisy = features.degraded(grey, DEGRADATIONS[name], 3)
        assert noisy.std() == pytest.approx(size, rel=0.15) and np.array_equal(
            noisy, features.degraded(grey, DEGRADATIONS[name], 3)
        )
        assert not np.array_equal(noisy, features.degraded(grey, DEGRADATIONS[name], 4)), "another image, other noise"


def test_jpeg_views_are_an_independent_round_trip_through_a_file(trained, sets, tmp_path):
    images = sets["generated"][0]
    view = FeatureSpec(extractor="cnn8", jpeg_quality=75)
    networks = loaded(trained[2]) | {view: next(iter(loaded(trained[2]).values()))}
    found = extract_all(networks, images, batch=32)
    written = []
    for i in range(len(images)):
        Image.fromarray(images[i]).save(tmp_path / f"{i}.jpg")  # Pillow's own default quality
        written.append(np.asarray(Image.open(tmp_path / f"{i}.jpg")))
    write_imageset(tmp_path / "through.zip", written)
    through = extract_all(loaded(trained[2]), ImageSet(tmp_path / "through.zip"), batch=32)[PLAIN].features
    assert torch.equal(found[view].features, through)
    assert not torch.equal(found[view].features, found[PLAIN].features)
    assert (view.name, PLAIN.name) == ("cnn8-jpeg75", "cnn8")


# ---- protocol --------------------------------------------------------------------------------------------------


OTHER = PretrainedExtractor(
    id="other", architecture="torchscript", weights="other", file="other.pt", features=6, resize="own"
)


def described(settings=None, **changes):
    values = {
        "distance": ExtractorIdentity(TINY, "a" * 64),
        "recall": ExtractorIdentity(OTHER, "d" * 64),
        "reference": [ReferenceImages("train", 6000, "b" * 64)],
        "resolution": 16,
        "generated": 2000,
        "reconstructed": 6000,
    }
    return evaluation.describe(settings or Protocol(), **{**values, **changes})


def test_the_protocol_is_plain_json_with_a_stable_hash():
    text = json.dumps(described(), sort_keys=True)
    assert json.loads(text) == described()
    assert evaluation.digest(json.loads(text)) == evaluation.digest(described())


def test_everything_a_number_depends_on_changes_the_hash():
    variants = [
        described(),
        described(distance=ExtractorIdentity(TINY, "c" * 64)),
        described(recall=ExtractorIdentity(OTHER, "c" * 64)),
        described(recall=ExtractorIdentity(TINY, "d" * 64)),
        described(reference=[ReferenceImages("train", 6000, "c" * 64)]),
        described(reference=[ReferenceImages("train", 5999, "b" * 64)]),
        described(reference=[ReferenceImages("train", 6000, "b" * 64), ReferenceImages("heldout", 600, "e" * 64)]),
        described(resolution=32),
        described(generated=1000),
        described(reconstructed=500),
        described(Protocol(id="other")),
        described(Protocol(k=5)),
        described(Protocol(batch=100)),
        described(Protocol(jpeg_quality=75)),
        described(Protocol(reference="all")),
        described(Protocol(reference_jpeg_quality=75)),
        described(Protocol(recall_generated=500)),
        described(Protocol(recall_reference=500)),
        described(Protocol(dtype="float16")),
        *(
            described(recall=ExtractorIdentity(dataclasses.replace(OTHER, **change), "d" * 64))
            for change in ({"dtype": "float16"}, {"features": 7}, {"architecture": "vgg16", "resize": "torch-fidelity"})
        ),
        described(distance=ExtractorIdentity(dataclasses.replace(TINY, labels="rotations"), "a" * 64)),
    ]
    assert len({evaluation.digest(variant) for variant in variants}) == len(variants)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"k": 0}, {"k": 10, "num_images": 10}, {"num_images": 1}, {"batch": 0}, {"jpeg_quality": 0}),
        *({"jpeg_quality": 100}, {"reference_jpeg_quality": 96}, {"recall_generated": 3}, {"recall_reference": 2}),
    ],
)
def test_protocols_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=f"protocol.{next(iter(wrong))}"):
        Protocol(**wrong)


# --- degenerate data --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_ball_of_a_point_with_k_copies_holds_these_copies_and_nothing_else(dtype):
    draws = torch.Generator().manual_seed(0)
    distinct = 100 + torch.randn(30, 64, generator=draws, dtype=torch.float64)
    real = distinct.repeat(4, 1).to(dtype)  # every point and three copies of it
    radius = distances.radii(real, 3)
    assert torch.equal(radius, distances.rounding(real)) and (radius > 0).all()
    same_images = (distinct * (1 + 1e-7)).to(dtype)  # a network's features of equal images in another batch
    assert distances.covered(same_images, real, radius) == 1
    assert distances.covered(distinct.to(dtype) + 1, real, radius) == 0
    scores = distances.precision_recall(generated=same_images, real=real)
    assert scores.precision == scores.recall == 1


def test_radii_of_different_points_do_not_depend_on_copies_of_others():
    points = torch.randn(40, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with_copies = torch.cat([points, points[:1].expand(3, -1) + 50, points[:1] + 50])
    expected = np.sort(np.linalg.norm(points[:, None] - points[None], axis=2), axis=1)[:, 3]
    np.testing.assert_allclose(distances.radii(with_copies, 3)[:40], expected, rtol=1e-6)


def test_features_that_a_precision_cannot_hold_are_refused():
    points = torch.randn(10, 8, generator=torch.Generator().manual_seed(1)) * 1e5
    with pytest.raises(ValueError, match="expected features that torch.float16 can hold.*`dtype`"):
        distances.precision_recall(generated=points.half(), real=points.half())
    with pytest.raises(ValueError, match="radii: expected finite distances.*`dtype`"):
        distances.radii(points * 1e30, 3)
