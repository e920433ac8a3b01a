"""Environments rendered from the locks: one for conda, and for each lock a Docker and an Apptainer recipe.

python workflow/envs/render.py            # writes them, as `make lock` does
python workflow/envs/render.py --check    # fails if one is out of date, or if a lock is not complete
"""

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
REQUIREMENTS, ENVIRONMENT = "requirements.in", "workflow/envs/lct.yaml"
VARIANTS = {"requirements.lock": "", "requirements-cuda12.lock": "-cuda12"}  # lock -> ending of its recipes' names
IMAGE = "python:3.11-slim"
DOCKER = """\
# Rendered from {lock} by `make lock`; do not edit. From the project's folder:
#   docker build -f workflow/envs/lct{variant}.Dockerfile -t lct{variant} .
#   docker run --rm --gpus all --user $(id -u):$(id -g) -v $PWD:/lct lct{variant} snakemake --config scale=smoke
FROM {image}
LABEL torch="{torch}" cuda="{cuda}" lock="sha256:{sha256}"
RUN {system}
COPY {lock} /opt/lct/
RUN echo "{sha256}  /opt/lct/{lock}" | sha256sum --check --quiet
RUN {install}
RUN {command}
ENV HOME=/tmp
WORKDIR /lct
CMD ["snakemake"]
"""
APPTAINER = """\
# Rendered from {lock} by `make lock`; do not edit. From the project's folder:
#   apptainer build lct{variant}.sif workflow/envs/lct{variant}.def
#   apptainer exec --nv lct{variant}.sif snakemake --config scale=smoke
Bootstrap: docker
From: {image}

%labels
    torch {torch}
    cuda {cuda}
    lock sha256:{sha256}

%files
    {lock} /opt/lct/{lock}

%post
    set -e
    {system}
    echo "{sha256}  /opt/lct/{lock}" | sha256sum --check --quiet
    {install}
    {command}

%runscript
    exec "$@"
"""
SYSTEM = (
    "apt-get update && apt-get install -y --no-install-recommends git make && rm -rf /var/lib/apt/lists/*"
    " && git config --system --add safe.directory '*'"
)
INSTALL = "python -m pip install --quiet --no-cache-dir --no-deps --require-hashes -r /opt/lct/{lock}"
COMMAND = (  # the project itself lies outside the image
    "printf '#!/bin/sh\\nexec python -m lct.cli.main \"$@\"\\n' > /usr/local/bin/lct && chmod 755 /usr/local/bin/lct"
)


def packages(lock: str) -> list[str]:
    """The `name==version ; marker` of every package in the text of a lock."""
    return [m[1].strip() for m in re.finditer(r"^([A-Za-z0-9][^\\\n]*?) ?\\?$", lock, re.MULTILINE)]


def environment(lock: str) -> str:
    """The text of the conda environment."""
    lines = ["# Rendered from requirements.lock by `make lock`; do not edit.", "name: lct", "channels: [conda-forge]"]
    lines += ["dependencies:", "- python=3.11", "- pip", "- pip:"]
    return "\n".join([*lines, *(f"  - {json.dumps(package)}" for package in packages(lock))]) + "\n"


def recipe(template: str, name: str, lock: str) -> str:
    """The text of a Docker or Apptainer recipe. name, lock: of the lock, and its text."""
    versions = dict(package.split(" ")[0].split("==") for package in packages(lock))
    cuda = versions.get("nvidia-cuda-runtime") or versions["nvidia-cuda-runtime-cu12"]
    facts = {"torch": versions["torch"], "cuda": cuda, "sha256": hashlib.sha256(lock.encode()).hexdigest()}
    steps = {"system": SYSTEM, "install": INSTALL.format(lock=name), "command": COMMAND}
    return template.format(lock=name, variant=VARIANTS[name], image=IMAGE, **facts, **steps)


def rendered(locks: dict[str, str]) -> dict[str, str]:
    """File -> its text, from the locks' names and texts."""
    texts = {ENVIRONMENT: environment(locks["requirements.lock"])}
    for name, lock in locks.items():
        for ending, template in ((".Dockerfile", DOCKER), (".def", APPTAINER)):
            texts[f"workflow/envs/lct{VARIANTS[name]}{ending}"] = recipe(template, name, lock)
    return texts


def faults(lock: str, requirements: str, name: str = "requirements.lock") -> list[str]:
    """One line for each package without an exact version or a hash, and for each requirement that is not locked."""
    lines = []
    for entry in re.split(r"\n(?=[A-Za-z0-9])", lock):
        first = entry.splitlines()[0]
        if not re.match(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[^ ]+", entry) or "--hash=sha256:" not in entry:
            lines.append(f"{name}: {first}: expected an exact version and hashes; run `make lock`")
    required = {re.split(r"[<>=~! #]", line)[0].lower() for line in requirements.splitlines() if line[:1] not in "#"}
    missing = required - {package.partition("==")[0].lower() for package in packages(lock)} - {""}
    return lines + [f"{name}: expected {package}, found none; run `make lock`" for package in sorted(missing)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if something is out of date")
    locks = {name: (ROOT / name).read_text(encoding="utf-8") for name in VARIANTS}
    texts = rendered(locks)
    if not parser.parse_args().check:
        for name, text in texts.items():
            (ROOT / name).write_text(text, encoding="utf-8")
        return 0
    requirements = (ROOT / REQUIREMENTS).read_text(encoding="utf-8")
    lines = [line for name, lock in locks.items() for line in faults(lock, requirements, name)]
    for name, text in texts.items():
        if not (ROOT / name).exists() or (ROOT / name).read_text(encoding="utf-8") != text:
            lines.append(f"{name}: expected what the lock says, found something else; run `make lock`")
    print("\n".join(lines), file=sys.stderr, end="\n" if lines else "")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
