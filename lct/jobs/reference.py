"""reference: statistics and features of real images, for every protocol; the floor rows: real images, the VAE alone.

What is measured of real images is kept under a digest of everything it depends on, so that it is measured once for all
scales and runs: by default in work/reference/.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lct.data import imageset
from lct.files.atomic import read_json, write_json
from lct.files.hashing import sha256_file, sha256_json
from lct.files.records import JobRecord
from lct.files.tensors import read_metadata, read_tensors, write_tensors
from lct.jobs import job
from lct.jobs.scoring import Reference, Scorer
from lct.metrics.distances import FeatureMoments, FeatureStatistics, radii
from lct.metrics.protocol import ReferenceImages, view
from lct.metrics.settings import FeatureSpec, Protocol

SETS = ("train", "heldout", "reconstructed-train", "reconstructed-heldout")


def main() -> int:
    parser = job.parser(__doc__)
    for name in SETS:
        needed = not name.endswith("heldout")
        parser.add_argument(f"--{name}", type=Path, nargs="?", required=needed, help="manifest of these images")
    parser.add_argument("--extractors", type=Path, nargs="+", required=True, help="weights, in the settings' order")
    parser.add_argument("--references", type=Path, nargs="+", required=True, help="{protocol}.safetensors to write")
    parser.add_argument("--floors", type=Path, nargs="*", required=True, help="{floor}/{protocol}.json to write")
    parser.add_argument("--cache", type=Path, default=Path("work/reference"), help="(default: work/reference)")
    parser.add_argument("--workers", type=int, help="processes (default: one per GPU of the job, one without a GPU)")
    arguments = parser.parse_args()
    return job.run(lambda: reference(arguments))


@dataclass(frozen=True)
class Wanted:
    """One measurement of real images."""

    view: FeatureSpec
    sides: tuple[str, ...]  # image sets, one after the other
    moments: bool = False  # mean and covariance
    features: int = 0  # the features of the first so many images


@dataclass(frozen=True)
class Measured:
    """What was found of it."""

    statistics: FeatureStatistics | None
    features: torch.Tensor | None


def reference(arguments) -> str:
    device = job.device(arguments.device, threads=1)
    manifests = {name: path for name in SETS if (path := getattr(arguments, name.replace("-", "_"))) is not None}
    with Scorer(arguments.settings, arguments.extractors, device, arguments.workers) as scorer:
        return _refer(arguments, scorer, manifests)


def _refer(arguments, scorer: Scorer, manifests: dict[str, Path]) -> str:
    inputs = manifests | {
        f"extractor-{name}": path for name, path in zip(scorer.used, arguments.extractors, strict=True)
    }
    record = JobRecord("reference", arguments.settings, inputs=inputs, device=scorer.device.type)
    found, hits = _measure_all(scorer, manifests, arguments.settings, arguments.cache)
    outputs: list[Path] = []
    references: dict[str, Reference] = {}
    for path in arguments.references:
        protocol = _named(scorer, path)
        references[protocol.id] = _reference(scorer, protocol, manifests, arguments.settings, found)
        write_tensors(path, references[protocol.id].tensors(), references[protocol.id].metadata())
        outputs.append(path)
    limit = max(protocol.num_images for protocol in scorer.protocols)
    for floor in dict.fromkeys(path.parent.name for path in arguments.floors):
        side = _floor_set(floor, manifests)
        count = imageset.read_manifest(manifests[side])["count"]
        features = scorer.features(manifests[side], limit=min(limit, count))
        for path in arguments.floors:
            if path.parent.name == floor:
                protocol = _named(scorer, path)
                write_json(path, scorer.metrics(protocol, features, references[protocol.id]) | {"images": side})
                outputs.append(path)
    record.write(outputs)
    said = f", {hits} of {len(found)} measurements of real images from the cache" if hits else ""
    return f"reference {arguments.references[0].parent.name}: {len(arguments.floors)} floor rows measured{said}"


def _named(scorer: Scorer, path: Path) -> Protocol:
    """The protocol whose file this is."""
    return next(protocol for protocol in scorer.protocols if protocol.id == path.stem)


def _floor_set(floor: str, manifests: dict[str, Path]) -> str:
    """The images of a floor row: held-out ones, or training images' reconstructions where nothing is held out."""
    if floor == "heldout":
        return "heldout"
    return "reconstructed-heldout" if "reconstructed-heldout" in manifests else "reconstructed-train"


def _sides(protocol: Protocol, manifests: dict[str, Path]) -> tuple[str, ...]:
    return ("train", "heldout") if protocol.reference == "all" and "heldout" in manifests else ("train",)


def _wanted(scorer: Scorer, manifests: dict[str, Path]) -> list[Wanted]:
    """Every measurement of real images that the protocols need, each once."""
    found: dict[tuple[FeatureSpec, tuple[str, ...]], Wanted] = {}

    def want(seen: FeatureSpec, sides: tuple[str, ...], moments: bool = False, features: int = 0) -> None:
        known = found.get((seen, sides), Wanted(seen, sides))
        found[seen, sides] = replace(known, moments=known.moments or moments, features=max(known.features, features))

    for protocol in scorer.protocols:
        distance, recall = (scorer.view(protocol, r, protocol.reference_jpeg_quality) for r in ("distance", "recall"))
        want(distance, _sides(protocol, manifests), moments=True)
        want(recall, _sides(protocol, manifests), features=protocol.recall_reference)
        want(distance, ("reconstructed-train",), moments=True)
    return list(found.values())


