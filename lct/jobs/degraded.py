"""degraded: real images, blurred or with noise, scored as generated ones are: what the metrics see of such damage."""

from pathlib import Path
from typing import Any

from lct.config.schema import build
from lct.data import imageset
from lct.files.atomic import write_json
from lct.files.records import JobRecord
from lct.jobs import job
from lct.jobs.scoring import Scorer, read_reference
from lct.metrics.settings import Degradation


def main() -> int:
    parser = job.parser(__doc__)
    parser.add_argument("--images", type=Path, required=True, help="manifest of the real images")
    parser.add_argument("--references", type=Path, nargs="+", required=True, help="{protocol}.safetensors, in order")
    parser.add_argument("--extractors", type=Path, nargs="+", required=True, help="weights, in the settings' order")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    parser.add_argument("--workers", type=int, help="processes (default: one per GPU of the job, one without a GPU)")
    return job.run(degraded, parser.parse_args())


def degraded(
    settings: dict[str, Any],
    device: str,
    images: Path,
    references: list[Path],
    extractors: list[Path],
    out: Path,
    workers: int | None = None,
) -> str:
    """Write the metrics of the images under each degradation; arguments are the job's options.

    settings: those of scoring, {"degradations"}, and {"side"}: which images they are. As many are measured as a
    protocol measures of generated ones, or all there are, without mirror images."""
    manifest = imageset.read_manifest(images)
    mirrored = settings["side"] == "train" and settings["flips"] == "appended"
    with Scorer(settings, extractors, device, workers) as scorer:
        pairs = list(zip(scorer.protocols, map(read_reference, references), strict=True))
        inputs = {f"reference-{p.id}": path for p, path in zip(scorer.protocols, references, strict=True)}
        files = {"images": images} | scorer.inputs | inputs
        record = JobRecord("degraded", settings, inputs=files, device=scorer.device.type)
        most = max(protocol.num_images for protocol in scorer.protocols)
        count = min(most, manifest["count"] // (2 if mirrored else 1))
        rows = {}
        for name, values in settings["degradations"].items():
            degradation = build(Degradation, values, f"--settings: degradations.{name}")
            features = scorer.features(images, count=count, degradation=degradation)
            measured = {p.id: scorer.evaluate(p, features, reference)["values"] for p, reference in pairs}
            rows[name] = {"text": degradation.text(manifest["height"]), "values": measured}
        write_json(out, {"format": 1, "side": settings["side"], "count": count, "rows": rows})
        record.write([out])
    return f"degraded {out.stem}: {len(rows)} degradations of {count} images measured"


if __name__ == "__main__":
    raise SystemExit(main())
