"""What the situations share: a recorded project with a git remote and a folder as DVC's remote, and clones of it.

The project has the graph and records of the real one, and jobs that take no time. A script takes an empty FOLDER, and
prints a line for each step. Exit code 0: the product behaves."""

import json
import subprocess
import sys
from pathlib import Path

from lct.lineage import dvc, record, registry
from lct.lineage.audit import Auditor
from lct.lineage.snakemake_adapter import plan_jobs
from lct.lineage.verify import Findings, verify
from tests.helpers import fake_lineage as fake

PAGES = {"tables", "report"}  # jobs that show numbers and measure none


def graph_of(*runs: str) -> list[dict]:
    """The toy graph with these runs, "0" to "5", and seeds of them, such as "0/s2"; its tables hold their numbers.
    A seed takes the place of one of the last runs."""
    text = json.dumps(fake.graph(runs=10))
    for i, run in enumerate(run for run in runs if "/" in run):
        name, seed = run.split("/")
        text = text.replace(f"run-{9 - i}/s0", f"run-{name}/{seed}").replace(f"run-{9 - i}", f"run-{name}-{seed}")
    names = {f"run-{run.replace('/', '-')}" for run in runs}
    jobs = json.loads(text)
    absent = {path for job in jobs if is_of_run(job) and job["rule"].split("_")[1] not in names
              for path in job["outputs"]}  # fmt: skip
    jobs = [job for job in jobs if not absent.intersection(job["outputs"])]
    for job in jobs:
        job["inputs"] = [path for path in job["inputs"] if path not in absent]
        for path, inputs in job["roles"].items():
            job["roles"][path] = {role: used for role, used in inputs.items() if used not in absent}
    return jobs


def is_of_run(job: dict) -> bool:
    return job["rule"].startswith(("train_", "sample_", "score_"))


def git(folder: Path, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False)


def lct(folder: Path, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "lct.cli.main", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def due(folder: Path) -> set[str]:
    return {job.rule for job in plan_jobs(folder, {}) if job.due}


def verified(folder: Path, scale: str = "toy") -> Findings:
    """What `lct verify` finds, but for the manifests, which hold no sizes in this project."""
    findings = verify(Auditor(folder, registry.read(folder, scale), dvc.read_lock(folder), lambda *_: None), scale)
    findings.faults = [fault for fault in findings.faults if "expected a manifest with" not in fault]
    return findings


def extend(folder: Path, scale: str, jobs: list[dict]) -> None:
    """Compute what is due, record, commit."""
    fake.write_jobs(folder, jobs)
    fake.finish(folder, due(folder))
    assert record.record(folder, {}, scale).left_out == {}
    fake.commit(folder, f"Record {scale}")


def push(folder: Path, branch: str) -> None:
    dvc.run(folder, "push", "--quiet")
    assert git(folder, "push", "-q", "origin", f"HEAD:{branch}").returncode == 0


def base(folder: Path) -> None:
    """A recorded project with one run, its git remote `origin.git` and its DVC remote `store` beside it."""
    project = fake.make(folder / "base", graph_of("0"), git=False)
    with open(project / ".gitignore", "a") as ignored:
        ignored.write("graph.json\n")  # what each side declares
    settings = (project / ".dvc/config").read_text().replace("[core]", "[core]\n    remote = store")
    (project / ".dvc/config").write_text(f"{settings}['remote \"store\"']\n    url = {folder}/store\n")
    (project / ".dvc/config.local").write_text(f"[cache]\n    dir = {folder}/cache-base\n")
    for words in (["init", "-q", "-b", "main"], ["config", "user.name", "t"], ["config", "user.email", "t@t"]):
        git(project, *words)
    fake.commit(project, "start")
    extend(project, "toy", graph_of("0"))
    assert git(folder, "clone", "-q", "--bare", str(project), "origin.git").returncode == 0


def clone(folder: Path, name: str, jobs: list[dict]) -> Path:
    """A clone with a cache of its own, which holds nothing yet."""
    assert git(folder, "clone", "-q", "origin.git", name).returncode == 0
    path = folder / name
    for words in (["config", "user.name", "t"], ["config", "user.email", "t@t"]):
        git(path, *words)
    (path / ".dvc/config.local").write_text(f"[cache]\n    dir = {folder}/cache-{name}\n")
    fake.write_jobs(path, jobs)
    return path
