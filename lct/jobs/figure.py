"""What the jobs of the paper's figures share: options, and the output: numbers as JSON, pictures in several formats."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lct.files.atomic import write_bytes, write_json
from lct.jobs import job


def parser(description: str | None) -> argparse.ArgumentParser:
    """Options of a job that measures the latents of a dataset."""
    options = job.parser(description)
    options.add_argument("--latents", type=Path, required=True, help="latents of the training images")
    options.add_argument("--statistics", type=Path, required=True, help="their mean and standard deviation")
    options.add_argument("--out", type=Path, required=True, help="numbers to write (JSON)")
    options.add_argument("--pictures", type=Path, nargs="+", required=True, help="pictures to write: svg, png, pdf")
    return options


def publish(out: Path, pictures: list[Path], numbers: dict[str, Any], draw: Callable[[str], bytes]) -> None:
    """Write the numbers, and their picture in the format of each path; draw(format) gives the bytes."""
    write_json(out, numbers)
    for path in pictures:
        write_bytes(path, draw(path.suffix.removeprefix(".")))
