"""What the jobs of the paper's figures share: numbers as JSON, drawn in every format asked for."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lct.files.atomic import write_bytes, write_json
from lct.jobs import job


def parser(description: str | None) -> argparse.ArgumentParser:
    """Of a job that measures the latents of a dataset."""
    made = job.parser(description or "")
    made.add_argument("--latents", type=Path, required=True, help="latents of the training images")
    made.add_argument("--statistics", type=Path, required=True, help="their mean and standard deviation")
    made.add_argument("--out", type=Path, required=True, help="numbers to write (JSON)")
    made.add_argument("--pictures", type=Path, nargs="+", required=True, help="pictures to write: svg, png, pdf")
    return made


def publish(arguments: argparse.Namespace, numbers: dict[str, Any], draw: Callable[[str], bytes]) -> list[Path]:
    """The numbers, and the picture of them that draw(format) makes, written; the files."""
    write_json(arguments.out, numbers)
    for path in arguments.pictures:
        write_bytes(path, draw(path.suffix.removeprefix(".")))
    return [arguments.out, *arguments.pictures]
