"""Where something may be published to: a repository on the Hub, or a folder here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...executors.errors import ArgumentError, PublishError
from ..app import App


@dataclass(frozen=True)
class HubRepo:
    """`owner/name` on the Hub."""

    repo: str
    private: bool

    @property
    def owner(self) -> str:
        return self.repo.partition("/")[0]

    def record(self) -> dict[str, object]:
        """As the push run's request holds it."""
        return {"kind": "hub", "repo": self.repo, "private": self.private}


@dataclass(frozen=True)
class Folder:
    """A folder on this machine: nothing is published."""

    path: Path

    def record(self) -> dict[str, object]:
        """As the push run's request holds it."""
        return {"kind": "folder", "path": str(self.path)}


def parse(app: App, destination: str, *, private: bool) -> HubRepo | Folder:
    """What a destination means: `owner/name` is a repository; `/…`, `~/…`, `./…` and `../…` are folders.

    Raises:
        ArgumentError: it is neither, or a folder in which no bundle belongs.
    """
    if destination.startswith(("/", "~", "./", "../")):
        return Folder(_folder(app, destination))
    if destination.count("/") == 1 and _is_repo_id(destination):
        return HubRepo(destination, private)
    raise ArgumentError(
        "invalid_arguments",
        f"destination {destination[:100]!r} is no repository (owner/name, of letters, digits, '_', '.' and '-') and no "
        "folder.",
        next_step="push_adapter(…, destination='your-name/my-adapter') for the Hub (owner/name), or a folder: "
        "destination='./my-adapter' or '/absolute/path'.",
    )


def check_owner(app: App, target: HubRepo, account: str | None, orgs: tuple[str, ...]) -> None:
    """Refuse a namespace that the human's settings, or the account, don't allow.

    Raises:
        PublishError: `not_allowed`.
    """
    allowed = app.settings.publish_namespaces
    name = target.repo.partition("/")[2]
    if allowed and target.owner not in allowed:
        raise PublishError(
            "not_allowed",
            f"The human's settings allow publishing to {', '.join(allowed)}, not to {target.owner!r}.",
            next_step=f"push_adapter(destination='{allowed[0]}/{name}', …), or ask the human to add {target.owner!r} "
            "to publish_namespaces in settings.toml.",
        )
    if account is None:
        return
    if not allowed and target.owner != account:
        raise PublishError(
            "not_allowed",
            f"You are logged in as {account!r}; without publish_namespaces in the human's settings only that namespace "
            f"may be published to, not {target.owner!r}.",
            next_step=f"push_adapter(destination='{account}/{name}', …), or ask the human to add {target.owner!r} to "
            "publish_namespaces in settings.toml.",
        )
    if target.owner not in (account, *orgs):
        raise PublishError(
            "not_allowed",
            f"The account {account!r} is not a member of {target.owner!r}"
            + (f"; it may publish to {', '.join((account, *orgs))}." if orgs else "."),
            next_step=f"push_adapter(destination='{account}/{name}', …), or the human logs in with another account "
            "(`hf auth login`).",
        )


def _is_repo_id(text: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(text)
    except HFValidationError:
        return False
    return True


def _folder(app: App, destination: str) -> Path:
    path = app.resolve(destination)
    path = path.parent.resolve() / path.name
    if path.name in ("", ".", ".."):
        raise _refusal(destination, "name a folder of its own for the bundle")
    if any(path.is_relative_to(folder.resolve()) for folder in (app.home.root, app.home.runs)):
        raise _refusal(destination, "the state folder is written by runs alone")
    # What is replaced is moved aside: never a folder that others stand in.
    for folder in (app.home.root, app.home.runs, app.workspace, Path.home(), Path.cwd()):
        if folder is not None and folder.resolve().is_relative_to(path):
            raise _refusal(destination, f"it holds {folder}; a bundle gets a folder of its own")
    if path.exists() and not path.is_dir():
        raise _refusal(destination, "that is a file")
    return path


def _refusal(destination: str, why: str) -> ArgumentError:
    return ArgumentError(
        "invalid_arguments",
        f"destination {destination[:200]!r}: {why}.",
        next_step="push_adapter(…, destination='./my-adapter'), or another folder that is not there yet.",
    )
