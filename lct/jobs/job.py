"""What every job of the graph shares: arguments, logging, one-line errors, exit codes, progress.

A job module has two parts: a function whose parameters are the job's inputs, typed and named as its options, and a
`main` that builds the parser and calls `run(function, parser.parse_args())`.

Standard error is the log (`2> {log}` in the rules); standard output is the terminal: one line per finished job.
Exit codes: 0 finished; 1 failed, one line says why; 2 wrong arguments; 75 interrupted with its state saved;
130 interrupted without one.
"""

import argparse
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from lct.files.lock import LockHeldError
from lct.files.progress import ProgressLogger

FAILED, INTERRUPTED = 1, 75  # 75: EX_TEMPFAIL, "try again"
log = logging.getLogger("lct")
T = TypeVar("T")


class InterruptedJobError(Exception):
    """A signal or the wall time ended the job; its state is saved."""


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the two options that every job has, `--settings` and `--device`."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--settings", type=settings_json, required=True, help="the stage's resolved settings, as JSON")
    options.add_argument(
        "--device",
        default=os.environ.get("LCT_DEVICE", "auto"),
        help="torch device; auto takes a GPU when there is one (default: LCT_DEVICE in the environment, or auto)",
    )
    return options


def settings_json(text: str) -> dict[str, Any]:
    """The value of `--settings`: a JSON object with the key `recipe`."""
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"expected JSON, found damage at character {error.pos}") from error
    if not isinstance(values, dict) or "recipe" not in values:
        raise argparse.ArgumentTypeError(
            "expected an object with the key `recipe`; snakemake -n --printshellcmds shows one"
        )
    return values


def run(
    job: Callable[..., str | None],
    arguments: argparse.Namespace | None = None,
    silent: tuple[type[BaseException], ...] = (),
) -> int:
    """Call `job` with the parsed arguments by name, print the line that it returns, and return the exit code.

    Expected failures end in one line, not in a traceback. Those in `silent` print nothing, because another process of
    the same job prints the line.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    started = time.monotonic()
    try:
        line = job(**vars(arguments or argparse.Namespace()))
    except silent as error:
        log.info("ends with the other processes: %s", error)
        return INTERRUPTED if isinstance(error, InterruptedJobError) else FAILED
    except (ValueError, OSError, ArithmeticError, LockHeldError) as error:
        log.debug("where it happened", exc_info=True)
        return _fail(f"error: {' '.join(str(error).split())}", FAILED)
    except MemoryError as error:
        what = str(error) or "expected enough memory, found none left"
        return _fail(f"error: {what}; lower the batch or free memory", FAILED)
    except InterruptedJobError as error:
        return _fail(f"interrupted: {error}; run the same command again to go on", INTERRUPTED)
    except KeyboardInterrupt:
        return _fail("interrupted: nothing was left half-made; run the same command again", 130)
    if line is not None:
        print(f"{line} ({time.monotonic() - started:.1f} s)", flush=True)
    return 0


def _fail(line: str, code: int) -> int:
    log.error(line)
    print(line, flush=True)
    return code


def device(name: str, threads: int, tf32: bool = False) -> Any:
    """The torch device, set up for deterministic results: fixed threads, deterministic algorithms, chosen precision."""
    import torch

    torch.set_num_threads(threads)
    # as torch.use_deterministic_algorithms, which also loads the compiler: a second of every job
    torch._C._set_deterministic_algorithms(True, warn_only=False)  # noqa: SLF001
    torch.utils.deterministic.fill_uninitialized_memory = False  # a debugging aid: about 5 % of a small step
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = tf32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() or requested_gpus() else "cpu"
    check_gpus(name, torch.cuda.device_count())
    try:
        chosen = torch.device(name)
        if name == "cuda" and "LOCAL_RANK" in os.environ:  # one GPU for each process of the job
            chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(chosen)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"--device {name}: expected a usable torch device, found: {error}; try --device cpu"
        ) from error
    return chosen


def requested_gpus() -> int:
    """GPUs that the job's rule requested on this node; 0 when it requested none. `lct.jobs.launch` sets LCT_GPUS."""
    return int(os.environ.get("LCT_GPUS", "0"))


def check_gpus(name: str, usable: int) -> None:
    """Refuse to start when torch sees fewer GPUs (`usable`) than the rule requested.

    With `--device cpu` the CPU stands in for the GPUs; then CUDA_VISIBLE_DEVICES, which SLURM sets, is counted.
    """
    requested, visible = requested_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES")
    if not requested or (name == "cpu" and "SLURM_JOB_ID" not in os.environ):
        return
    usable = len([card for card in (visible or "").split(",") if card]) if name == "cpu" else usable
    if usable < requested:
        raise ValueError(
            f"GPUs: expected the {requested} asked for on {platform.node()}, found {usable} (CUDA_VISIBLE_DEVICES="
            f"{visible}); check the driver (nvidia-smi), the partition and the GPU request of the profile"
        )
    if usable > requested:
        log.warning("%d GPUs are visible, %d were asked for: other jobs may use the same ones", usable, requested)


def progress(items: Iterable[T], total: int, what: str, every_seconds: float = 5.0) -> Iterator[T]:
    """Pass `items` through and log how many of `total` are done and the time that remains."""
    progress_logger = ProgressLogger(what, total, every_seconds=every_seconds)
    for done, item in enumerate(items, start=1):
        yield item
        progress_logger(done)
