"""probe: what a compute node sees, for `lct doctor`; writes it as JSON beside the token it was given."""

import argparse
import os
import platform
import sys
import time
from pathlib import Path

from lct.cluster.machine import packages, torch_facts
from lct.files.atomic import write_json


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--token", type=Path, required=True, help="file written by the submitting host")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    arguments = parser.parse_args()
    seen = arguments.token.read_text().strip() if arguments.token.exists() else None
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    write_json(
        arguments.out,
        {
            "token": seen,
            "host": platform.node(),
            "python": platform.python_version(),
            "executable": sys.executable,
            "packages": packages(),
            "given_gpus": len([name for name in given.split(",") if name.strip()]),
            "torch": torch_facts(),
            "time": time.time(),  # last: the answer is written now
        },
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
