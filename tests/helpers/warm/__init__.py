"""A process with torch, Snakemake and DVC loaded, which runs each program in a fork of itself: the same code, settings
and records, without seconds of imports for each. The project's own code is loaded by the fork, from its own folder.
Not for programs that are killed with -9, limited in resources, or whose children are counted: the fork is no child."""

import contextlib
import importlib
import json
import os
import runpy
import select
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

from tests.helpers import do_without_fsync

JOBS = ("train", "sample", "score", "neighbours", "encode", "reference")
CLIENT = Path(__file__).parent  # for PYTHONPATH: its sitecustomize.py
TORCH = ("torch", "safetensors.torch", "scipy.linalg", "PIL.Image", "pydantic.dataclasses", "requests")
KL = ("diffusers.models.autoencoders.autoencoder_kl",)
DRAWING = ("jinja2", *(f"matplotlib.backends.backend_{name}" for name in ("agg", "pdf", "svg")))
LIBRARIES = {  # of a program's module: loaded before the first of its kind; what is missing here, each loads itself
    "snakemake": (
        *("snakemake.cli", "snakemake.workflow", "snakemake.persistence", "snakemake.profiles", "snakemake.storage"),
        *(
            "snakemake.report.html_reporter",
            "snakemake_executor_plugin_slurm",
            "docutils.parsers.rst.directives.images",
        ),
        *("smart_open", "pydantic.dataclasses", "jinja2", "packaging.utils"),
    ),
    "dvc": (
        *("dvc.cli.parser", "dvc.repo.artifacts", "dvc.repo.plots", "dvc.repo.open_repo", "dvc.repo.datasets"),
        *("dvc.stage.serialize", "dvc.cachemgr", "dvc.lock", "dvc.scm", "dvc.utils.strictyaml", "dvc.data_cloud"),
        *("dvc_data.index", "dvc_data.hashfile.db.local", "dulwich.client", "configobj", "ruamel.yaml"),
    ),
    "lct.cli.main": (
        *("numpy", "scipy.special", "PIL.Image", "jinja2", "pydantic.dataclasses", "requests", "packaging.utils"),
        *("xml.sax.saxutils", "dvc.dirs", "configobj"),
    ),
    "lct.jobs.train": (*TORCH, "tensorboardX.event_file_writer"),
    **{f"lct.jobs.{job}": TORCH for job in ("images", "extractor", "reference", "score", "neighbours")},
    **{f"lct.jobs.{job}": (*TORCH, *KL) for job in ("autoencoder", "encode", "sample", "degraded")},
    **{f"lct.jobs.{job}": (*TORCH, *DRAWING) for job in ("report", "figure1", "figure2", "figure3")},
}


@contextlib.contextmanager
def warm(environment: dict[str, str], project: Path | None = None) -> Iterator[dict[str, str]]:
    """The environment in which programs are forked from a process that has loaded their libraries; with `project`, the
    code of its jobs too, which must not be edited then."""
    with tempfile.TemporaryDirectory(prefix="lct-warm-") as folder:
        place = f"{folder}/socket"
        words = [sys.executable, "-c", f"from tests.helpers import warm; warm.serve({place!r}, {project is not None})"]
        paths = [str(path) for path in (project, Path(__file__).parents[3]) if path]
        own = environment | {"PYTHONPATH": os.pathsep.join(paths)}
        process = subprocess.Popen(words, cwd=project, env=own, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin and process.stdout
        try:
            if process.stdout.readline() != b"ready\n":
                raise RuntimeError(
                    "warm: expected a process that waits for programs, found its end; its error is above"
                )
            paths = filter(None, (project and str(project), str(CLIENT), environment.get("PYTHONPATH")))
            yield environment | {"LCT_WARM": place, "PYTHONPATH": os.pathsep.join(paths)}
        finally:
            process.stdin.close()
            process.wait()
            process.stdout.close()


def serve(place: str, with_jobs: bool) -> None:
    """Run each program that is asked for, until the end of the process that holds the other end of the input."""
    do_without_fsync()
    given = ["", *os.environ["PYTHONPATH"].split(os.pathsep)]
    libraries = [path for path in sys.path if path not in given]
    for name in JOBS if with_jobs else ():
        importlib.import_module(f"lct.jobs.{name}")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen(64)
        print("ready", flush=True)
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            _, pipes, _, _ = socket.recv_fds(connection, 3, 3)
            request = json.loads(_everything(connection))
            for name in LIBRARIES.get(request["module"], ()):
                importlib.import_module(name)
            if os.fork() == 0:
                listener.close()
                _answer(connection, pipes, request, libraries)
            for pipe in pipes:
                os.close(pipe)
            connection.close()


def _everything(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def _answer(connection: socket.socket, pipes: list[int], request: dict, libraries: list[str]) -> None:
    """Run the program of a request in a process of its own, and send its number and its exit code."""
    if (program := os.fork()) == 0:
        connection.close()
        _run(request, pipes, libraries)
    connection.sendall(program.to_bytes(4, "big"))
    _, status = os.waitpid(program, 0)
    with contextlib.suppress(OSError):
        connection.sendall(bytes([os.waitstatus_to_exitcode(status) & 255]))
    os._exit(0)


def _run(request: dict, pipes: list[int], libraries: list[str]) -> None:
    """The program in this process, which ends as the interpreter does."""
    code = 1
    try:
        for number, pipe in enumerate(pipes):
            os.dup2(pipe, number)
            os.close(pipe)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        sys.argv, sys.orig_argv = [request["module"], *request["words"]], request["command"]
        given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        sys.path[:] = [request["folder"], *filter(None, given), *libraries]
        for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
            del sys.modules[name]
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001 as the interpreter itself ends
        traceback.print_exc()
    finally:
        threading._shutdown()  # what the interpreter waits for
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
