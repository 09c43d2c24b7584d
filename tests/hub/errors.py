"""Refusals as the Hub words them: a status, `X-Error-Code` and `X-Error-Message`, and `error` in the body.

The client (huggingface_hub/utils/_http.py, hf_raise_for_status) picks its exception by `X-Error-Code`, then by status.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse


class HubError(Exception):
    """A refusal; `body` is what it holds beside the message."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        *,
        headers: dict[str, str] | None = None,
        body: dict[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **(headers or {})}
        self.body = body or {}

    def response(self) -> JSONResponse:
        return JSONResponse({"error": self.message, **self.body}, self.status, self.headers)


async def refuse(_request: Request, error: Exception) -> JSONResponse:
    """Starlette's handler for a HubError."""
    assert isinstance(error, HubError)
    return error.response()


def no_repo(*, anonymous: bool) -> HubError:
    """A repository that isn't there, or that the caller may not know of.

    The real Hub answers anonymous callers with 401 and no code; the client takes that for RepoNotFound only where the
    URL is https. Over http it needs the code to come to the same exception.
    """
    if anonymous:
        return HubError(401, "Invalid username or password.", "RepoNotFound")
    return HubError(404, "Repository not found", "RepoNotFound")


def no_revision(revision: str) -> HubError:
    return HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")


def no_entry(path: str, commit: str) -> HubError:
    """The client remembers by the commit that the file doesn't exist (file_download.py, `.no_exist`)."""
    return HubError(404, f"Entry not found: {path}", "EntryNotFound", headers={"X-Repo-Commit": commit})


def gated(repo: str, *, anonymous: bool) -> HubError:
    if anonymous:
        message = f"Access to {repo} is restricted. You must have access to it and be authenticated. Please log in."
        return HubError(401, message, "GatedRepo")
    return HubError(403, f"Access to {repo} is restricted and you are not in the authorized list.", "GatedRepo")
