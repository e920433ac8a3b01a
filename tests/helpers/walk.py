"""A random walk through what happens to a project: after each step, what is not as the configuration makes it is named.

`Walk` has the steps and what holds after each; a subclass says what the jobs are. A model of the walk knows the content
that every output should have; the product is asked by plan (as `snakemake -n`, `lct why` and `lct record` do), by
`lct verify`, and by what `lct audit` and `lct status` call outdated.
"""

import os
import random
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lct.files.records import run_path, settings_path
from lct.lineage import record, registry, restore
from lct.lineage.audit import Auditor
from lct.lineage.snakemake_adapter import Job
from lct.lineage.verify import verify


@dataclass(frozen=True)
class Look:
    """What the product says of a project."""

    jobs: list[Job] | None  # those of the plan; None where nothing can be planned, as a link leads to nothing
    faults: list[str]
    notes: list[str]
    outdated: set[str]  # outputs with records that an audit calls outdated


def look(folder: Path, scale: str, auditor: Auditor, with_records: Iterable[str], plan: Callable) -> Look:
    """Ask plan, verification and audit; nothing is planned where a recorded link leads to nothing."""
    findings, jobs, outdated = verify(auditor, scale), None, set()
    if not dangling(folder, scale):
        jobs, outdated = plan(), {path for path in with_records if auditor.outdated(path)}
    return Look(jobs, findings.faults, findings.notes, outdated)


def dangling(folder: Path, scale: str) -> list[str]:
    """Recorded files that are links to nothing; with any of them `snakemake` refuses to start (check_links)."""
    return [p for p in registry.read(folder, scale) if (folder / p).is_symlink() and not (folder / p).exists()]


class Walk:
    """The steps, and what holds after each."""

    scale: str
    config: dict[str, str]  # of a run, as after --config
    outputs: list[str]
    with_records: list[str]  # outputs with records of their own, which hold their hash

    def __init__(self, folder: Path, seed: int):
        self.folder, self.random = folder, random.Random(seed)
        self.moves = 0

    # --- what the jobs are ------------------------------------------------------------------------------------------
    def setting(self) -> str:
        """Change a setting of a job."""
        raise NotImplementedError

    def run(self) -> str:
        """Bring the project up to date."""
        raise NotImplementedError

    def look(self) -> Look:
        raise NotImplementedError

    def differing(self, jobs: Sequence[Job]) -> set[str]:
        """Outputs that are not what a fresh run of this configuration makes, or not here."""
        raise NotImplementedError

    # --- steps ------------------------------------------------------------------------------------------------------
    def output(self, paths: Sequence[str] | None = None) -> str:
        """An output that is here."""
        here = [path for path in paths or self.outputs if (self.folder / path).exists()]
        return self.random.choice(sorted(here) or ["results"])

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
        path = self.folder / (name := self.output(self.with_records))
        if path.is_file():
            content, status = path.read_bytes(), path.stat()
            path.unlink()  # a link into the cache is replaced
            path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
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
        report = restore.restore(self.folder, self.scale)
        return f"{report.restored} as recorded, {len(report.absent)} absent, {len(report.differing)} differ"

    def record(self) -> str:
        report = record.record(self.folder, self.config, self.scale)
        return f"{len(report.recorded)} recorded, {len(report.left_out)} left out"

    def steps(self) -> list[Callable[[], str]]:
        """Each as often as it is to be drawn."""
        return [
            *[self.setting] * 5,
            *[self.delete, self.lose_record, self.touch, self.damage] * 3,
            *[self.copy_file] * 2,
            *[self.run] * 6,
            *[self.forget, self.move, self.copy, self.restored, self.restored, self.record],
        ]

    def follow_advice(self, faults: Iterable[str]) -> None:
        """What `lct verify` prescribes for damaged files: delete them; `lct restore` or a run brings them back."""
        for fault in faults:
            if re.search(r": expected (sha256|\d+ bytes)", fault):
                (self.folder / fault.split(": ")[0]).unlink(missing_ok=True)

    # --- what holds -------------------------------------------------------------------------------------------------
    def check(self) -> str:
        """Every output that is not as it should be is named, and nobody calls outdated what a plan leaves alone."""
        answer = self.look()
        if answer.jobs is None:
            lost = dangling(self.folder, self.scale)
            assert all(any(fault.startswith(f"{path}: ") for fault in answer.faults) for path in lost)
            return f"{len(lost)} links to nothing, each named"
        due = {path for job in answer.jobs if job.due for path in job.outputs}
        text = "\n".join((*answer.faults, *answer.notes))
        wrong = self.differing(answer.jobs)
        unnamed = {path for path in wrong - due if path not in text}
        if " files recorded, but not in the workspace" in text or " files gone, but for the records" in text:
            unnamed = {path for path in unnamed if (self.folder / path).exists()}  # a note counts these
        assert not unnamed, unnamed
        assert all(job.reasons for job in answer.jobs if job.due)
        assert answer.outdated <= due, answer.outdated - due
        words = ("its settings changed", "made from", "so nothing says")
        with_records = {path for path in self.with_records if (self.folder / path).exists() and path[:7] == "results"}
        for job in answer.jobs:
            if with_records & set(job.outputs) and any(word in " ".join(job.reasons) for word in words):
                assert answer.outdated & set(job.outputs), job.reasons
        return f"{len(wrong)} differ, {len(due)} due, {len(answer.outdated)} outdated, {len(answer.faults)} faults"
