"""What the Hub's client raises, in words: the reason, and whether trying again may help."""

from __future__ import annotations

import json

import pytest
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import httpx

from model_trainer.trainer.push_hub import classify


def refused(status: int, kind: type[HfHubHTTPError] = HfHubHTTPError) -> HfHubHTTPError:
    request = httpx.Request("PUT", "https://storage.example/x?X-Amz-Signature=canary")
    return kind(f"{status} for url", response=httpx.Response(status, request=request))


def behind(error: BaseException, cause: BaseException) -> BaseException:
    """The error as it is when it was raised from another."""
    error.__cause__ = cause
    return error


class XetAuthenticationError(PermissionError):
    """By the name that hf_xet gives it."""


class XetObjectNotFoundError(FileNotFoundError):
    """By the name that hf_xet gives it."""


#: Error, reason, whether it may pass. The Xet ones are worded as hf_xet 1.8 words them.
RAISED: list[tuple[BaseException, str, bool]] = [
    *((refused(status), "communication", True) for status in (408, 409, 412, 425, 429, 500, 502, 503, 504)),
    (refused(401), "auth", False),
    (refused(402), "budget", False),
    (refused(403), "auth", False),
    (refused(404, RepositoryNotFoundError), "auth", False),
    (refused(400), "bad_data", False),
    (behind(RuntimeError("Error while uploading 'x' to the Hub."), refused(503)), "communication", True),
    (behind(RuntimeError("Error while uploading 'x' to the Hub."), refused(403)), "auth", False),
    (RuntimeError("Data processing error"), "communication", True),
    (ConnectionError("Unable to refresh token (403 Forbidden)"), "auth", False),
    (ConnectionError("Unable to refresh token (401 Unauthorized)"), "auth", False),
    (ConnectionError("Unable to refresh token (500)"), "communication", True),
    (XetAuthenticationError("token expired"), "auth", False),
    (XetObjectNotFoundError("no such object"), "communication", True),
    (httpx.ConnectError("refused"), "communication", True),
    (httpx.ReadTimeout("slow"), "communication", True),
    (TimeoutError(), "communication", True),
    (json.JSONDecodeError("no JSON", "<html>", 0), "communication", True),
    (OfflineModeIsEnabled("offline"), "communication", False),
    (LocalTokenNotFoundError("no token"), "auth", False),
    (ValueError("Invalid metadata in README.md"), "bad_data", False),
    (FileNotFoundError(2, "No such file", "/x/model.safetensors"), "bad_data", False),
]


@pytest.mark.parametrize(("error", "reason", "passing"), RAISED, ids=lambda value: str(value)[:50])
def test_what_the_client_raises_is_told_by_reason_and_retried_only_where_it_may_pass(
    error: BaseException, reason: str, passing: bool
) -> None:
    failure, may_pass = classify(error, "ada/tiny", "sending x")
    assert (failure.reason, may_pass) == (reason, passing)
    assert "sending x" in failure.detail
    assert "canary" not in failure.detail
