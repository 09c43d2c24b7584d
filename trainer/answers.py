"""How a command in the training environment is asked and answers: JSON on stdin, one JSON line on the real stdout.

Libraries print whenever they like; what they print goes to stderr, so that the answer is the last line of stdout.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

_real_stdout = -1


def divert_stdout() -> None:
    """Send everything that is printed to stderr from now on, and keep the real stdout for `answer`."""
    global _real_stdout
    if _real_stdout < 0:
        sys.stdout.flush()
        _real_stdout = os.dup(1)
        os.dup2(2, 1)


def read_request() -> dict[str, Any]:
    """The request from stdin."""
    divert_stdout()
    return json.loads(sys.stdin.read())


def answer(record: dict[str, Any]) -> None:
    """Answer the caller."""
    data = json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    target = _real_stdout if _real_stdout >= 0 else 1
    while data:
        data = data[os.write(target, data) :]
