"""The walk of tests/helpers/walk.py with the real jobs, at smoke scale; it takes half an hour on two cores.

    python -m tests.helpers.real_walk FOLDER [--seed 18] [--steps 62]

Prints a line for each step; goes on from FOLDER/project where that is. After each run, nothing is due and every output
has the content that it had when this configuration was computed first; at the end, that of a fresh run, byte for byte.
"""

import argparse
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from lct.files.hashing import sha256_file, sha256_text
from lct.files.records import settings_path
from lct.lineage import cells
from lct.lineage.snakemake_adapter import Job, plan_jobs
from lct.plan.plan import Plan
from tests.helpers.copies import SMOKE, checkout, processes, snakemake, start
from tests.helpers.copies import project as sources
from tests.helpers.walk import Look, Walk, dangling, look

SCALE = "config/scales/smoke.yaml"
CONFIG = {"scale": "smoke"}
SETTINGS = (  # what stands before a value in SCALE, values
    (r"learning_rate: {kind: cosine, lr: ", ("1.0e-3", "2.0e-3")),
    (r"sampling: {num_images: 64, batch: ", ("32", "16")),
    (r"lct: {curriculum: {s1: 160}, objective: {scale: {c0: ", ("0.03456", "0.05")),
    (r"extractor: {kind: trained, steps: ", ("40", "30")),
    (r"encoding: {batch: ", ("64", "32")),
    (r"num_images: 64, k: ", ("3", "4")),
)
PAGES = (".html", ".md")  # they tell when, where and at what cost
KILLS = (12, 37)


