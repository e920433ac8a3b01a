"""score_images: images made elsewhere, measured by the protocols of a scale against the references of a dataset.

Nothing is written but a line of JSON: protocol -> the content of its metrics file.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from lct.checks import require
from lct.data.readers import open_images
from lct.jobs import job
from lct.jobs.image_sets import write_set
from lct.jobs.score import Scorer
from lct.plan import files as stage_files
from lct.plan import settings as stage_settings
from lct.plan.paths import manifest
from lct.plan.plan import Plan
from lct.plan.selection import add_selection, overrides


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_selection(parser)
    parser.add_argument("--of", required=True, metavar="DATASET", help="dataset whose references are compared with")
    parser.add_argument("--device", default="auto", help="torch device (default: auto)")
    parser.add_argument("images", type=Path, help="folder, zip, tar, npz or npy")
    arguments = parser.parse_args()
    plan = Plan(Path.cwd(), overrides(arguments))
    scores = (plan, arguments.of, arguments.images, arguments.device)
    return job.run(lambda: print(json.dumps(score_images(*scores)), flush=True))


def score_images(plan: Plan, dataset: str, images: Path, device: str = "auto") -> dict[str, dict[str, Any]]:
    """Protocol -> content of a metrics file. Raises ValueError for unusable images, or where references are missing."""
    references, extractors = stage_files.references(plan, dataset), stage_files.extractors(plan, dataset).values()
    missing = next((path for path in (*references, *extractors) if not Path(path).exists()), None)
    command = f"snakemake {' '.join(references)} --config scale={plan.scale_name}"
    require(missing is None, missing, "what the protocol compares with", "none", command)
    count = max(protocol.num_images for protocol in plan.scale.protocols)
    with tempfile.TemporaryDirectory(prefix="lct-score-") as folder:
        write_set(Path(folder) / "images.zip", open_images(images, plan.datasets[dataset].resolution, count).images)
        with Scorer(stage_settings.score(plan, dataset), [Path(path) for path in extractors], device) as scorer:
            extracted = scorer.features(Path(manifest(f"{folder}/images.zip")), count=count)
            pairs, _ = scorer.references([Path(path) for path in references])
            return {p.id: scorer.evaluate(p, extracted, reference) for p, reference in pairs}


if __name__ == "__main__":
    raise SystemExit(main())
