"""degraded: real images, blurred or with noise, scored as generated ones are: what the metrics see of such damage."""

from pathlib import Path
from typing import Annotated, Any

from lct.config.schema import build
from lct.data import imageset
from lct.files.atomic import write_json
from lct.files.records import JobRecord
from lct.jobs import job
from lct.jobs.score import Extractors, References, Scorer
from lct.metrics.settings import Degradation


def degraded(
    settings: dict[str, Any],
    device: str,
    images: Annotated[Path, "manifest of the real images"],
    references: References,
    extractors: Extractors,
    out: Annotated[Path, "JSON to write"],
    workers: job.Workers = None,
) -> str:
    """Write the metrics of the images under each degradation; arguments are the job's options.

    settings: those of scoring, {"degradations"}, and {"side"}: which images they are. As many are measured as a
    protocol measures of generated ones, or all there are, without mirror images."""
    manifest = imageset.read_manifest(images)
    mirrored = settings["side"] == "train" and settings["flips"] == "appended"
    with Scorer(settings, extractors, device, workers) as scorer:
        pairs, inputs = scorer.references(references)
        files = {"images": images} | scorer.inputs | inputs
        record = JobRecord("degraded", settings, inputs=files, device=scorer.device.type)
        count = min(scorer.most, manifest["count"] // (2 if mirrored else 1))
        rows = {}
        for name, values in settings["degradations"].items():
            degradation = build(Degradation, values, f"--settings: degradations.{name}")
            features = scorer.features(images, count, degradation=degradation)
            measured = {p.id: scorer.evaluate(p, features, reference)["values"] for p, reference in pairs}
            rows[name] = {"text": degradation.text(manifest["height"]), "values": measured}
        write_json(out, {"format": 1, "side": settings["side"], "count": count, "rows": rows})
        record.write([out])
    return f"degraded {out.stem}: {len(rows)} degradations of {count} images measured"


main = job.program(degraded)
