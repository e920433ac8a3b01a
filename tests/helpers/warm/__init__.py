"""A process with torch and the jobs' modules loaded, which runs each job in a fork of itself: the same code, settings
and records, without seconds of imports for each. For graphs of many small jobs on a CPU."""

import contextlib
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

JOBS = ("train", "sample", "score", "neighbours", "encode", "reference")
CLIENT = Path(__file__).parent  # for PYTHONPATH: its sitecustomize.py


@contextlib.contextmanager
def warm(project: Path, environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """The environment in which the jobs of a project are forked from a process that has loaded them."""
    place = project.parent / "warm.socket"
    place.unlink(missing_ok=True)
    paths = f"{project}{os.pathsep}{Path(__file__).parents[3]}"
    words = [sys.executable, "-c", f"from tests.helpers import warm; warm.serve({str(place)!r})"]
    process = subprocess.Popen(words, cwd=project, env=environment | {"PYTHONPATH": paths}, stdout=subprocess.PIPE)
    try:
        if process.stdout is None or process.stdout.readline() != b"ready\n":
            raise RuntimeError("warm: expected a process with the jobs loaded, found that it ended; its error is above")
        yield environment | {"LCT_WARM": str(place), "PYTHONPATH": f"{project}{os.pathsep}{CLIENT}"}
    finally:
        process.terminate()
        process.wait()


def serve(place: str) -> None:
    """Load the jobs, then run each that is asked for, until the process is ended."""
    for name in JOBS:
        importlib.import_module(f"lct.jobs.{name}")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen()
        print("ready", flush=True)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended children need no wait
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _answer(connection)
            connection.close()


def _answer(connection: socket.socket) -> None:
    """Run the job of a request in a process of its own, and send its number and its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, pipes, _, _ = socket.recv_fds(connection, 3, 3)
    request = json.loads(b"".join(iter(lambda: connection.recv(1 << 16), b"")))
    if (job := os.fork()) == 0:
        _run(request, pipes)
    connection.sendall(job.to_bytes(4, "big"))
    _, status = os.waitpid(job, 0)
    with contextlib.suppress(OSError):
        connection.sendall(bytes([os.waitstatus_to_exitcode(status) & 255]))
    os._exit(0)


def _run(request: dict, pipes: list[int]) -> None:
    code = 1
    try:
        for number, pipe in enumerate(pipes):
            os.dup2(pipe, number)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        sys.argv = [request["module"], *request["words"]]
        sys.path[0] = request["folder"]
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 as the interpreter itself ends
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