def apart(folder: Path, call: Callable, *words: Any) -> Any:
    """The result of a call in a process of its own in a folder, as commands of a user are."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork"), os.chdir, (folder,)) as pool:
        return pool.submit(call, *words).result()


def look_at(folder: Path, with_records: list[str]) -> Look:
    auditor = cells.auditor(Plan(folder, CONFIG), folder, deep=True)
    here = [path for path in with_records if (folder / path).exists() and path[:7] == "results"]
    return look(folder, "smoke", auditor, here, lambda: plan_jobs(folder, CONFIG, ("all",)))


def contents(folder: Path, jobs: Sequence[Job]) -> dict[str, str]:
    """Output -> sha256 of it and of its settings; without pages."""
    paths = [folder / path for job in jobs for path in job.outputs if (folder / path).exists()]
    return {str(p.relative_to(folder)): sha256_file(p) + settings_text(p) for p in paths if p.suffix not in PAGES}


def settings_text(path: Path) -> str:
    return f" {sha256_file(settings_path(path))}" if settings_path(path).exists() else ""


def identities(jobs: Sequence[Job]) -> dict[str, str]:
    """Output -> hash of all settings that it follows from."""
    makers = {path: job for job in jobs for path in job.outputs}
    hashes: dict[str, str] = {}

    def identity(path: str) -> str:
        if path not in hashes and path in makers:
            job = makers[path]
            hashes[path] = sha256_text(json.dumps([path, job.settings, [identity(p) for p in job.inputs]]))
        return hashes.get(path, path)

    return {path: identity(path) for path in makers}


class RealWalk(Walk):
    """The walk over the graph itself."""

    scale, config = "smoke", CONFIG

    def __init__(self, folder: Path, seed: int):
        super().__init__(folder, seed)
        self.computed: dict[str, str] = {}  # identity of an output -> its content
        self.restored()
        done = snakemake(folder, *SMOKE)
        assert done.returncode == 0, done.stdout[-3000:]
        jobs = apart(folder, plan_jobs, folder, CONFIG, ("all",))
        self.outputs = [path for job in jobs for path in job.outputs]
        self.with_records = [path for path in self.outputs if settings_path(folder / path).exists()]
        self.learn(jobs)

    def learn(self, jobs: Sequence[Job]) -> None:
        """After a run: nothing is due, and what was computed before under these settings is the same again."""
        assert not (due := [(job.rule, job.reasons) for job in jobs if job.due]), due
        self.take_over(jobs)

    def take_over(self, jobs: Sequence[Job]) -> None:
        """Remember what jobs have made that are not due, after a run that was killed also under new settings."""
        names, done = identities(jobs), [job for job in jobs if not job.due]
        for path, content in contents(self.folder, done).items():
            first = self.computed.setdefault(names[path], content)
            assert first == content, f"{path}: other content than when these settings were computed first"

    def setting(self) -> str:
        words, values = self.random.choice(SETTINGS)
        value, place = self.random.choice(values), self.folder / SCALE
        text, count = re.subn(rf"(?m)(^.*\b{re.escape(words)})[^\s,}}]+", rf"\g<1>{value}", place.read_text())
        assert count == 1, words
        place.write_text(text)
        return words + value

    def run(self) -> str:
        """`snakemake`, after what `lct verify` prescribes (delete, `lct restore`); where it refuses to start, after
        what it prescribes itself."""
        answer = self.look()
        if answer.faults or any("(`lct restore`)" in note for note in answer.notes):
            self.follow_advice(answer.faults)
            self.restored()
        due = sum(job.due for job in self.look().jobs or ())
        lost = dangling(self.folder, "smoke")
        done, allowed = self.snakemake(), ""
        if lost:
            assert done.returncode != 0 and "`lct restore`" in done.stdout, done.stdout[-2000:]
            allowed = f"refused, as {len(lost)} links lead to nothing: {self.restored()}; "
            done = self.snakemake()
        assert done.returncode == 0, done.stdout[-3000:]
        assert "Lineage not recorded" not in done.stdout and "left out" not in done.stdout, done.stdout[-3000:]
        self.learn(self.look().jobs)
        return f"{allowed}{due} jobs"

    def snakemake(self) -> subprocess.CompletedProcess:
        return snakemake(self.folder, *SMOKE, "allow_retrain=all")

    def kill(self) -> str:
        before = (self.folder / SCALE).read_text()
        while (self.folder / SCALE).read_text() == before:
            self.setting()
        process = start(self.folder, "allow_retrain=all")
        time.sleep(seconds := self.random.uniform(5, 40))
        members = processes({process.pid})
        for member in members:
            os.kill(member.pid, signal.SIGKILL)
        process.wait()
        self.take_over(self.look().jobs or ())
        return f"{len(members)} processes after {seconds:.1f} s"

    def restored(self) -> str:
        return apart(self.folder, Walk.restored, self)

    def record(self) -> str:
        return apart(self.folder, Walk.record, self)

    def look(self) -> Look:
        return apart(self.folder, look_at, self.folder, self.with_records)

    def differing(self, jobs: Sequence[Job]) -> set[str]:
        now, names = contents(self.folder, jobs), identities(jobs)
        return {
            path for path in names if not path.endswith(PAGES) and now.get(path, "-") != self.computed.get(names[path])
        }


def main(folder: Path, seed: int, steps: int) -> int:
    began = time.monotonic()
    project = folder / "project"
    walk = RealWalk(project if project.exists() else checkout(project), seed)
    print(f"seed {seed}: {len(walk.outputs)} outputs, computed in {time.monotonic() - began:.0f} s", flush=True)
    for number in range(1, steps + 1):
        step = walk.kill if number in KILLS else walk.random.choice(walk.steps())
        print(f"{number:2} {step.__name__:12}", end=" ", flush=True)
        print(f"{step()}: {walk.check()}; {time.monotonic() - began:.0f} s", flush=True)
    print(f"last run: {walk.run()}", flush=True)
    fresh = sources(folder / "fresh")
    shutil.copytree(walk.folder / "config", fresh / "config", dirs_exist_ok=True)
    done = snakemake(fresh, *SMOKE)
    assert done.returncode == 0, done.stdout[-3000:]
    jobs = walk.look().jobs
    expected, now = contents(fresh, jobs), contents(walk.folder, jobs)
    other = sorted(path for path in expected | now if expected.get(path) != now.get(path))
    print(f"{steps} steps, seed {seed}: {len(now) - len(other)} of {len(expected)} outputs as in a fresh run", *other)
    return int(bool(other))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=18)
    parser.add_argument("--steps", type=int, default=62)
    options = parser.parse_args()
    raise SystemExit(main(options.folder.resolve(), options.seed, options.steps))
