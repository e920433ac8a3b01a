"""neighbours: the training images nearest to the first generated ones, in the features of precision and recall.

A generator that copies shows its copies here: beside each distance stands the radius of the training image's own ball
(the distance to its k-th nearest training image), and whether the pixels are the same. A training image with k copies
among the training images has a ball of radius zero.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch

from lct.data import imageset
from lct.files.atomic import atomic, write_json
from lct.files.records import JobRecord
from lct.jobs import job
from lct.jobs.score import Samples, Scorer, TrainingImages
from lct.metrics.distances import BLOCK, rounding
from lct.metrics.evaluation import Reference, comparable

SIDE = 48  # an image of the picture is at least about as many pixels wide


def neighbours(
    settings: dict[str, Any],
    device: str,
    samples: Samples,
    train: TrainingImages,
    reference: Annotated[Path, "reference of the first protocol"],
    extractor: Annotated[Path, "weights of the network"],
    numbers: Annotated[list[Path], "JSON to write, one per image set"],
    pictures: Annotated[list[Path], "PNG to write, one per image set"],
) -> str:
    """Write numbers and a picture for every image set; arguments are the job's options.

    settings: {"protocols", "extractors", "own_extractor", "shown", "nearest"}: the first protocol with its network of
    precision and recall, how many generated images are shown, and how many training images for each."""
    stored, ratios = Reference.read(reference), []
    with_copies = 0  # generated images whose nearest training image has k copies
    with Scorer(settings, [extractor], device) as scorer, imageset.open_checked(train, deep=True) as originals:
        protocol = scorer.protocols[0]
        spec = protocol.spec("recall")
        count = next(images.count for images in stored.images if images.name == "train")  # the reference's first images
        real = comparable(protocol, stored.recall[:count], scorer.device)
        same = rounding(real).cpu()  # distances up to these are zero
        radii = torch.where(stored.radii[:count] > same, stored.radii[:count], 0)
        inputs = scorer.inputs | {f"reference-{protocol.id}": reference, "train": train}
        for manifest, out, picture in zip(samples, numbers, pictures, strict=True):
            files = inputs | {"samples": manifest}
            record = JobRecord("neighbours", settings, inputs=files, device=scorer.device.type)
            with imageset.open_checked(manifest) as images:
                pixels = images.array(0, settings["shown"])
            features = scorer.features(manifest, len(pixels), [spec])[spec].features
            distances, indices = nearest(comparable(protocol, features, scorer.device), real, settings["nearest"])
            entries = []
            for i, image in enumerate(pixels):
                closest = [
                    {
                        "image": index,
                        "distance": distance,
                        "radius": float(radii[index]),
                        "same pixels": bool(np.array_equal(image, originals[index])),
                    }
                    for distance, index in zip(distances[i].tolist(), indices[i].tolist(), strict=True)
                ]
                entries.append({"image": i, "neighbours": closest})
            facts = {"format": 1, "extractor": spec.extractor, "k": protocol.k, "reference": len(real)}
            write_json(out, facts | {"images": entries})
            rows = [pixels, *([originals[index] for index in row] for row in indices.T.tolist())]  # nearest first
            scale = max(1, round(SIDE / pixels.shape[2]))
            with atomic(picture) as file:
                imageset.write_grid(file, [image for row in rows for image in row], columns=len(pixels), scale=scale)
            record.write([out, picture])
            closest = [entry["neighbours"][0] for entry in entries]
            ratios += [neighbour["distance"] / neighbour["radius"] for neighbour in closest if neighbour["radius"]]
            with_copies += sum(not neighbour["radius"] for neighbour in closest)
    run, seed = samples[0].parts[-5:-3]
    texts = [f"nearest at {min(ratios):.2f} to {max(ratios):.2f} radii of training images"] if ratios else []
    if with_copies:
        texts.append(f"{with_copies} nearest to a training image with {protocol.k} or more copies, whose radius is 0")
    return f"neighbours {run} {seed}: {'; '.join(texts)}"


def nearest(generated: torch.Tensor, real: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, count) distances and indices of the rows of `real` (N, D) nearest to each row of `generated` (n, D), nearest
    first; float64, so that equal features are at distance zero."""
    points = generated.double().cpu()
    blocks = [
        torch.cdist(points, block.double().cpu(), compute_mode="donot_use_mm_for_euclid_dist")
        for block in real.split(BLOCK)  # no copy of all training images in float64: 4 GB for 120 000 of them
    ]
    distances = torch.cat(blocks, dim=1)
    closest = distances.topk(min(count, len(real)), dim=1, largest=False, sorted=True)
    return closest.values, closest.indices


main = job.program(neighbours)
