"""Scoring image sets, and the Frechet distance alone."""

import statistics
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

from contest import authors, fidelity
from contest.rates import SIDE
from contest.turns import Row, Turns
from lct.data import imageset
from lct.files.hashing import sha256_file
from lct.metrics import distances, extractor, features
from lct.metrics.settings import FeatureSpec, TrainedExtractor


def scoring(device: torch.device, folder: Path, repeats: int, count: int) -> tuple[list[Row], dict]:
    """FID and recall of `count` images against as many, with the mini scale's network."""
    settings = TrainedExtractor()
    weights = folder / "network.safetensors"
    save_file(extractor.create(settings, classes=10).state_dict(), weights)
    sha256, draws, sets = sha256_file(weights), np.random.default_rng(0), {}
    for name, spread in (("real", 50), ("generated", 45)):
        coarse = draws.normal(128, spread, (count, 4, 4, 3)).repeat(SIDE // 4, 1).repeat(SIDE // 4, 2)
        images = (coarse + draws.normal(0, 12, coarse.shape)).clip(0, 255).astype(np.uint8)
        imageset.write_imageset(folder / f"{name}.zip", images)
        sets[name] = imageset.ImageSet(folder / f"{name}.zip")
    spec = FeatureSpec(extractor=settings.id, jpeg_quality=None)
    model = {spec: features.load_network(settings, weights, sha256, device)}
    name = fidelity.register(model[spec])
    batch, turns, found = 250, Turns(), {}

    def extract(networks: dict, images: imageset.ImageSet) -> dict:
        spans = (range(start, min(start + batch, count)) for start in range(0, count, batch))
        return features.concatenate(features.extract(networks, images, span, batch) for span in spans)

    def of(images: imageset.ImageSet) -> torch.Tensor:
        return extract(model, images)[spec].features

    def reference() -> tuple[distances.FeatureStatistics, torch.Tensor, torch.Tensor]:
        real = of(sets["real"]).double().to(device)
        return distances.statistics(real), real, distances.radii(real, 3)

    def ours(known: tuple[distances.FeatureStatistics, torch.Tensor, torch.Tensor]) -> dict[str, float]:
        stats, real, radii = known
        generated = of(sets["generated"]).double().to(device)
        measured = distances.statistics(generated)
        prc = distances.precision_recall(generated=generated, real=real, real_radii=radii)
        size = float(np.trace(measured.sigma) + np.trace(stats.sigma))
        return {"fd": distances.frechet(measured, stats), "size": size, **asdict(prc)}

    def both() -> dict[str, float]:
        return ours(reference())

    def second() -> float | None:
        return distances.frechet_cleanfid(distances.statistics(of(sets["generated"]).double()), known[0])

    known = reference()
    contest = {
        "ours": lambda: ours(known),
        "both": both,
        "baseline": lambda: authors.torch_fidelity_twice(
            sets["generated"], sets["real"], name, batch, device.type == "cuda"
        ),
    }
    for _ in range(repeats + 1):  # the first warms up
        for title, measure in contest.items():
            with turns.of(title, device):
                found[title] = measure()
    turns.forget_first()
    theirs, mine = found["baseline"], found["ours"]
    gap = abs(mine["fd"] - theirs["frechet_inception_distance"]) / mine["size"]
    equal = all(mine[key] == theirs[key] for key in ("precision", "recall"))
    note = f"FD differs by {gap:.0e} tr(S1 + S2); precision and recall {'equal' if equal else 'DIFFER'}"
    rows = [
        turns.row("scoring", f"{count} images: torch-fidelity twice / ours", "ours", "baseline", count, note=note),
        turns.row("scoring", "  torch-fidelity twice / ours with its reference", "both", "baseline", count),
    ]
    lower = extract({replace(spec, products="bfloat16"): model[spec]}, sets["generated"])
    moved = distances.frechet(distances.statistics(next(iter(lower.values())).features), known[0])
    rows.append(Row("scoring", "  features by bfloat16 products", note=f"FD {moved:.6g} instead of {mine['fd']:.6g}"))
    rows += [row for dimension in (64, 512, 2048) for row in frechet_rows(dimension, repeats)]
    seconds = statistics.median((turns.wall if device.type == "cuda" else turns.cpu)["ours"])
    rate = {"work": "score", "per_second": count / seconds, "unit": "images", "side": SIDE, "kind": "trained"}
    return rows, rate | {"what": f"{settings.id}, {count} images against as many known ones"}


def frechet_rows(dimension: int, repeats: int) -> list[Row]:
    """The Frechet distance alone: torch-fidelity's and clean-fid's against ours, all from covariances."""
    draws, turns, cpu = torch.Generator().manual_seed(0), Turns(), torch.device("cpu")
    mixing = torch.randn(dimension, dimension, generator=draws, dtype=torch.float64) / dimension**0.5
    first, second = (
        distances.statistics(torch.randn(2 * dimension, dimension, generator=draws, dtype=torch.float64) @ mixing)
        for _ in range(2)
    )
    pair, found = [{"mu": one.mu, "sigma": one.sigma} for one in (first, second)], {}
    contest = {
        "ours": lambda: distances.frechet(replace(first), second),  # a new set's root; a reference's is kept
        "torch-fidelity": lambda: fid_statistics_to_metric(*pair, verbose=False)[KEY_METRIC_FID],
        "clean-fid": lambda: distances.frechet_cleanfid(first, second),
    }
    for _ in range(repeats + 1):  # the first warms up
        for name, measure in contest.items():
            with turns.of(name, cpu):
                found[name] = measure()
    turns.forget_first()
    size = float(np.trace(first.sigma) + np.trace(second.sigma))
    return [
        turns.row(
            "scoring",
            f"  Frechet distance alone, {dimension} features: {name} / ours",
            "ours",
            name,
            1,
            note=f"differs by {abs(found['ours'] - found[name]) / size:.0e} tr(S1 + S2)",
        )
        for name in ("torch-fidelity", "clean-fid")
    ]
