"""A random walk through what happens to a project: after each step, what is not as the configuration makes it is named.

The project has the graph, records and stages of the real one, and jobs that take no time. A model of the walk knows the
bytes that every output should have; the product is asked by plan (as `snakemake -n`, `lct why` and `lct record` do), by
`lct verify`, and by what `lct audit` and `lct status` call outdated. Steps follow from SEED; `pytest -s` prints them.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lct.files.hashing import sha256_text
from lct.files.records import run_path, settings_path
from lct.lineage import record, registry, restore
from lct.lineage.snakemake_adapter import plan_jobs
from lct.lineage.verify import verify
from tests.helpers import ROOT
from tests.helpers import fake_lineage as fake

pytestmark = pytest.mark.slow
SEED = int(os.environ.get("WALK_SEED", "18"))
STEPS = 62
OWN_RUNS = (40,)  # steps at which Snakemake itself runs; at others its jobs are done in this process
KILLS = (12,)


def expected(jobs: dict[str, dict]) -> dict[str, str]:
    """Output -> content that a fresh run of this configuration gives it."""
    contents: dict[str, str] = {}
    for job in jobs.values():
        used = {path: sha256_text(contents[path]) for path in job["inputs"]}
        seed = json.dumps([job["settings"], used], sort_keys=True)
        for path in job["outputs"]:
            digest = hashlib.sha256(f"{seed} {path}".encode()).hexdigest()
            contents[path] = json.dumps({"value": int(digest[:6], 16), "of": digest})
    return contents


def differing(folder: Path) -> set[str]:
    """Outputs that are not what a fresh run makes, or not here."""
    contents = expected(fake.jobs_in(folder))
    return {
        path
        for path, content in contents.items()
        if not (folder / path).exists() or (folder / path).read_text() != content
    }


class Walk:
    """The steps, and what holds after each."""

    def __init__(self, folder: Path):
        self.folder, self.random = folder, random.Random(SEED)
        self.moves = 0

    # --- steps ------------------------------------------------------------------------------------------------------
    def output(self, kind: str = "outputs") -> str:
        """An output that is here; kind `roles`: one with records of its own, which hold its hash."""
        paths = [path for job in fake.jobs_in(self.folder).values() for path in job[kind]]
        return self.random.choice(sorted(path for path in paths if (self.folder / path).exists()) or ["results"])

    def setting(self) -> str:
        jobs = fake.jobs_in(self.folder)
        rule = self.random.choice(sorted(jobs))
        jobs[rule]["settings"]["training"]["lr"] = value = self.random.choice((0.001, 0.001, 0.002, 0.003))
        fake.write_jobs(self.folder, list(jobs.values()))
        return f"{rule} lr {value}"

    def delete(self) -> str:
        path = self.output()
        if (self.folder / path).is_file():
            (self.folder / path).unlink()
        return path

    def lose_record(self) -> str:
        path = self.output()
        for of in self.random.choice(([settings_path], [run_path], [settings_path, run_path])):
            (self.folder / of(path)).unlink(missing_ok=True)
        return path

    def touch(self) -> str:
        path = self.output()
        os.utime(self.folder / path)
        return path

    def damage(self) -> str:
        path = self.folder / (name := self.output("roles"))
        if path.is_file():
            content, status = path.read_bytes(), path.stat()
            path.unlink()  # a link into the cache is replaced
            path.write_bytes(content[:-9] + b"x" + content[-8:])
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        return name

    def copy_file(self) -> str:
        path = self.folder / (name := self.output())
        if path.is_file():
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(content)
        return name

    def forget(self) -> str:
        shutil.rmtree(self.folder / ".snakemake", ignore_errors=True)
        return "Snakemake's metadata"

    def move(self) -> str:
        self.moves += 1
        self.folder = self.folder.rename(self.folder.with_name(f"project-{self.moves}"))
        return self.folder.name

    def copy(self) -> str:
        self.moves += 1
        self.folder = Path(shutil.copytree(self.folder, self.folder.with_name(f"project-{self.moves}"), symlinks=True))
        return self.folder.name

    def restored(self) -> str:
        report = restore.restore(self.folder, "toy")
        return f"{report.restored} as recorded, {len(report.absent)} absent, {len(report.differing)} differ"

    def record(self) -> str:
        report = record.record(self.folder, {}, "toy")
        return f"{len(report.recorded)} recorded, {len(report.left_out)} left out"

    def follow_advice(self) -> None:
        """What `lct verify` prescribes for damaged files: delete them; `lct restore` or a run brings them back."""
        for fault in verify(fake.auditor(self.folder), "toy").faults:
            path = self.folder / fault.split(": ")[0]
            if ": expected sha256" in fault or ": expected 8" in fault:
                path.unlink(missing_ok=True)

    def run(self) -> str:
        self.follow_advice()
        if not (dangling := [path for path in registry.read(self.folder, "toy") if self.dangles(path)]):
            rules = {job.rule for job in plan_jobs(self.folder, {}) if job.due}
            fake.finish(self.folder, rules)
            return f"{len(rules)} jobs"
        return f"refused, as {len(dangling)} links lead to nothing: {self.restored()}"

    def dangles(self, path: str) -> bool:
        return (self.folder / path).is_symlink() and not (self.folder / path).exists()

    def own_run(self) -> str:
        self.restored()
        self.follow_advice()
        result = fake.snakemake(self.folder, "--quiet", "all")
        assert result.returncode == 0, result.stderr[-2000:]
        return "snakemake"

    def kill(self) -> str:
        self.setting()
        here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": here}
        options = {"cwd": self.folder, "env": environment, "start_new_session": True}
        nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen([sys.executable, "-m", "snakemake"], **options, **nowhere)
        time.sleep(seconds := self.random.uniform(2, 6))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"after {seconds:.1f} s"

    # --- what holds -------------------------------------------------------------------------------------------------
    def check(self) -> str:
        """Every output that is not as it should be is named, and nobody calls outdated what a plan leaves alone."""
        asked = fake.auditor(self.folder)
        findings = verify(asked, "toy")
        if dangling := [path for path in registry.read(self.folder, "toy") if self.dangles(path)]:
            assert all(any(fault.startswith(f"{path}: ") for fault in findings.faults) for path in dangling)
            return f"{len(dangling)} links to nothing, each named"  # `snakemake` refuses to start (check_links)
        jobs = plan_jobs(self.folder, {})
        due = {path for job in jobs if job.due for path in job.outputs}
        text = "\n".join((*findings.faults, *findings.notes))
        wrong = differing(self.folder)
        unnamed = {path for path in wrong - due if f"{path}: " not in text}
        assert not unnamed, unnamed
        assert all(job.reasons for job in jobs if job.due)
        with_records = {path for job in fake.jobs_in(self.folder).values() for path in job["roles"]}
        with_records = {path for path in with_records if (self.folder / path).exists() and path[:7] == "results"}
        outdated = {path for path in with_records if asked.outdated(path)}
        assert outdated <= due, outdated - due
        words = ("its settings changed", "made from", "so nothing says")
        for job in jobs:
            if with_records & set(job.outputs) and any(word in " ".join(job.reasons) for word in words):
                assert outdated & set(job.outputs), job.reasons
        return f"{len(wrong)} differ, {len(due)} due, {len(outdated)} outdated, {len(findings.faults)} faults"


def test_a_walk_ends_as_a_fresh_run_and_hides_nothing_on_its_way(tmp_path):
    walk = Walk(fake.make(tmp_path / "project"))
    fake.finish(walk.folder)
    steps = [walk.setting] * 5 + [walk.delete, walk.lose_record, walk.touch, walk.damage] * 3 + [walk.copy_file] * 2
    steps += [walk.run] * 6 + [walk.forget, walk.move, walk.copy, walk.restored, walk.restored, walk.record]
    print(f"seed {SEED}")
    for number in range(1, STEPS + 1):
        step = walk.random.choice(steps)
        step = walk.own_run if number in OWN_RUNS else walk.kill if number in KILLS else step
        what = step()
        print(f"{number:2} {step.__name__:12} {what}: {walk.check()}", flush=True)
    walk.own_run()
    assert differing(walk.folder) == set()
    fresh = fake.make(tmp_path / "fresh", list(fake.jobs_in(walk.folder).values()), git=False)
    fake.finish(fresh)
    for path in expected(fake.jobs_in(fresh)):
        for name in (path, str(settings_path(path))):
            if (fresh / name).exists():
                assert (walk.folder / name).read_bytes() == (fresh / name).read_bytes(), name
