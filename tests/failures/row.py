"""One row of the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .place import Place

#: Puts something into the place before the call.
SetUp = Callable[[Place], object]


def nothing(place: Place) -> None:
    """The place as it is."""


@dataclass(frozen=True)
class Row:
    """A call that fails; texts and arguments may hold names of the place (`$workspace`, `$run`, …)."""

    tool: str
    kind: str
    arguments: dict[str, Any]
    code: str
    says: str
    """Stands in the message."""
    then: str
    """Stands in the next step: the tool or command, with the caller's own values."""
    set_up: SetUp = nothing
    server: str = "usual"
    """Which server is asked: `usual`, `homeless` (it has no workspace), or one whose start failed, by its code."""
    makes: tuple[str, ...] = ()
    """What may be new in the place afterwards, as globs; nothing that was there may change or go."""

    @property
    def name(self) -> str:
        return f"{self.tool}: {self.kind}"
