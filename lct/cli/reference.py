"""reference: features of the training images and their reconstructions; the floor rows: real images, the VAE alone."""

from pathlib import Path

from lct.cli import job
from lct.cli.scoring import Scorer, metrics_file
from lct.config.paths import FLOORS
from lct.data.imageset import read_manifest
from lct.files.atomic import write_json
from lct.files.records import Job
from lct.files.tensors import write_tensors


def main() -> int:
    parser = job.parser(__doc__)
    for name in ("train", "heldout", "reconstructed-train", "reconstructed-heldout"):
        parser.add_argument(f"--{name}", type=Path, required=True, help="manifest of these images")
    parser.add_argument("--extractor", type=Path, required=True, help="weights of the feature extractor")
    parser.add_argument("--features", type=Path, required=True, help="reference features to write")
    for name in FLOORS:
        parser.add_argument(f"--floor-{name}", type=Path, required=True, help="metrics file to write")
    arguments = parser.parse_args()
    return job.run(lambda: reference(arguments))


def reference(arguments) -> str:
    device = job.device(arguments.device, threads=1)
    sides = {
        "train": arguments.train,
        "heldout": arguments.heldout,
        "reconstructed": arguments.reconstructed_train,
        "reconstructed-heldout": arguments.reconstructed_heldout,
    }
    record = Job("reference", arguments.settings, inputs=sides | {"extractor": arguments.extractor}, device=device.type)
    scorer = Scorer(arguments.settings, arguments.extractor, device)
    features = {name: scorer.features(sides[name])["features"] for name in ("train", "reconstructed")}
    write_tensors(arguments.features, features)
    described = scorer.describe(read_manifest(arguments.train))
    outputs = [arguments.features]
    floors = {"heldout": "heldout", "reconstruction": "reconstructed-heldout"}
    for floor, side in floors.items():
        out = getattr(arguments, f"floor_{floor}")
        found = scorer.features(sides[side], limit=scorer.protocol.num_images)
        values = scorer.measure(found, features)
        write_json(out, metrics_file(scorer, values, described))
        outputs.append(out)
    record.record(outputs)
    return f"reference {arguments.features.parent.name}: floors measured"


if __name__ == "__main__":
    raise SystemExit(main())
