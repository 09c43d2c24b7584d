"""Types and shortcuts that the tests of data share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Write = Callable[..., Path]
Scan = Callable[..., dict[str, Any]]


def problems(result: dict[str, Any]) -> dict[str, tuple[int, list[str]]]:
    """Code to (count, first places)."""
    return {one["code"]: (one["count"], one["places"]) for one in result["problems"]}
