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


class Asker(Protocol):
    """Asks the user a yes-or-no question through the client's own dialogue."""

    async def __call__(self, key: str, question: str) -> bool | None:
        """The answer; None where the client has no dialogue. `key` names exactly this question."""
        ...


@dataclass(frozen=True)
class App:
    """One per server process; holds no state of its own."""

    home: Home
    settings: Settings
    workspace: Path | None

    def resolve(self, path: str) -> Path:
        """An absolute path: as given, `~` expanded, or relative to the workspace. Nothing need lie there.

        Raises:
            ArgumentError: the path is relative and there is no workspace (`no_workspace`), or no path can be so, or
                we may not look there (`invalid_arguments`).
        """
        try:
            given = Path(path).expanduser()
        except RuntimeError:
            raise _no_path(path, "there is no such user") from None
        if given.is_absolute():
            return _looked_at(given, path)
        if self.workspace is None:
            raise ArgumentError(
                "no_workspace",
                f"{path!r} is a relative path, and this server has no workspace to resolve it against.",
                next_step="Give an absolute path, or start the server with `model-trainer serve --workspace DIR`.",
            )
        return _looked_at(self.workspace / given, path)


def is_folder(path: Path) -> bool:
    """Whether a folder lies there, for names that may be no paths at all."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _looked_at(whole: Path, given: str) -> Path:
    try:
        str(whole).encode()
        whole.stat()
    except (FileNotFoundError, NotADirectoryError):
        return whole
    except UnicodeEncodeError:
        # It could stand in no config, record or answer.
        raise _no_path(given, "a folder's or file's name is not UTF-8") from None
    except OSError as error:
        raise _no_path(given, error.strerror or type(error).__name__) from None
    except ValueError:
        raise _no_path(given, "it holds a character that no path can have") from None
    return whole


def _no_path(given: str, why: str) -> ArgumentError:
    return ArgumentError(
        "invalid_arguments",
        f"{given[:200]!r} can't be used as a path: {why}.",
        next_step=f"Call the tool again with another path than {given[:80]!r}: absolute, or relative to the workspace.",
    )
