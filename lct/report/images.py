"""Pictures and curves named in tables.json, read from disk; what cannot be read becomes a reason, not an exception."""

import base64
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

LARGEST = 600_000  # bytes of a picture that goes into the page unchanged
PREVIEW_SIDE = 1280  # pixels of the longer side of the preview of a larger one
SHARP_BELOW = 512  # pictures narrower than this are enlarged by whole factors, pixel by pixel
SHOWN_WIDTH = 384  # about this wide


@dataclass(frozen=True)
class Picture:
    """A picture for the page, or why there is none."""

    path: str | None
    uri: str = ""  # data URI
    width: int = 0  # shown width in CSS pixels
    height: int = 0
    pixelated: bool = False
    note: str = ""  # what was done to it
    missing: str = ""  # why there is none; empty if there is one


def inside(root: Path, name: str | None) -> tuple[Path | None, str]:
    """The existing file `name` under root, or None and the reason. It may be a link into a cache elsewhere."""
    if not name:
        return None, "not available"
    path = root / name
    if Path(name).is_absolute() or Path(os.path.normpath(name)).parts[:1] == (os.pardir,):
        return None, "not available (outside the project)"
    return (path, "") if path.is_file() else (None, "not available (no such file)")


def picture(root: Path, name: str | None) -> Picture:
    """A PNG or JPEG as a data URI; large ones as a reduced preview, tiny ones enlarged without smoothing."""
    path, reason = inside(root, name)
    if path is None:
        return Picture(name, missing=reason)
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content), formats=["PNG", "JPEG"]) as image:
            image.load()
            kind, (width, height) = image.format.lower(), image.size
            note = ""
            if len(content) > LARGEST:
                image = image.convert("RGB")
                image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE), Image.Resampling.BOX)
                buffer = io.BytesIO()
                image.save(buffer, "JPEG", quality=88)
                note, kind, content = f"preview of {width} × {height} pixels", "jpeg", buffer.getvalue()
                width, height = image.size
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        return Picture(name, missing=f"not available ({type(error).__name__} while reading it)")
    small = width < SHARP_BELOW
    factor = max(1, round(SHOWN_WIDTH / width)) if small else 1
    uri = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return Picture(name, uri, width * factor, height * factor, small, note)


STRIP_IMAGES, STRIP_HEIGHT = 8, 64  # images of a strip, and the most pixels that one is high


def strip(root: Path, name: str | None, resolution: int) -> Picture:
    """The first images of a grid of images of `resolution` pixels, each drawn 2 x 2 with a line between
    (`lct.data.imageset.write_grid`), side by side."""
    path, reason = inside(root, name)
    if path is None:
        return Picture(name, missing=reason)
    try:
        with Image.open(path, formats=["PNG"]) as grid:
            side = 2 * resolution + 1
            width, height = min(grid.width, STRIP_IMAGES * side + 1), min(grid.height, side + 1)
            row = grid.convert("RGB").crop((1, 1, width - 1, height - 1))
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        return Picture(name, missing=f"not available ({type(error).__name__} while reading it)")
    row.thumbnail((row.width, STRIP_HEIGHT), Image.Resampling.BOX)
    buffer = io.BytesIO()
    row.save(buffer, "PNG")
    uri = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return Picture(name, uri, row.width, row.height, resolution < STRIP_HEIGHT)


def curve(root: Path, name: str | None) -> dict[str, list[Any]] | str:
    """The lists of a curves.json, or the reason why there are none."""
    path, reason = inside(root, name)
    if path is None:
        return reason
    try:
        lists = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"not available ({type(error).__name__} while reading it)"
    if not isinstance(lists, dict) or not isinstance(lists.get("step"), list):
        return "not available (no list of steps in it)"
    steps = len(lists["step"])
    whole = {key: values for key, values in lists.items() if isinstance(values, list) and len(values) == steps}
    return whole if steps else "not available (no step in it)"
