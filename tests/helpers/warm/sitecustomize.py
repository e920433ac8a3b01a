"""Jobs of the graph without the start of torch, which takes most of a small job's time: where LCT_WARM names a socket,
every `python -m lct.jobs.X` with this folder in PYTHONPATH is handed to the process behind it (tests.helpers.warm)."""

import os
import sys


def hand_over(place: str, module: str, words: list[str]) -> None:
    """End as the job ends: its output comes here, and signals reach it."""
    import json
    import signal
    import socket

    request = {"module": module, "words": words, "folder": os.getcwd(), "environment": dict(os.environ)}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(place)
        socket.send_fds(connection, [b"job"], [0, 1, 2])
        connection.sendall(json.dumps(request).encode())
        connection.shutdown(socket.SHUT_WR)
        job = int.from_bytes(connection.recv(4), "big")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, lambda number, _: os.kill(job, number))
        code = connection.recv(1)
    os._exit(code[0] if code else 1)


_words = sys.orig_argv[1:]
if "LCT_WARM" in os.environ and _words[:1] == ["-m"] and _words[1].startswith("lct.jobs."):
    if _words[1] != "lct.jobs.launch":  # it starts the others
        hand_over(os.environ["LCT_WARM"], _words[1], _words[2:])