def _side(name: str, manifest: Path, settings: dict[str, Any]) -> ReferenceImages:
    """The first half of a training set whose other half are mirror images; else all of a set."""
    described = imageset.read_manifest(manifest)
    mirrored = name == "train" and settings["flips"] == "appended"
    return ReferenceImages(name, described["count"] // (2 if mirrored else 1), described["content_sha256"])


def _measure_all(
    scorer: Scorer, manifests: dict[str, Path], settings: dict[str, Any], cache: Path
) -> tuple[dict[tuple[FeatureSpec, tuple[str, ...]], Measured], int]:
    """Every measurement, by view and image sets, and how many of them came from the cache."""
    found: dict[tuple[FeatureSpec, tuple[str, ...]], Measured] = {}
    missing: dict[tuple[str, ...], list[tuple[Wanted, Path]]] = {}
    sides = {name: _side(name, path, settings) for name, path in manifests.items()}
    for wanted in _wanted(scorer, manifests):
        described = view(scorer.used[wanted.view.extractor], wanted.view, scorer.batch, scorer.device.type)
        parts = [[sides[name].count, sides[name].content_sha256] for name in wanted.sides]
        content = {"view": described, "images": parts, "moments": wanted.moments, "features": wanted.features}
        path = cache / f"{sha256_json(content)}.safetensors"
        known = _cached(path)
        if known is None:
            missing.setdefault(wanted.sides, []).append((wanted, path))
        else:
            found[wanted.view, wanted.sides] = known
    hits = len(found)
    for names, group in missing.items():
        for (wanted, path), measured in zip(group, _measure(scorer, names, group, manifests, sides), strict=True):
            _keep(path, measured)
            found[wanted.view, wanted.sides] = measured
    return found, hits


def _measure(
    scorer: Scorer,
    names: tuple[str, ...],
    group: Sequence[tuple[Wanted, Path]],
    manifests: dict[str, Path],
    sides: dict[str, ReferenceImages],
) -> list[Measured]:
    """One reading of the image sets for all measurements of them."""
    moments = [FeatureMoments() for _ in group]
    kept: list[list[torch.Tensor]] = [[] for _ in group]
    for name in names:
        imageset.open_checked(manifests[name], deep=True).close()
        seen = [wanted.view for wanted, _ in group]
        for found in scorer.walk(seen, manifests[name], sides[name].count, f"reference {manifests[name]}"):
            for i, (wanted, _) in enumerate(group):
                features = found[wanted.view].features
                if wanted.moments:
                    moments[i].add(features)
                kept[i].append(features[: max(0, wanted.features - sum(map(len, kept[i])))])
    return [
        Measured(moments[i].statistics() if wanted.moments else None, torch.cat(kept[i]) if wanted.features else None)
        for i, (wanted, _) in enumerate(group)
    ]


def _keep(path: Path, measured: Measured) -> None:
    """Store a measurement, and its hash beside it."""
    tensors, count = {}, None
    if measured.statistics is not None:
        tensors = {key: torch.from_numpy(getattr(measured.statistics, key)) for key in ("mu", "sigma")}
        count = measured.statistics.count
    if measured.features is not None:
        tensors["features"] = measured.features
    write_tensors(path, tensors, {"count": count})
    write_json(path.with_suffix(".json"), {"sha256": sha256_file(path), "bytes": path.stat().st_size})


def _cached(path: Path) -> Measured | None:
    """A stored measurement; None where there is none, or where it is not as it was stored."""
    if not path.exists() or not path.with_suffix(".json").exists():
        return None
    try:
        whole = read_json(path.with_suffix(".json"))["sha256"] == sha256_file(path)
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        job.log.warning("%s: expected the bytes that were stored, found damage; measuring again", path)
        return None
    tensors, count = read_tensors(path), read_metadata(path)["count"]
    statistics = None if count is None else FeatureStatistics(tensors["mu"].numpy(), tensors["sigma"].numpy(), count)
    return Measured(statistics, tensors.get("features"))


def _reference(
    scorer: Scorer,
    protocol: Protocol,
    manifests: dict[str, Path],
    settings: dict[str, Any],
    found: dict[tuple[FeatureSpec, tuple[str, ...]], Measured],
) -> Reference:
    """What a protocol compares with, put together from measurements."""
    names = _sides(protocol, manifests)
    distance, recall = (scorer.view(protocol, r, protocol.reference_jpeg_quality) for r in ("distance", "recall"))
    features = found[recall, names].features[: protocol.recall_reference]
    return Reference(
        real=found[distance, names].statistics,
        reconstructed=found[distance, ("reconstructed-train",)].statistics,
        recall=features,
        radii=radii(scorer.comparable(protocol, features), protocol.k),
        sides=tuple(_side(name, manifests[name], settings) for name in names),
        resolution=imageset.read_manifest(manifests["train"])["height"],
    )


if __name__ == "__main__":
    raise SystemExit(main())
