"""How often tests repeat what chance decides: a few times in `make test`, as often as is promised in `make soak`."""

from __future__ import annotations

import os

#: Read before `clean_machine` empties the environment.
FULL = os.environ.get("SOAK") == "1"


def times(short: int, full: int) -> int:
    """`short` in `make test`, `full` in `make soak`."""
    return full if FULL else short
