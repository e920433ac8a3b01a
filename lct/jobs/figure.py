"""What the jobs of the paper's figures share: options, and the output: numbers as JSON, pictures in several formats."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from matplotlib.figure import Figure

from lct.files.atomic import write_bytes, write_json
from lct.files.records import JobRecord
from lct.report.plotting import picture

Latents = Annotated[Path, "latents of the training images"]
Numbers = Annotated[Path, "numbers to write (JSON)"]
Pictures = Annotated[list[Path], "pictures to write: svg, png, pdf"]


def publish(
    record: JobRecord, out: Path, pictures: list[Path], numbers: dict[str, Any], draw: Callable[[dict], Figure]
) -> None:
    """Write the numbers, their picture in the format of each path, and the records."""
    write_json(out, numbers)
    for path in pictures:
        write_bytes(path, picture(partial(draw, numbers), path.suffix.removeprefix(".")))
    record.write([out, *pictures])
