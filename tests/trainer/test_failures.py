"""Why a training failed, told from what libraries raise."""

from __future__ import annotations

import errno
import json
import subprocess
from itertools import pairwise
from pathlib import Path

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

from model_trainer.services.app import App
from model_trainer.services.environment.children import child_environment
from model_trainer.trainer.contract import SNAPSHOT_PACKAGE
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
    (RuntimeError("CUDA driver error: out of memory"), "oom_gpu"),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "oom_gpu"),
    (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "oom_gpu"),
    (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`"), "unknown"),
    (RuntimeError("CUDA error: device-side assert triggered"), "unknown"),
    (RuntimeError("NCCL error in: ../torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp:1970"), "communication"),
    (RuntimeError("ncclSystemError: System call (e.g. socket, malloc) or external library call"), "communication"),
    (RuntimeError("ncclRemoteError: A call failed possibly due to a network error"), "communication"),
    (
        RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [::1]:4242"),
        "communication",
    ),
    (
        RuntimeError("[gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms for recv operation"),
        "communication",
    ),
    (
        RuntimeError("[gloo/transport/tcp/pair.cc:598] Read error [127.0.0.1]:4242: Connection reset by peer"),
        "communication",
    ),
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


#: Words that tell a reason where torch says them; here they stand in a row of the data.
QUOTED = (
    "CUDA out of memory. Tried to allocate 20.00 GiB",
    "my CUDA job ran out of memory",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED",
    "DefaultCPUAllocator: can't allocate memory",
    "OSError: [Errno 28] No space left on device",
    "NCCL error: ncclSystemError",
    "gloo/transport/tcp/pair.cc: Connection closed",
)


@pytest.mark.parametrize("row", QUOTED, ids=lambda row: row[:20])
@pytest.mark.parametrize("kind", [ValueError, KeyError, TypeError, AssertionError])
def test_a_row_that_an_ordinary_error_quotes_tells_no_reason(kind: type[Exception], row: str):
    failure = explain(kind(f"row 3 can't be rendered: {{'prompt': 'Why does it say {row}?'}}"))
    assert failure.reason == "unknown"
    assert row[:10] in failure.detail


def test_other_words_about_memory_are_not_those_of_a_gpu():
    assert explain(RuntimeError("row 3: 'my CUDA job ran out of memory' has no completion")).reason == "unknown"


#: Raises what torch and safetensors themselves raise, and prints what is said of each.
REAL_TYPES = """
import json
import torch
from safetensors import SafetensorError
from torch import distributed
from trainer_snapshot.trainer.failures import explain

class Ours(distributed.DistNetworkError):
    pass

raised = {
    "torch.OutOfMemoryError": torch.OutOfMemoryError("Allocation on device 0 would exceed allowed memory."),
    "torch.cuda.OutOfMemoryError": torch.cuda.OutOfMemoryError("of another name"),
    "DistBackendError": distributed.DistBackendError("watchdog caught collective operation timeout"),
    "DistNetworkError": distributed.DistNetworkError("The client socket has failed to connect"),
    "DistStoreError": distributed.DistStoreError("Timed out after 301 seconds waiting for clients. 1/2 joined."),
    "DistError": distributed.DistError("some"),
    "subclass": Ours("of a library's own"),
    "SafetensorError": SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    "damaged": SafetensorError("Error while deserializing header: invalid JSON in header"),
}
try:
    torch.empty(1 << 60, dtype=torch.uint8)
except RuntimeError as error:
    raised["CPU allocator"] = error
try:
    distributed.TCPStore("127.0.0.1", 1, is_master=False, timeout=__import__("datetime").timedelta(seconds=1))
except RuntimeError as error:
    raised["no store"] = error
print(json.dumps({name: explain(error).reason for name, error in raised.items()}), flush=True)
raise SystemExit(0)
"""


def test_the_types_that_torch_itself_raises_are_known(app: App, tmp_path: Path, fork_python: Path):
    asks = tmp_path / "asks.py"
    asks.write_text(REAL_TYPES, encoding="utf-8")
    answered = subprocess.run(
        [str(fork_python), "-m", f"{SNAPSHOT_PACKAGE}.trainer", "train"],
        env={**child_environment(app), "FORK_INJECT": str(asks)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert answered.returncode == 0, answered.stderr
    assert json.loads(answered.stdout.splitlines()[-1]) == {
        "torch.OutOfMemoryError": "oom_gpu",
        "torch.cuda.OutOfMemoryError": "oom_gpu",
        "DistBackendError": "communication",
        "DistNetworkError": "communication",
        "DistStoreError": "communication",
        "DistError": "communication",
        "subclass": "communication",
        "SafetensorError": "disk_full",
        "damaged": "unknown",
        "CPU allocator": "oom_host",
        "no store": "communication",
    }
