"""What the jobs of the paper's figures share: options, and the output: numbers as JSON, pictures in several formats."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from matplotlib.figure import Figure

from lct.files.atomic import write_bytes, write_json
from lct.files.records import JobRecord
from lct.report import plotting

Latents = Annotated[Path, "latents of the training images"]
Numbers = Annotated[Path, "numbers to write (JSON)"]
Pictures = Annotated[list[Path], "pictures to write: svg, png, pdf"]


def publish(
    record: JobRecord, out: Path, pictures: list[Path], numbers: dict[str, Any], draw: Callable[[dict], Figure]
) -> None:
    """Write the numbers, their picture in the format of each path, and the records."""
    write_json(out, numbers)
    paths = {path.suffix.removeprefix("."): path for path in pictures}
    for kind, content in plotting.pictures(partial(draw, numbers), paths).items():
        write_bytes(paths[kind], content)
    record.write([out, *pictures])
