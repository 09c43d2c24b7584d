"""What the Hub says before anything is sent: who is logged in, and what stands at the destination. Blocking."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ...executors.errors import EnvironmentFault, PublishError
from ...trainer.bundles import HUBS_OWN
from .bundle import Bundle, git_name

if TYPE_CHECKING:
    from huggingface_hub import HfApi, ModelInfo

T = TypeVar("T")

LOGIN = "The human runs `hf auth login` in a terminal (a token with write access); agents never handle tokens"


@dataclass(frozen=True)
class Account:
    """Whose token is here."""

    name: str
    orgs: tuple[str, ...]
    may_write: bool
    """False only where the token says that it can't."""


@dataclass(frozen=True)
class Standing:
    """A repository that is there."""

    id: str
    """Its name now: the Hub leads on from former names."""
    private: bool
    commit: str
    files: Mapping[str, tuple[int, str]]
    """Name to size and hash: SHA-256, or git's name of a small file's content."""

    def holds(self, bundle: Bundle) -> bool:
        """Whether every file of the bundle is there, byte for byte."""
        return all(
            (there := self.files.get(file.path)) is not None
            and there[0] == file.size
            and there[1] in (file.sha256, git_name(file))
            for file in bundle.files
        )


def has_token() -> bool:
    """Whether huggingface_hub finds a token in the environment or in its file."""
    from huggingface_hub import get_token

    return get_token() is not None


def look_at_account() -> Account:
    """Who the token belongs to.

    Raises:
        PublishError: the Hub doesn't accept it (`not_logged_in`).
        EnvironmentFault: `unreachable`.
    """

    def ask() -> dict[str, Any]:
        return _api().whoami()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]

    said = _ask(ask)
    orgs = tuple(str(org["name"]) for org in said.get("orgs", []))
    token: dict[str, Any] = said.get("auth", {}).get("accessToken") or {}
    return Account(name=str(said["name"]), orgs=orgs, may_write=token.get("role") != "read")


def look_at_repo(repo: str) -> Standing | None:
    """What stands there; None where there is no repository that we may see.

    Raises:
        PublishError: the Hub doesn't accept the token (`not_logged_in`), or doesn't let it see this (`not_allowed`).
        EnvironmentFault: `unreachable`.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    def ask() -> ModelInfo:
        return _api().model_info(repo, files_metadata=True)

    try:
        info = _ask(ask)
    except RepositoryNotFoundError:
        return None
    files = {
        one.rfilename: (one.size or 0, str(one.lfs.sha256 if one.lfs else one.blob_id))
        for one in info.siblings or []
        if one.rfilename not in HUBS_OWN
    }
    return Standing(id=str(info.id), private=bool(info.private), commit=str(info.sha), files=files)


def _api() -> HfApi:
    from huggingface_hub import HfApi

    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"))


def _ask(work: Callable[[], T]) -> T:
    """What a request to the Hub gives; RepositoryNotFoundError passes."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError
    from huggingface_hub.utils import httpx

    try:
        return work()
    except RepositoryNotFoundError:
        # Also what a 401 becomes where a repository is in question: the Hub hides private ones behind it.
        raise
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status == 401:
            raise PublishError(
                "not_logged_in",
                "The Hub doesn't accept the token that is here (401): it is wrong, expired or revoked.",
                next_step=f"{LOGIN}; then call push_adapter again.",
            ) from None
        if status == 403:
            raise PublishError(
                "not_allowed",
                "The Hub doesn't let this token see the destination (403).",
                next_step=f"{LOGIN}; or choose a destination in your own namespace.",
            ) from None
        raise _unreachable(f"it answers {status}") from None
    except OfflineModeIsEnabled:
        raise _unreachable("HF_HUB_OFFLINE is set") from None
    except (httpx.HTTPError, OSError) as error:
        raise _unreachable(type(error).__name__) from None


def _unreachable(why: str) -> EnvironmentFault:
    return EnvironmentFault(
        "unreachable",
        f"The Hugging Face Hub can't be asked: {why}.",
        next_step="Call push_adapter again with a network (HF_ENDPOINT and HF_HUB_OFFLINE say where and whether), or "
        "give a local folder as destination.",
    )
