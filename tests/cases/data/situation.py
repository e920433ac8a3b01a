"""What the situations share: pictures, the jobs as their rules call them, and the verdict.

PROJECT: the checkout to try (default: the current folder). A situation ends with exit code 0 where the product behaves,
with 1 where it does not."""

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

PROJECT = os.path.abspath(os.environ.get("PROJECT", "."))
PYTHON = os.environ.get("PYTHON", f"{PROJECT}/.venv/bin/python")
TMP = Path(tempfile.mkdtemp(prefix="case-", dir=os.environ.get("SCRATCH")))
CODE = os.pathsep.join(filter(None, (PROJECT, os.environ.get("PYTHONPATH"))))
PLACES = {"PYTHONPATH": CODE, "PATH": f"{Path(PYTHON).parent}:{os.environ['PATH']}"}
ENV = os.environ | PLACES | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def picture(seed, fmt="JPEG", size=(24, 20), **more):
    """Bytes of a picture of noise, different for every seed."""
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, fmt, **more)
    return out.getvalue()


def call(module, *arguments, env=None, prefix=()):
    """Run a job; `prefix` is put in front of the command, for limits of a process of its own."""
    command = [*prefix, PYTHON, "-m", module, *map(str, arguments)]
    environment = ENV | (env or {}) | ({"LCT_WARM": ""} if prefix else {})
    result = subprocess.run(command, env=environment, cwd=PROJECT, capture_output=True, text=True)
    print(f"[{module}] rc {result.returncode}: {result.stdout.strip()[-700:]}")
    if "Traceback" in result.stderr:
        print("  TRACEBACK", result.stderr.strip().splitlines()[-1][:300])
    result.output = result.stdout + result.stderr
    return result


def images(source, heldout=0, resolution=16, train=None, out=None, **more):
    """The rule `images` on a source, as workflow/rules/data.smk calls it; `names`: the images of both splits."""
    out = out or Path(tempfile.mkdtemp(dir=TMP))
    dataset = {"source": source, "resolution": resolution, "train": train, "heldout": heldout}
    settings = json.dumps({"recipe": 1, "dataset": dataset})
    splits = ("--train", out / "train.zip", "--heldout", out / "heldout.zip")
    result = call("lct.jobs.images", "--settings", settings, *splits, **more)
    result.out = out
    manifests = [out / f"{split}.manifest.json" for split in ("train", "heldout")]
    items = [item for path in manifests if path.exists() for item in json.loads(path.read_text())["items"]]
    result.names = sorted(item["source"] for item in items)
    return result


def verdict(good, why):
    """End the situation."""
    shutil.rmtree(TMP, ignore_errors=True)
    print("OK" if good else "DEFECT", "-", why)
    sys.exit(0 if good else 1)
