"""Jobs in the process of the tests: a new one would import torch first, for seconds."""

import contextlib
import importlib
import io
import logging
import signal
import subprocess
import sys
from unittest import mock


def run_job(words: list[str]) -> subprocess.CompletedProcess[str]:
    """What `python -m MODULE OPTION ...` of a job ends with: exit code, output and log. `words` begin with the Python.
    Logging and signals are as before then. A job that is to be stopped, or starts others, needs its own process."""
    python, dash_m, module, *options = words
    assert (python, dash_m) == (sys.executable, "-m")
    output, log, root = io.StringIO(), io.StringIO(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    actions = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    root.handlers = [logging.StreamHandler(log)]
    root.setLevel(logging.INFO)
    try:
        with (
            mock.patch.object(sys, "argv", [module, *options]),
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(log),
        ):
            code = importlib.import_module(module).main()
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers = handlers
        root.setLevel(level)
        for number, action in actions.items():
            signal.signal(number, action)
    return subprocess.CompletedProcess(words, code, output.getvalue(), log.getvalue())
