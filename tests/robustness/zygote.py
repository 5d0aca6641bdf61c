"""Runs commands in forks of a process that has imported everything, and kills them on request.

A line of JSON on stdin is one run: ``arguments`` of the command line, the file ``log`` for what it says, the ``folder``
that it writes to, and when it gets a signal: after ``seconds``, or before its n-th ``touch`` of a file in the folder;
the signal's ``number``; the ``largest`` file in bytes that it may write. The answer is a line of JSON, too: exit
``code`` (-9 if killed), ``seconds`` and ``touches``.
"""

import json
import os
import resource
import shutil
import sys
import time
import traceback
from pathlib import Path

import blosc2  # noqa: F401 - imported once, for all forks
import matplotlib.pyplot  # noqa: F401
import torch

import inflate3d.comparison.worker
import inflate3d.inference.runs
import inflate3d.report.page
import inflate3d.training.run
import inflate3d.training.task
import inflate3d.training.trainer
from inflate3d.cli import main

sys.dont_write_bytecode = True  # the faults that are injected would cut the package's bytecode short, too

TOUCHING = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}


def run(order: dict) -> dict:
    read, write = os.pipe()
    said, log = os.pipe() if order["largest"] is not None else (None, os.open(order["log"], os.O_WRONLY | os.O_CREAT))
    started = time.monotonic()
    child = os.fork()
    if not child:
        _work(order, write, log)
    os.close(write)
    os.close(log)
    if said is not None:  # where files may not be large, the log must not be one that the command writes
        with os.fdopen(said, "rb") as pipe, Path(order["log"]).open("wb") as file:
            shutil.copyfileobj(pipe, file)
    if order["seconds"] is not None:
        _kill_after(child, order["seconds"], order["number"])
    _, status = os.waitpid(child, 0)
    seconds = time.monotonic() - started
    with os.fdopen(read) as pipe:
        touches = pipe.read()
    return {"code": os.waitstatus_to_exitcode(status), "seconds": seconds, "touches": int(touches or 0)}


def _work(order: dict, pipe: int, log: int) -> None:
    os.dup2(log, 1)
    os.dup2(log, 2)
    if order["largest"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["largest"], order["largest"]))
    touches = _count_touches(order["folder"], order["touch"], order["number"])
    code = 70
    try:
        code = main(order["arguments"])
    except BaseException:  # noqa: BLE001 - the log has it, and the code
        traceback.print_exc()
    os.write(pipe, str(touches[0]).encode())
    os._exit(code)


def _count_touches(folder: str, last: int | None, number: int) -> list[int]:
    """Counts what is done to files of a folder, and kills this process before the last one."""
    touches = [0]

    def see(event: str, arguments: tuple) -> None:
        if event in TOUCHING and isinstance(arguments[0], str | os.PathLike):
            if not str(arguments[0]).startswith(folder):
                return
            touches[0] += 1
            if touches[0] == last:
                os.kill(os.getpid(), number)

    sys.addaudithook(see)
    return touches


def _kill_after(child: int, seconds: float, number: int) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return
        time.sleep(0.005)
    os.kill(child, number)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(Path(inflate3d.__file__).parent, flush=True)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)
