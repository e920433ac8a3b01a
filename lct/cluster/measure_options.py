"""The options of `lct measure`, for the verb and for the job behind it."""

import argparse
from pathlib import Path

CHANNELS = 128  # width of the paper's network


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, help="file to write (default: config/devices/CARD.yaml, for a GPU)")
    parser.add_argument("--minutes", type=float, default=8.0, help="stop measuring after so many (default: 8)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement, at most (default: 10)")
    parser.add_argument("--device", default="auto", help="torch device (default: a GPU where there is one)")
    parser.add_argument(
        "--channels", type=int, default=CHANNELS, help="width of the network; fewer than 128 rehearse it on a CPU"
    )
    parser.add_argument("--side", type=int, default=256, help="pixels of decoded and encoded images (default: 256)")
    parser.add_argument("--batch", type=int, default=128, help="samples of a training step (default: 128)")
    parser.add_argument("--write-gb", type=float, default=1.0, help="written to the file system (default: 1)")


def words(arguments: argparse.Namespace) -> list[str]:
    """These options as a command line has them."""
    names = ("out", "minutes", "seconds", "device", "channels", "side", "batch", "write_gb")
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    return [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]
