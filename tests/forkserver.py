"""Real trainers without their import time: a process that has imported TRL once, and forks a trainer on request.

`serve SOCKET` is that process. `run SOCKET ARGUMENTS…` is what tests give as the training environment's Python: it
hands its arguments, environment, folder and descriptors over and then behaves as the trainer that was forked for it:
same exit status, TERM passed on, and the trainer dies with it. Only imports are saved; everything else really happens.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from importlib import import_module, reload
from pathlib import Path

#: Heavy modules, the lazily loaded parts of transformers and TRL by their own names.
PREIMPORTED = (
    *("accelerate", "bitsandbytes", "datasets", "peft", "safetensors.torch", "tokenizers"),
    *("transformers.models.qwen3.modeling_qwen3", "transformers.models.auto.modeling_auto", "transformers.trainer"),
    *("trl.trainer.sft_config", "trl.trainer.sft_trainer", "huggingface_hub.hf_api", "huggingface_hub._commit_api"),
)

LAUNCHER = """#!/bin/sh
# A training environment's Python, as far as the tests need one.
case "$1" in
  -m) exec "{python}" -S -E -P "{server}" run "{socket}" "$@" ;;
  *) exec "{python}" "$@" ;;
esac
"""


def serve(path: str) -> None:
    """Import what trainers import, then fork one for each connection until stdin ends."""
    for name in PREIMPORTED:
        import_module(name)
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    os.write(1, b"ready\n")
    while True:
        readable, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in readable:
            return
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _keep(connection)
        connection.close()


def _keep(connection: socket.socket) -> None:
    """Fork the trainer and keep it in step with the one who asked."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    data, ancillary, _, _ = connection.recvmsg(1 << 20, socket.CMSG_SPACE(3 * 4))
    descriptors = array.array("i")
    descriptors.frombytes(ancillary[0][2])
    asked = json.loads(data)
    child = os.fork()
    if child == 0:
        connection.close()
        _become(asked, list(descriptors))
    for descriptor in descriptors:
        os.close(descriptor)
    connection.sendall(json.dumps({"pid": child}).encode() + b"\n")
    pidfd = os.pidfd_open(child)
    readable, _, _ = select.select([connection, pidfd], [], [])
    if pidfd not in readable:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError):
        connection.sendall(json.dumps({"status": os.waitstatus_to_exitcode(status)}).encode() + b"\n")
    os._exit(0)


def _become(asked: dict[str, object], descriptors: list[int]) -> None:
    """Be the Python that was asked for, but for the imports."""
    code = 1
    try:
        os.setsid()
        # torch makes its thread pool anew after a fork, and fails where several threads are the first to ask for it.
        sys.modules["torch"].set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        os.chdir(str(asked["cwd"]))
        os.environ.clear()
        os.environ.update(asked["env"])  # type: ignore[arg-type]
        # The Hub's client reads its environment when it is imported, which in a process of its own would be now.
        reload(sys.modules["huggingface_hub.constants"])
        arguments: list[str] = asked["argv"]  # type: ignore[assignment]
        sys.path[:0] = [p for p in os.environ.get("PYTHONPATH", "").split(":") if p]
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
        import runpy

        # What a test wants to go wrong in this trainer: hardware that fails can't be had otherwise.
        if (inject := os.environ.pop("FORK_INJECT", None)) is not None:
            sys.argv = [arguments[1], *arguments[2:]]
            runpy.run_path(inject)
        sys.argv = [arguments[1], *arguments[2:]]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as done:
        code = done.code if isinstance(done.code, int) else 1 if done.code else 0
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def run(path: str, arguments: list[str]) -> int:
    """Have a trainer forked and be it."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    request = json.dumps({"argv": arguments, "env": dict(os.environ), "cwd": str(Path.cwd())}).encode()
    connection.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
    replies = connection.makefile("rb")
    child = json.loads(replies.readline())["pid"]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, lambda signum, _frame: os.kill(child, signum))
    line = replies.readline()
    status = json.loads(line)["status"] if line else -signal.SIGKILL
    if status < 0:
        signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
        os.kill(os.getpid(), -status)
    return status


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        sys.exit(run(sys.argv[2], sys.argv[3:]))
