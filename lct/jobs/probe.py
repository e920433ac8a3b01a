"""probe: write packages, files and GPUs of a compute node as JSON, for `lct doctor`."""

import argparse
import os
import platform
import sys
import time
from pathlib import Path

from lct.cluster.checks import driver_version, packages, torch_facts
from lct.files.atomic import write_json


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--token", type=Path, required=True, help="file written by the submitting host")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    arguments = parser.parse_args()
    token = arguments.token.read_text().strip() if arguments.token.exists() else None
    gpus = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    write_json(
        arguments.out,
        {
            "token": token,
            "host": platform.node(),
            "python": platform.python_version(),
            "executable": sys.executable,
            "packages": packages(),
            "driver": driver_version(),
            "given_gpus": len(gpus),
            "torch": torch_facts(),
            "time": time.time(),  # last, as the file is written now
        },
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
