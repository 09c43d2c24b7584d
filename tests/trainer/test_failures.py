"""Why a training failed, told from what libraries raise."""

from __future__ import annotations

import errno
from itertools import pairwise

import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx

from model_trainer.trainer.failures import Failure, explain


def answered(kind: type[HfHubHTTPError], status: int) -> HfHubHTTPError:
    """The Hub's client's error for an answer with this status."""
    request = httpx.Request("GET", "http://hub.example/acme/tiny/resolve/main/config.json")
    return kind(f"{status} Client Error.", response=httpx.Response(status, request=request))


def wrapped(*errors: Exception) -> Exception:
    """The first error as libraries raise it: while they handle the next, and so on."""
    for error, behind in pairwise(errors):
        error.__context__ = behind
    return errors[0]


def lost() -> LocalEntryNotFoundError:
    return LocalEntryNotFoundError("An error happened while trying to locate the file on the Hub")


#: As torch, safetensors, PEFT and Python word them, and as transformers and the Hub's client raise them.
RAISED = [
    (wrapped(OSError("You are trying to access a gated repo."), answered(GatedRepoError, 403)), "auth"),
    (wrapped(OSError("acme/tiny is not a valid model identifier"), answered(RepositoryNotFoundError, 404)), "auth"),
    (wrapped(OSError("There was a specific connection error"), answered(HfHubHTTPError, 401)), "auth"),
    (wrapped(OSError("We couldn't connect"), lost(), answered(HfHubHTTPError, 403)), "auth"),
    (wrapped(OSError("We couldn't connect"), lost(), answered(HfHubHTTPError, 503)), "communication"),
    (wrapped(OSError("We couldn't connect"), lost(), httpx.ConnectError("Connection refused")), "communication"),
    (wrapped(OSError("We couldn't connect"), lost(), OfflineModeIsEnabled("offline")), "communication"),
    (answered(HfHubHTTPError, 429), "communication"),
    (httpx.RemoteProtocolError("Server disconnected without sending a response."), "communication"),
    (ConnectionError("Couldn't reach 'acme/pairs' on the Hub (LocalEntryNotFoundError)"), "communication"),
    (wrapped(OSError("nope is not a valid git identifier"), answered(RevisionNotFoundError, 404)), "bad_config"),
    (wrapped(OSError("acme/tiny does not appear to have a file"), answered(RemoteEntryNotFoundError, 404)), "unknown"),
    (BrokenPipeError(errno.EPIPE, "Broken pipe"), "unknown"),
    (
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.10 GiB"),
        "oom_gpu",
    ),
    (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"), "oom_gpu"),
    (
        RuntimeError("[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
        "oom_host",
    ),
    (MemoryError(), "oom_host"),
    (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
    (RuntimeError("[enforce fail at inline_container.cc:668] . unexpected pos 64 vs 0"), "disk_full"),
    (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), "disk_full"),
    (ModuleNotFoundError("No module named 'flash_attn'"), "bad_environment"),
    (ImportError("libcudnn.so.9: cannot open shared object file: No such file or directory"), "bad_environment"),
    (ValueError("Target modules {'q_prj'} not found in the base model."), "bad_config"),
    (RuntimeError("Target modules {'q_prj'} not found in the base model. Please check"), "bad_config"),
    (Failure("bad_data", "no rows"), "bad_data"),
    (OSError(errno.EACCES, "Permission denied"), "unknown"),
    (ValueError("out of memory, said a user's own code"), "unknown"),
    (KeyError("loss"), "unknown"),
]


@pytest.mark.parametrize(("error", "reason"), RAISED, ids=lambda value: str(value)[:40])
def test_a_failures_reason_is_told_from_its_words_and_unknown_stays_unknown(error: Exception, reason: str):
    failure = explain(error)
    assert failure.reason == reason
    assert failure.detail


def test_what_the_hub_said_before_does_not_count_once_it_is_settled():
    settled = ValueError("the rows are wrong")
    settled.__context__ = answered(GatedRepoError, 403)
    settled.__suppress_context__ = True
    assert explain(settled).reason == "unknown"


def test_errors_that_stand_behind_each_other_come_to_an_end():
    one, other = OSError("one"), OSError("other")
    one.__context__, other.__context__ = other, one
    assert explain(one).reason == "unknown"


def test_a_failures_detail_is_bounded():
    assert len(explain(ValueError("x" * 100_000)).detail) <= 2000
