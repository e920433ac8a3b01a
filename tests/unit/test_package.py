"""The project as a package: the graph parses without torch, the lock resolves, the profile is whole."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.helpers import ROOT

TESTS = ROOT / "tests"


def test_parsing_the_graph_imports_no_torch():
    program = (
        "import sys, pathlib; from lct.plan.plan import Plan; import lct.cluster.run, lct.cluster.resources, "
        "lct.files.records; Plan(pathlib.Path('.'), {'scale': 'mini'}); "
        "print(sorted({'torch', 'diffusers', 'torch_fidelity', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lock", "version"),
    [*(("requirements.lock", v) for v in ("3.11", "3.12", "3.13")), ("requirements-cuda12.lock", "3.12")],
)
def test_a_lock_resolves_for_every_supported_python(lock, version, tmp_path):
    command = [sys.executable, "-m", "uv", "pip", "install", "--dry-run", "--no-deps", "--require-hashes"]
    command += ["--target", str(tmp_path), "--python-version", version, "-r", str(ROOT / lock)]
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
    (tmp_path / "torch.py").write_text(
        "set_num_threads = use_deterministic_algorithms = print\n"
    )  # in place of seconds
    environment = {k: v for k, v in os.environ.items() if k != "LCT_NO_SKIP"} | ({"LCT_NO_SKIP": "1"} if strict else {})
    environment["PYTHONPATH"] = str(tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", str(tmp_path)]
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == code


def test_make_install_installs_the_lock_and_runs_nothing(tmp_path):
    for name in ("Makefile", "requirements.lock", "requirements-cuda12.lock", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)

    def plan(*words: str) -> str:
        command = ["make", "-n", "install", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout

    assert "--require-hashes -r requirements.lock" in plan() and "bin/snakemake" not in plan()
    assert "-m pytest" not in plan() and "-r requirements-cuda12.lock" in plan("CUDA=12") and not plan("CUDA=11")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".installed-cuda12").touch()  # later calls of make keep what is installed
    assert "requirements" not in plan() and "-r requirements.lock" in plan("CUDA=13")


def pins(name: str) -> dict[str, str]:
    """Package -> version of a lock."""
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^ ;]+)", (ROOT / name).read_text(), re.MULTILINE))


def test_the_lock_for_older_drivers_differs_in_torch_and_cuda_alone():
    new, old = pins("requirements.lock"), pins("requirements-cuda12.lock")
    different = {name for name in new.keys() | old.keys() if new.get(name) != old.get(name)}
    cuda = re.compile("torch|torchvision|triton|cuda-.*|nvidia-.*")
    assert {"torch", "torchvision"} <= different and not [name for name in different if not cuda.fullmatch(name)]
    assert old["nvidia-cuda-runtime-cu12"].startswith("12.") and new["nvidia-cuda-runtime"].startswith("13.")
    assert int(old["torch"].split(".")[1]) >= 9


@pytest.mark.parametrize("variant", ["", "-cuda12"])
def test_the_recipes_of_containers_install_the_lock_by_its_hash(variant, tmp_path):
    lock = f"requirements{variant}.lock"
    apptainer, docker = (
        (ROOT / "workflow" / "envs" / f"lct{variant}.{ending}").read_text() for ending in ("def", "Dockerfile")
    )
    post = apptainer.split("%post\n")[1].split("%runscript")[0]
    runs = "\n".join(line.removeprefix("RUN ") for line in docker.splitlines() if line.startswith("RUN "))
    for script in (post, runs):
        assert f"--require-hashes -r /opt/lct/{lock}" in script
        subprocess.run(["sh", "-n"], input=script, text=True, check=True)
        check = next(line.strip() for line in script.splitlines() if "sha256sum" in line)
        subprocess.run(["sh", "-c", check.replace("/opt/lct", str(ROOT))], check=True)
        shim = next(line.strip() for line in script.splitlines() if "/bin/lct" in line)
        subprocess.run(["sh", "-c", shim.replace("/usr/local/bin", str(tmp_path))], check=True)
        shim_words = [tmp_path / "lct", "completion", "bash"]
        environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
        done = subprocess.run(shim_words, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        assert "lct" in done.stdout


def test_what_contributors_run_exists():
    """Each make target of the workflow and of CONTRIBUTING.md, and each tool of the pre-commit hooks."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    jobs = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"]
    runs = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    called = {run.split()[1] for run in runs if run.startswith("make ")}
    called |= set(re.findall(r"^make ([a-z-]+)", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE))
    assert {"test", "test-all", "lint"} <= called <= targets
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    tools = {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in hooks}
    assert tools and all((Path(sys.executable).parent / tool).exists() for tool in tools)


def test_the_start_up_benchmark_times_what_exists_here_and_beside(tmp_path):
    import startup

    assert all(importlib.util.find_spec(name) for name in startup.IMPORTS)
    folders = {tmp_path / name: tmp_path / f"{name}-run" for name in ("here", "there")}
    for folder in folders.values():
        folder.mkdir()
    words = ["-c", "import os; print(os.environ['PYTHONPATH'], file=open('paths', 'a'))"]
    assert all(wall > 0 and cpu > 0 for wall, cpu in startup.seconds(words, folders, repeats=3))
    assert [(folder / "paths").read_text() for folder in folders.values()] == [
        f"{checkout}\n" * 3 for checkout in folders
    ]


def test_each_kind_of_situation_has_two_further_examples_that_exist():
    sources = (path.read_text() for path in TESTS.rglob("test_*.py"))
    functions = {name for text in sources for name in re.findall(r"^def (test_\w+)", text, re.M)}
    lines = (TESTS / "cases/README.md").read_text().splitlines()
    rows = [line.split("|")[1:4] for line in lines if line.startswith("| ")]
    scripts, named = {f"{path.parent.name}/{path.name[:2]}" for path in TESTS.glob("cases/*/[0-9]*")}, set()
    for kind, of_kind, examples in rows[1:]:
        names = re.findall(r"test_\w+", examples)
        assert len(set(names)) >= 2 and set(names) <= functions, (kind, set(names) - functions)
        named |= set(re.findall(r"\w+/[0-9]+", of_kind))
    assert scripts == named
