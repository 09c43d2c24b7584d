"""What every service call is given: the state folder, the human's settings, the workspace."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..executors.errors import ArgumentError
from ..executors.paths import Home
from .settings import Settings


class Progress(Protocol):
    """Tells a waiting client how far a call is; free when nobody listens."""

    def __call__(self, done: float, total: float | None, message: str) -> Awaitable[None]: ...


async def no_progress(done: float, total: float | None, message: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class App:
    """One per server process; holds no state of its own."""

    home: Home
    settings: Settings
    workspace: Path | None

    def resolve(self, path: str) -> Path:
        """An absolute path: as given, `~` expanded, or relative to the workspace.

        Raises:
            ArgumentError: the path is relative and there is no workspace.
        """
        given = Path(path).expanduser()
        if given.is_absolute():
            return given
        if self.workspace is None:
            raise ArgumentError(
                "no_workspace",
                f"{path!r} is a relative path, and this server has no workspace to resolve it against.",
                next_step="Give an absolute path, or start the server with `model-trainer serve --workspace DIR`.",
            )
        return self.workspace / given
