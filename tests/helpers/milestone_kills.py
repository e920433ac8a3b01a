"""kill -9 at ten seeded moments of a training of three milestones: each start is a process of its own, a moment is a
step, or just before a finished file is renamed. Prints a line for each kill, and how many files are as without kills.

python -m tests.helpers.milestone_kills FOLDER
"""

import os
import random
import signal
import sys
from pathlib import Path

from lct.config.schema import plain
from lct.data.settings import Encoding
from lct.files.hashing import sha256_file
from lct.files.tensors import write_tensors
from lct.jobs.train import train_run
from lct.training.trainer import Trainer
from tests.helpers.latents import statistics
from tests.helpers.tiny_training import latents, settings

MILESTONES, KILLS, SEED = (3, 6, 12), 10, 16


def watched(folder: Path, moments: set[int]) -> None:
    """Write every event of this process to events.txt, and kill the process at the numbers of `moments`."""
    step, rename = Trainer.step, os.replace

    def event(words: str) -> None:
        with open(folder / "events.txt", "a+") as events:
            events.write(f"{words}\n")
            events.seek(0)
            number = len(events.readlines())
        if number in moments:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched_step(self, number: int, *words, **more):
        event(f"step {number}")
        return step(self, number, *words, **more)

    def watched_rename(source, target) -> None:
        event(f"before {Path(target).name} is renamed")
        rename(source, target)

    Trainer.step, os.replace = watched_step, watched_rename


def start(folder: Path, step: int, moments: set[int]) -> int:
    """The exit code of the job of one milestone; that of a killed one is its signal, as a negative number."""
    child = os.fork()
    if child == 0:
        try:
            watched(folder, moments)
            values = {"recipe": 1, "training": plain(settings(keep_steps=MILESTONES[:-1]))}
            inputs = (folder.parent / "latents.safetensors", folder.parent / "statistics.safetensors")
            train_run(values, "cpu", 0, *inputs, folder / "work", folder / "out", save_seconds=0.0, step=step)
        except BaseException as error:  # noqa: BLE001 the parent has to hear of anything
            print(error, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def chain(folder: Path, moments: set[int]) -> list[str]:
    """Every milestone until it ends well, without the outputs that a start before has left, as Snakemake does it."""
    folder.mkdir()
    lines = []
    for step in MILESTONES:
        while (code := start(folder, step, moments)) != 0:
            if code != -signal.SIGKILL:
                raise RuntimeError(f"milestone {step}: expected an end by kill -9, found exit code {code}")
            events = (folder / "events.txt").read_text().splitlines()
            lines.append(f"{len(lines) + 1:>2}  milestone {step:>2}, event {len(events):>3}: killed at {events[-1]}")
            print(lines[-1], flush=True)
            for path in (folder / "out").glob("curves.json*" if step == MILESTONES[-1] else f"step{step}-*"):
                path.unlink()
    return lines


def outputs(folder: Path) -> dict[str, str]:
    files = [path for path in (folder / "out").iterdir() if not path.name.endswith((".run.json", ".settings.json"))]
    return {path.name: sha256_file(path) for path in files}


def main(folder: Path) -> int:
    z = 3.0 * latents(64) + 1.0
    write_tensors(folder / "latents.safetensors", {"latents": z})
    write_tensors(folder / "statistics.safetensors", statistics(z, Encoding()).tensors())
    chain(folder / "undisturbed", set())
    events = len((folder / "undisturbed/events.txt").read_text().splitlines())
    lines = chain(folder / "killed", set(random.Random(SEED).sample(range(1, events + 1), KILLS)))
    expected, resumed = outputs(folder / "undisturbed"), outputs(folder / "killed")
    equal = sum(resumed.get(name) == digest for name, digest in expected.items())
    print(f"{len(lines)} kills: {equal} of {len(expected)} files equal")
    return 0 if resumed == expected and len(lines) == KILLS else 1


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
