"""kill -9 at 20 seeded random moments across the smoke graph, any process of the tree: the same command ends it, and
tables and weights are those of an undisturbed run, byte for byte. Under LCT_KILL_LOG=FILE the log of kills is kept.

A kill comes a random time after the graph has got as far as its share of it, so that the kills meet every stage on fast
and on busy machines."""

import os
import random
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest

from lct.files.hashing import sha256_file
from tests.helpers.copies import SMOKE, processes, project, snakemake, start

KILLS, SEED = 20, 2502
LONGEST = 4.0  # seconds from a kill's share of the graph to the kill, at most
LATE = ("sample", "features", "metrics", "tables")  # removed when the graph ends before the last kill
TABLES = "results/smoke/tables/tables.json"


def name(process: psutil.Process) -> str:
    """What a process is: snakemake, the shell of a rule, or a job with its run and seed."""
    try:
        words = process.cmdline()
    except psutil.NoSuchProcess:
        return "gone"
    modules = [word.removeprefix("lct.jobs.") for word in words if word.startswith("lct.jobs.")]
    if modules:
        out = [words[i + 1] for i, word in enumerate(words[:-1]) if word in ("--out", "--train", "--samples")]
        return f"job {modules[0]} {'/'.join(Path(out[-1]).parts[-3:]) if out else ''}".strip()
    if "snakemake" in words:
        return "snakemake"
    return "shell of a rule" if words and "bash" in words[0] else f"helper {' '.join(words[:3])[:40]}"


def recorded(folder: Path) -> int:
    """How far the graph is: outputs with a record of their run."""
    found = os.walk(folder / "results")  # folders may vanish meanwhile
    return sum(name.endswith(".run.json") for _, _, names in found for name in names)


def weights(folder: Path) -> dict[str, str]:
    files = (folder / "results/smoke/train").rglob("*.safetensors")
    return {str(path.relative_to(folder)): sha256_file(path) for path in files}


@pytest.mark.slow
def test_after_twenty_kills_the_tables_are_those_of_an_undisturbed_run(tmp_path, warm_variables):
    undisturbed = project(tmp_path / "undisturbed")
    done = snakemake(undisturbed, *SMOKE, **warm_variables)
    assert done.returncode == 0, done.stdout[-3000:]
    folder, log = project(tmp_path / "killed"), tmp_path / "kills.log"
    draws, began, lines = random.Random(SEED), time.monotonic(), []
    process, sessions = start(folder), set()
    sessions.add(process.pid)
    starts, again = 1, 0
    whole = recorded(undisturbed)
    while len(lines) < KILLS:
        while recorded(folder) < whole * len(lines) / KILLS and process.poll() is None:
            time.sleep(0.02)
        until = time.monotonic() + draws.uniform(0.0, LONGEST)
        while time.monotonic() < until and process.poll() is None:
            time.sleep(0.02)
        if process.poll() is not None:
            if process.returncode == 0:  # it finished between two kills: its last stages again
                for made in LATE:
                    shutil.rmtree(folder / "results/smoke" / made, ignore_errors=True)
                again += 1
            process, starts = start(folder), starts + 1
            sessions.add(process.pid)
            continue
        candidates = processes(sessions)
        victim = draws.choice(candidates)
        running = sorted({name(p) for p in candidates if name(p).startswith("job")})
        said = f"{len(lines) + 1:>2}  {time.monotonic() - began:>6.1f} s  killed: {name(victim)}"
        try:
            os.kill(victim.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        lines.append(f"{said}; running: {', '.join(running) or 'no job yet'}")
        if victim.pid == process.pid:
            process.wait()
        log.write_text("\n".join(lines) + "\n")
    process.wait()
    done = snakemake(folder, *SMOKE)
    if (folder / TABLES).exists() and done.returncode == 0:
        same = (folder / TABLES).read_bytes() == (undisturbed / TABLES).read_bytes()
        equal = sum(weights(folder)[path] == digest for path, digest in weights(undisturbed).items())
        lines.append(
            f"{starts + 1} starts of the same command, {again} of them after its end; {time.monotonic() - began:.0f} s;"
            f" tables.json {'equal' if same else 'DIFFERENT'}, {equal} of {len(weights(undisturbed))} weights equal"
        )
        log.write_text("\n".join(lines) + "\n")
    if "LCT_KILL_LOG" in os.environ:
        shutil.copy(log, os.environ["LCT_KILL_LOG"])
    assert done.returncode == 0, done.stdout[-3000:]
    assert (folder / TABLES).read_bytes() == (undisturbed / TABLES).read_bytes()
    assert weights(folder) == weights(undisturbed) and len(weights(folder)) == 3
    assert not list((folder / "results").rglob("*.partial"))
    assert not processes(sessions), "nothing of the killed runs is left"
