"""The metric protocol as data: everything that a number depends on besides the images measured, and its hash.

Numbers of different hashes are not compared without a visible mark.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
from typing import Any

from lct.metrics.settings import Extractor, Protocol

PACKAGES = ("torch-fidelity", "clean-fid", "scipy", "numpy", "torch")  # whose versions can change a number
RECIPE = 1  # raised when the meaning of this package's numbers changes


def describe(
    protocol: Protocol,
    extractor: Extractor,
    *,
    weights_sha256: str,
    reference_content_sha256: str,
    reference_count: int,
    resolution: int,
) -> dict[str, Any]:
    """A JSON-able description. Content hashes are of pixels and tensors, so that paths and containers do not matter."""
    description = {
        "format": 1,
        "recipe": RECIPE,
        "id": protocol.id,
        "implementation": {name: importlib.metadata.version(name) for name in PACKAGES},
        "extractor": {
            "id": extractor.id,
            "task": extractor.task,
            "settings": dataclasses.asdict(extractor),
            "weights_sha256": weights_sha256,
            "layer": "features",
            "dimension": extractor.features,
            "dtype": "float32 network, float64 features and statistics",
            "batch": protocol.batch,
        },
        "images": {"format": "png", "quality": "lossless", "colour": "RGB uint8", "resize": "none", "side": resolution},
        "reference": {
            "side": protocol.reference,
            "count": reference_count,
            "content_sha256": reference_content_sha256,
        },
        "generated": {"count": protocol.num_images},
        "precision_recall": {"k": protocol.k},
    }
    return json.loads(json.dumps(description))  # tuples become lists, as in any file it is read back from


def digest(description: dict[str, Any]) -> str:
    """SHA-256 of the description as JSON with sorted keys, hexadecimal."""
    text = json.dumps(description, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def short(description: dict[str, Any]) -> str:
    """The twelve characters shown under tables."""
    return digest(description)[:12]
