"""The room plan: who may import whom, what parses without torch, and what the lock and the schemas promise."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lct.cli.verbs import SCHEMAS, lock_pins
from lct.config.schema import schema
from tests.helpers import ROOT

SETTINGS = {
    f"{room}.settings" for room in ("data", "download", "losses", "metrics", "networks", "sampling", "training")
}
ALLOWED = {  # room -> rooms (or modules) it may import from lct; a room may always import itself and `streams`
    "streams": set(),
    "schedules": set(),
    "files": set(),
    "losses": {"schedules"},
    "networks": set(),
    "download": {"files"},
    "data": {"download.settings", "files"},
    "config": SETTINGS | {"schedules", "networks.layout"},
    "lineage": {"config", "files"},
    "cluster": {"config", "files"},
    "training": {"schedules", "losses", "networks", "data", "config", "files"},
    "sampling": {"schedules", "losses", "networks", "data", "config", "files"},
    "metrics": {"data"},
    "report": {"config", "files"},
    "export": {"schedules", "networks", "data", "sampling", "config", "files"},
    "cli": {"*"},
}


def imports(path: Path) -> set[str]:
    """Modules of lct that a file imports, without the leading `lct.`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lct."):
            found.add(node.module.removeprefix("lct."))
        elif isinstance(node, ast.ImportFrom) and node.module == "lct":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("lct.") for a in node.names if a.name.startswith("lct.")}
    return found


FILES = sorted(p for p in (ROOT / "lct").rglob("*.py") if p.name != "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_room_imports_only_what_the_plan_allows(path):
    room = path.relative_to(ROOT / "lct").parts[0].removesuffix(".py")
    allowed = ALLOWED[room] | {room, "streams"}
    wrong = {m for m in imports(path) if "*" not in allowed and m not in allowed and m.split(".")[0] not in allowed}
    assert not wrong, f"{path}: imports {wrong}, the plan allows {sorted(allowed)}"


def test_every_import_of_the_package_is_seen_by_the_check():
    assert {"config.plan", "files.records"} <= imports(ROOT / "lct" / "report" / "collect.py") | imports(
        ROOT / "lct" / "cli" / "tables.py"
    )


def test_parsing_the_graph_imports_no_torch():
    program = (
        "import sys, pathlib; from lct.plan.plan import Plan; import lct.cluster.start, lct.cluster.resources, "
        "lct.files.records, lct.report.files; Plan(pathlib.Path('.'), {'scale': 'mini'}); "
        "print(sorted({'torch', 'diffusers', 'torch_fidelity', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_the_committed_schemas_are_those_of_the_dataclasses(name):
    committed = json.loads((ROOT / "workflow" / "schemas" / f"{name}.schema.json").read_text())
    assert committed == schema(SCHEMAS[name]), "run `make schemas`"


def described(entry: dict) -> list[str]:
    """Keys of a schema's settings that have no description."""
    missing = []
    for key, value in entry.get("properties", {}).items():
        if key != "kind" and "description" not in value:
            missing.append(key)
        missing += described(value)
    return missing


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_every_key_of_a_schema_is_described(name):
    assert described(schema(SCHEMAS[name])) == []


def test_the_environment_file_is_the_lock():
    environment = yaml.safe_load((ROOT / "workflow" / "envs" / "lct.yaml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert pip == lock_pins(ROOT / "requirements.lock"), "run `make lock`"
    assert len(pip) > 100


def test_every_package_of_the_lock_has_an_exact_version_and_hashes():
    entries = re.split(r"\n(?=[A-Za-z0-9])", (ROOT / "requirements.lock").read_text())
    for entry in entries:
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[^ ]+", entry), entry.splitlines()[0]
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


def test_every_requirement_is_in_the_lock():
    wanted = {
        re.split(r"[<>=~! #]", line)[0].lower()
        for line in (ROOT / "requirements.in").read_text().splitlines()
        if line and not line.startswith("#")
    }
    locked = {re.split(r"==", pin)[0].lower() for pin in lock_pins(ROOT / "requirements.lock")}
    assert wanted <= locked


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_the_lock_resolves_for_every_supported_python(version, tmp_path):
    command = [sys.executable, "-m", "uv", "pip", "install", "--dry-run", "--no-deps", "--require-hashes"]
    command += ["--target", str(tmp_path), "--python-version", version, "-r", str(ROOT / "requirements.lock")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "torch==" in done.stderr


def test_the_profile_carries_the_keys_that_results_rest_on():
    profile = yaml.safe_load((ROOT / "profiles" / "default" / "config.yaml").read_text())
    assert profile["rerun-triggers"] == ["mtime", "params", "input"]
    assert profile["max-checksum-file-size"] == "100GB"
    assert profile["rerun-incomplete"] and profile["nolock"] and profile["keep-going"] and profile["cores"] == "all"


@pytest.mark.parametrize(("strict", "code"), [(True, 1), (False, 0)])
def test_a_skipped_test_fails_the_full_run(tmp_path, strict, code):
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "test_x.py").write_text("import pytest\ndef test_x():\n    pytest.importorskip('no_such_module')\n")
    environment = {k: v for k, v in os.environ.items() if k != "LCT_NO_SKIP"} | ({"LCT_NO_SKIP": "1"} if strict else {})
    command = [sys.executable, "-m", "pytest", "-q", str(tmp_path)]
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == code
