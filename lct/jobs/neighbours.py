"""neighbours: the training images nearest to the first generated ones, in the features of precision and recall.

A generator that copies shows its copies here: beside each distance stands the radius of the training image's own ball
(the distance to its k-th nearest training image), and whether the pixels are the same.
"""

from pathlib import Path

import numpy as np
import torch

from lct.data import imageset
from lct.files.atomic import atomic, write_json
from lct.files.records import JobRecord
from lct.jobs import job
from lct.jobs.scoring import Reference, Scorer
from lct.metrics.features import whole

SIDE = 48  # about as many pixels is an image of the picture wide at least


def main() -> int:
    parser = job.parser(__doc__)
    parser.add_argument("--samples", type=Path, nargs="+", required=True, help="manifests of the image sets")
    parser.add_argument("--train", type=Path, required=True, help="manifest of the training images")
    parser.add_argument("--reference", type=Path, required=True, help="reference of the first protocol")
    parser.add_argument("--extractor", type=Path, required=True, help="weights of the network")
    parser.add_argument("--numbers", type=Path, nargs="+", required=True, help="JSON to write, one per image set")
    parser.add_argument("--pictures", type=Path, nargs="+", required=True, help="PNG to write, one per image set")
    arguments = parser.parse_args()
    return job.run(lambda: neighbours(arguments))


def neighbours(arguments) -> str:
    device = job.device(arguments.device, threads=1)
    with Scorer(arguments.settings, [arguments.extractor], device) as scorer:
        return _neighbours(arguments, scorer)


def _neighbours(arguments, scorer: Scorer) -> str:
    settings = arguments.settings
    protocol, reference = scorer.protocols[0], Reference.read(arguments.reference)
    view = scorer.view(protocol, "recall", protocol.jpeg_quality)
    count = next(side.count for side in reference.sides if side.name == "train")  # the first images of the reference
    real, radii = reference.recall[:count], reference.radii[:count]
    inputs = {f"extractor-{view.extractor}": arguments.extractor, f"reference-{protocol.id}": arguments.reference}
    ratios = []
    with imageset.open_checked(arguments.train, deep=True) as train:
        for samples, numbers, picture in zip(arguments.samples, arguments.numbers, arguments.pictures, strict=True):
            used = inputs | {"samples": samples, "train": arguments.train}
            record = JobRecord("neighbours", settings, inputs=used, device=scorer.device.type)
            with imageset.open_checked(samples, deep=True) as images:
                shown = min(settings["shown"], len(images))
                pixels = images.array(0, shown)
            made = whole(scorer.walk([view], samples, shown, f"neighbours {samples}"))[view].features
            found = nearest(scorer.comparable(protocol, made), scorer.comparable(protocol, real), settings["nearest"])
            near = [[train[int(i)] for i in row] for row in found[1]]
            entries = [
                {
                    "image": i,
                    "neighbours": [
                        {
                            "image": int(index),
                            "distance": float(distance),
                            "radius": float(radii[index]),
                            "same pixels": bool(np.array_equal(pixels[i], other)),
                        }
                        for distance, index, other in zip(found[0][i], found[1][i], near[i], strict=True)
                    ],
                }
                for i in range(shown)
            ]
            described = {"extractor": view.extractor, "k": protocol.k, "reference": len(real)}
            write_json(numbers, {"format": 1, **described, "images": entries})
            rows = [list(pixels), *(list(row) for row in zip(*near, strict=True))]
            scale = max(1, round(SIDE / pixels.shape[2]))
            with atomic(picture) as temporary:
                imageset.write_grid(temporary, [one for row in rows for one in row], columns=shown, scale=scale)
            record.write([numbers, picture])
            ratios += [one["neighbours"][0]["distance"] / one["neighbours"][0]["radius"] for one in entries]
    run, seed = arguments.samples[0].parts[-5:-3]
    return f"neighbours {run} {seed}: nearest at {min(ratios):.2f} to {max(ratios):.2f} radii of training images"


def nearest(made: torch.Tensor, real: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, count) distances and indices of the rows of `real` (N, D) nearest to each row of `made` (n, D), nearest
    first; float64, so that equal features are at distance zero."""
    distances = torch.cdist(made.double().cpu(), real.double().cpu(), compute_mode="donot_use_mm_for_euclid_dist")
    found = distances.topk(min(count, len(real)), dim=1, largest=False, sorted=True)
    return found.values, found.indices


if __name__ == "__main__":
    raise SystemExit(main())
