"""The walk of tests/helpers/walk.py over a project with the graph, records and stages of the real one, whose jobs take
no time. Steps follow from SEED; `pytest -s` prints them. `python -m tests.helpers.real_walk` walks with the real jobs.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lct.files.hashing import sha256_text
from lct.files.records import settings_path
from lct.lineage.snakemake_adapter import plan_jobs
from lct.lineage.verify import verify
from tests.helpers import ROOT
from tests.helpers import fake_lineage as fake
from tests.helpers.walk import Look, Walk, dangling, look

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


class StandInWalk(Walk):
    """The walk over jobs that take no time."""

    scale = "toy"
    config: dict[str, str] = {}

    def __init__(self, folder: Path):
        super().__init__(folder, SEED)
        jobs = fake.jobs_in(folder).values()
        self.outputs, self.with_records = (
            [path for job in jobs for path in job[kind]] for kind in ("outputs", "roles")
        )

    def setting(self) -> str:
        jobs = fake.jobs_in(self.folder)
        rule = self.random.choice(sorted(jobs))
        jobs[rule]["settings"]["training"]["lr"] = value = self.random.choice((0.001, 0.001, 0.002, 0.003))
        fake.write_jobs(self.folder, list(jobs.values()))
        return f"{rule} lr {value}"

    def run(self) -> str:
        self.follow_advice(verify(fake.auditor(self.folder), "toy").faults)
        if not (lost := dangling(self.folder, "toy")):
            rules = {job.rule for job in plan_jobs(self.folder, {}) if job.due}
            fake.finish(self.folder, rules)
            return f"{len(rules)} jobs"
        return f"refused, as {len(lost)} links lead to nothing: {self.restored()}"

    def own_run(self) -> str:
        self.restored()
        self.follow_advice(verify(fake.auditor(self.folder), "toy").faults)
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

    def look(self) -> Look:
        here = [path for path in self.with_records if (self.folder / path).exists() and path[:7] == "results"]
        return look(self.folder, "toy", fake.auditor(self.folder), here, lambda: plan_jobs(self.folder, {}))

    def differing(self, jobs=()) -> set[str]:
        contents = expected(fake.jobs_in(self.folder))
        return {
            path
            for path, content in contents.items()
            if not (self.folder / path).exists() or (self.folder / path).read_text() != content
        }


def test_a_walk_ends_as_a_fresh_run_and_hides_nothing_on_its_way(tmp_path):
    walk = StandInWalk(fake.make(tmp_path / "project"))
    fake.finish(walk.folder)
    print(f"seed {SEED}")
    for number in range(1, STEPS + 1):
        step = walk.random.choice(walk.steps())
        step = walk.own_run if number in OWN_RUNS else walk.kill if number in KILLS else step
        what = step()
        print(f"{number:2} {step.__name__:12} {what}: {walk.check()}", flush=True)
    walk.own_run()
    assert walk.differing() == set()
    fresh = fake.make(tmp_path / "fresh", list(fake.jobs_in(walk.folder).values()), git=False)
    fake.finish(fresh)
    for path in expected(fake.jobs_in(fresh)):
        for name in (path, str(settings_path(path))):
            if (fresh / name).exists():
                assert (walk.folder / name).read_bytes() == (fresh / name).read_bytes(), name
