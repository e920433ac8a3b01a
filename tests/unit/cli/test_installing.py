"""Every `make install` and `pip install` that a message prescribes, done as printed where it is printed, from a
folder of wheels in the place of the network."""

import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from lct.cluster import checks
from lct.export import wandb
from lct.losses import objective
from lct.plan.plan import Plan
from tests.helpers import ROOT

pytestmark = pytest.mark.slow
SITE = Path(sysconfig.get_path("purelib"))
HEIF = b"\0\0\0\x18ftypheic" + bytes(12)  # its first bytes, then the pixels as the module below reads them
READ_HEIF = f"from lct.data.decode import decode; print(decode(lambda: {HEIF!r}, 'a.heic', 2).shape)"
MODULES = {  # package -> a module in the place of its own
    "greeting": "",
    "elatentlpips": """
class ELatentLPIPS:
    def __init__(self, **options):
        self.options = options
    to = eval = requires_grad_ = lambda self, *_: self
""",
    "wandb": "def main():\n    print('logged in')\n",
    "pillow-heif": """
from PIL import Image, ImageFile
class Heif(ImageFile.ImageFile):
    format = "HEIF"
    def _open(self):
        self._size, self._mode, self.tile = (2, 2), "RGB", [("raw", (0, 0, 2, 2), 12, ("RGB", 0, 1))]
def register_heif_opener():
    Image.register_open("HEIF", Heif, lambda start: start[4:8] == b"ftyp")
    Image.register_extension("HEIF", ".heic")
""",
}


class Environment(NamedTuple):
    """A project with a virtual environment of its own, and what runs a command line with it."""

    root: Path
    site: Path
    run: Callable[..., str]


def write_wheel(folder: Path, package: str) -> str:
    """Write a wheel of MODULES; returns its hash."""
    name = package.replace("-", "_")
    metadata = {
        "METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
        "RECORD": "",
    }
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", MODULES[package])
        for file, text in metadata.items():
            wheel.writestr(f"{name}-1.0.dist-info/{file}", text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Environment:
    folder = tmp_path_factory.mktemp("installing")
    root, wheels = folder / "project", folder / "wheels"
    wheels.mkdir()
    hashes = {package: write_wheel(wheels, package) for package in MODULES}
    shutil.copytree(ROOT / "lct", root / "lct", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, root / name)
    for name in ("requirements.lock", "requirements-cuda12.lock"):
        (root / name).write_text(f"greeting==1.0 \\\n    --hash=sha256:{hashes['greeting']}\n")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root / ".venv"], check=True)
    (site,) = (root / ".venv/lib").glob("python*/site-packages")
    for path in (SITE / "pip", SITE / "_distutils_hack", *SITE.glob("setuptools*")):
        (site / path.name).symlink_to(path)
    pip = root / ".venv/bin/pip"
    pip.write_text(f'#!/bin/sh\nexec "{root}/.venv/bin/python" -m pip "$@"\n')
    pip.chmod(0o755)
    places = {"PATH": f"{root}/.venv/bin:{os.environ['PATH']}", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    places |= {"PIP_CONFIG_FILE": os.devnull, "HOME": str(folder)}

    def run(command: str, **more: str) -> str:
        done = subprocess.run(
            command, shell=True, cwd=root, env=os.environ | places | more, capture_output=True, text=True
        )
        assert done.returncode == 0, (command, done.stdout + done.stderr)
        return done.stdout

    return Environment(root, site, run)


def printed(text: str, start: str) -> str:
    """The command between backticks that starts so."""
    return re.search(f"`({start}[^`]*)`", text)[1]


def test_make_install_puts_the_locked_packages_where_doctor_misses_them(environment, monkeypatch):
    def packages() -> dict[str, str]:
        return {d.metadata["Name"]: d.version for d in importlib.metadata.distributions(path=[str(environment.site)])}

    monkeypatch.setattr(checks, "packages", packages)
    before = checks.check_packages(environment.root)
    assert before.level == "warn" and "greeting missing instead of 1.0" in before.line()
    environment.run(printed(before.line(), "make install"))
    assert checks.check_packages(environment.root).level == "ok" and packages().keys() == {
        "greeting",
        "lct",
        "setuptools",
    }
    driver = checks.check_driver("530.41", "13.0", "this machine")
    environment.run(printed(driver.line(), "make install"))
    assert [path.name for path in (environment.root / ".venv").glob(".installed*")] == [".installed-cuda12"]
    torch = checks.check_driver("530.41", None, "this machine")
    assert printed(torch.line(), "make") == printed(before.line(), "make")


def test_an_optional_package_is_there_after_what_its_absence_prints(environment, monkeypatch):
    monkeypatch.setitem(sys.modules, objective.PACKAGE, None)
    with pytest.raises(ValueError) as caught:
        objective.load_perceptual()
    monkeypatch.setattr(checks.importlib.util, "find_spec", lambda name: None)
    plan = Plan(ROOT, {"scale": "paper"})
    (finding,) = checks.check_optional(plan)
    assert printed(finding.line(), "pip") == printed(str(caught.value), "pip")
    environment.run(printed(finding.line(), "pip"))
    environment.run(printed(str(caught.value), "python"), PYTHONPATH=str(SITE))
    with pytest.raises(ValueError) as caught:
        wandb.log(plan, environment.root, "all", "project")
    assert "logged in" in environment.run(printed(str(caught.value), "pip"))
    failing = f"! python -c {READ_HEIF!r} 2>&1"
    environment.run(printed(environment.run(failing, PYTHONPATH=str(SITE)), "pip"))
    assert environment.run(failing[2:], PYTHONPATH=str(SITE)) == "(2, 2, 3)\n"
