"""Programs without the start of their libraries, which takes most of a small one's time: where LCT_WARM names a socket,
`python -m snakemake`, `dvc` and `lct.jobs.X` with this folder in PYTHONPATH go to the process behind it
(tests.helpers.warm)."""

import os
import sys


def hand_over(place: str, module: str, words: list[str]) -> None:
    """End as the program ends: its output comes here, and signals reach it."""
    import json
    import signal
    import socket

    request = {"module": module, "words": words, "command": sys.orig_argv, "folder": os.getcwd()}
    request["environment"] = dict(os.environ)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(place)
        socket.send_fds(connection, [b"job"], [0, 1, 2])
        connection.sendall(json.dumps(request).encode())
        connection.shutdown(socket.SHUT_WR)
        program = int.from_bytes(connection.recv(4), "big")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, lambda number, _: os.kill(program, number))
        code = connection.recv(1)
    os._exit(code[0] if code else 1)


_words = sys.orig_argv[1:]
if os.environ.get("LCT_WARM") and _words[:1] == ["-m"]:
    _module = _words[1]
    if _module in ("snakemake", "dvc", "lct.cli.main") or _module.startswith("lct.jobs."):
        if _module != "lct.jobs.launch":  # it starts the others
            hand_over(os.environ["LCT_WARM"], _module, _words[2:])
