"""Why a training failed, in the words that every back end uses; `unknown` where the evidence doesn't decide."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass


@dataclass
class Failure(Exception):
    """A failure whose reason is known where it is raised."""

    reason: str
    detail: str

    def __str__(self) -> str:
        return self.detail


#: Without torch.OutOfMemoryError: kernels and libraries that allocate by themselves.
_GPU_MEMORY = re.compile(
    r"\bCUDA (?:(?:driver |runtime )?error: )?out of memory\b|\bCU(?:BLAS|DNN|SPARSE)_STATUS_ALLOC_FAILED\b"
)

#: torch.distributed's own types, and the words of what lies below it in errors that have none.
_RANK_ERRORS = frozenset({"DistError", "DistBackendError", "DistNetworkError", "DistStoreError"})
_RANKS = re.compile(
    r"\bNCCL error\b|\bnccl(?:System|Remote|Internal)Error\b|gloo/transport/.*(?:closed|[Tt]imed? ?out|reset)"
)


def explain(error: BaseException) -> Failure:
    """The reason of an error, from its type and, where libraries give no type, from their fixed wording.

    Out of memory: torch's CUDA errors say " out of memory", its CPU allocator "DefaultCPUAllocator: can't allocate
    memory"; a full disk comes as ENOSPC, or from torch's own writer as an enforce failure in inline_container.cc.
    PEFT, by types that change with its versions: "Target modules … not found in the base model". What the Hub refused
    stands in the errors behind the error. Words count only in the types that those libraries raise: a ValueError or a
    KeyError may quote a row of the data, which can say anything.
    """
    text = f"{type(error).__name__}: {error}"[:2000]
    if isinstance(error, Failure):
        return error
    words = text if _speaks_for_the_machine(error) else ""
    if type(error).__name__ == "OutOfMemoryError" or _GPU_MEMORY.search(words):
        return Failure("oom_gpu", text)
    if isinstance(error, MemoryError) or "DefaultCPUAllocator: can't allocate memory" in words:
        return Failure("oom_host", text)
    full = isinstance(error, OSError) and error.errno == errno.ENOSPC
    if full or "No space left on device" in words or "[enforce fail at inline_container.cc" in words:
        return Failure("disk_full", text)
    if isinstance(error, ImportError):
        return Failure("bad_environment", text)
    if type(error).__name__ == "DatasetGenerationError":
        # datasets says only that it failed; the error behind it says where.
        return Failure("bad_data", f"{type(error.__cause__).__name__}: {error.__cause__}"[:2000])
    if str(error).startswith(("Target modules ", "No modules were targeted for adaptation")):
        return Failure("bad_config", text)
    if any(kind.__name__ in _RANK_ERRORS for kind in type(error).__mro__) or _RANKS.search(words):
        return Failure("communication", text)
    return Failure(_of_the_hub(error) or "unknown", text)


def _speaks_for_the_machine(error: BaseException) -> bool:
    """Whether it is of a type in which torch, NCCL, gloo, safetensors or the operating system say what went wrong."""
    return isinstance(error, RuntimeError | OSError) or type(error).__name__ == "SafetensorError"


#: Reason to the types that tell it, by name: nothing heavy is imported to know an error. The first that fits counts.
#: The Hub doesn't tell a repository that isn't there from one that the account may not see: both need a human's look
#: at name and login. transformers wraps what huggingface_hub raises; datasets drops it for a type of its own.
_HUB_ERRORS: tuple[tuple[str, frozenset[str]], ...] = (
    ("bad_config", frozenset({"huggingface_hub.RevisionNotFoundError"})),
    ("auth", frozenset({"huggingface_hub.RepositoryNotFoundError", "datasets.DatasetNotFoundError"})),
    (
        "communication",
        frozenset(
            {"huggingface_hub.LocalEntryNotFoundError", "huggingface_hub.OfflineModeIsEnabled"}
            | {"httpx2.TransportError", "httpx.TransportError"}
        ),
    ),
)


def _of_the_hub(error: BaseException) -> str | None:
    """The reason, where the Hub's refusal or silence is behind an error.

    A refusal counts before silence: a download that was refused arrives as one that failed.
    """
    behind = _chain(error)
    names = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for one in behind for kind in type(one).__mro__}
    statuses = {getattr(getattr(one, "response", None), "status_code", None) for one in behind}
    for reason, types in _HUB_ERRORS:
        if names & types or (reason == "auth" and statuses & {401, 403}):
            return reason
    silent = any(isinstance(status, int) and (status in (408, 429) or status >= 500) for status in statuses)
    # datasets, of a Hub that it can't reach: a plain ConnectionError with nothing behind it.
    return "communication" if silent or str(error).startswith("Couldn't reach '") else None


def _chain(error: BaseException) -> list[BaseException]:
    """The error and those behind it, as a traceback would show them."""
    found: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and all(one is not other for other in found):
        found.append(one)
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return found
