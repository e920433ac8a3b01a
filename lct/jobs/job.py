"""What every job of the graph shares: arguments, logging, one-line errors, exit codes, progress.

A job module has a function whose parameters are the job's options, each with its help, and `main = program(function)`
at its end.

Standard error is the log (`2> {log}` in the rules); standard output is the terminal: one line per finished job.
Exit codes: 0 finished; 1 failed, one line says why; 2 wrong arguments; 75 interrupted with its state saved;
130 interrupted without one.
"""

import argparse
import gc
import inspect
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from lct.checks import invalid, require
from lct.files import environment
from lct.files.lock import LockHeldError
from lct.files.progress import ProgressLogger

FAILED, INTERRUPTED = 1, 75  # 75: EX_TEMPFAIL, "try again"
log = logging.getLogger("lct")
T = TypeVar("T")

# options of several jobs
Statistics = Annotated[Path, "mean and standard deviation of the latents"]
AutoencoderFolder = Annotated[Path, "diffusers folder of the autoencoder"]
Folder = Annotated[Path, "folder to write"]
Workers = Annotated[int | None, "processes (default: one per GPU of the job, one without a GPU)"]


class InterruptedJobError(Exception):
    """A signal or the wall time ended the job; its state is saved."""


def program(job: Callable[..., str | None], silent: tuple[type[BaseException], ...] = ()) -> Callable[[], int]:
    """The `main` of a job's module: parses its options, runs it, and returns the exit code (see `run`). A module that
    is started by `python -m` runs it at once."""

    def main() -> int:
        arguments = vars(options_of(job).parse_args())
        return run(lambda: job(**{name: arguments[name] for name in inspect.signature(job).parameters}), silent)

    if job.__module__ == "__main__":
        raise SystemExit(main())
    return main


def options_of(job: Callable[..., str | None]) -> argparse.ArgumentParser:
    """Options as a job's parameters say, which are annotated with type, help, and what else `add_argument` is to know.

    Without a default an option is required. A list takes one value or more, and what may be None takes one or none.
    Every job has `--settings`, a JSON object, and `--device`."""
    description = sys.modules[job.__module__].__doc__
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--settings", type=settings_json, required=True, help="the stage's resolved settings, as JSON")
    options.add_argument(
        "--device",
        default=os.environ.get("LCT_DEVICE", "auto"),
        help="torch device; auto takes a GPU when there is one (default: LCT_DEVICE in the environment, or auto)",
    )
    for name, annotation in get_type_hints(job, include_extras=True).items():
        if name in ("settings", "device", "return"):
            continue
        kind, text, *more = get_args(annotation)
        parts, default = get_args(kind), inspect.signature(job).parameters[name].default
        given: dict[str, Any] = {"type": parts[0] if parts else kind}
        if get_origin(kind) is Literal:
            given = {"choices": parts}
        elif get_origin(kind) is list or NoneType in parts:
            given["nargs"] = "?" if NoneType in parts else "+"
        given |= {"required": True} if default is inspect.Parameter.empty else {"default": default}
        options.add_argument(f"--{name.replace('_', '-')}", help=text, **(given | dict(*more)))
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


def run(job: Callable[[], str | None], silent: tuple[type[BaseException], ...] = ()) -> int:
    """Call `job`, print the line that it returns, and return the exit code.

    Expected failures end in one line, not in a traceback. Those in `silent` print nothing, because another process of
    the same job prints the line.
    """
    gc.freeze()  # what is imported stays
    gc.set_threshold(*environment.GARBAGE)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    started = time.monotonic()
    try:
        line = job()
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
        raise invalid(f"--device {name}", "a usable torch device", error, "try --device cpu") from error
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
    expected, value = f"the {requested} asked for on {platform.node()}", f"{usable} (CUDA_VISIBLE_DEVICES={visible})"
    advice = "check the driver (nvidia-smi), the partition and the GPU request of the profile"
    require(usable >= requested, "GPUs", expected, value, advice)
    if usable > requested:
        log.warning("%d GPUs are visible, %d were asked for: other jobs may use the same ones", usable, requested)


def progress(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Pass `items` through and log how many of `total` are done and the time that remains."""
    progress_logger = ProgressLogger(what, total)
    for done, item in enumerate(items, start=1):
        yield item
        progress_logger(done)
