"""The lock as a conda environment, for `snakemake --software-deployment-method conda`.

python workflow/envs/render.py            # writes workflow/envs/lct.yaml, as `make lock` does
python workflow/envs/render.py --check    # fails if it is out of date, or if the lock is not complete
"""

import argparse
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCK, REQUIREMENTS, ENVIRONMENT = (ROOT / n for n in ("requirements.lock", "requirements.in", "workflow/envs/lct.yaml"))


def packages(lock: str) -> list[str]:
    """The `name==version ; marker` of every package in the text of a lock."""
    return [m[1].strip() for m in re.finditer(r"^([A-Za-z0-9][^\\\n]*?) ?\\?$", lock, re.MULTILINE)]


def environment(lock: str) -> str:
    """The text of the conda environment."""
    lines = ["# Rendered from requirements.lock by `make lock`; do not edit.", "name: lct", "channels: [conda-forge]"]
    lines += ["dependencies:", "- python=3.11", "- pip", "- pip:"]
    return "\n".join([*lines, *(f"  - {json.dumps(package)}" for package in packages(lock))]) + "\n"


def faults(lock: str, requirements: str) -> list[str]:
    """One line for each package without an exact version or a hash, and for each requirement that is not locked."""
    lines = []
    for entry in re.split(r"\n(?=[A-Za-z0-9])", lock):
        first = entry.splitlines()[0]
        if not re.match(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[^ ]+", entry) or "--hash=sha256:" not in entry:
            lines.append(f"requirements.lock: {first}: expected an exact version and hashes; run `make lock`")
    required = {re.split(r"[<>=~! #]", line)[0].lower() for line in requirements.splitlines() if line[:1] not in "#"}
    missing = required - {package.partition("==")[0].lower() for package in packages(lock)} - {""}
    return lines + [f"requirements.lock: expected {name}, found none; run `make lock`" for name in sorted(missing)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if something is out of date")
    lock = LOCK.read_text(encoding="utf-8")
    if not parser.parse_args().check:
        ENVIRONMENT.write_text(environment(lock), encoding="utf-8")
        return 0
    lines = faults(lock, REQUIREMENTS.read_text(encoding="utf-8"))
    if ENVIRONMENT.read_text(encoding="utf-8") != environment(lock):
        lines.append(
            "workflow/envs/lct.yaml: expected the packages of requirements.lock, found others; run `make lock`"
        )
    print("\n".join(lines), file=sys.stderr, end="\n" if lines else "")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
