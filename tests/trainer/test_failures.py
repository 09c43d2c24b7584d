"""Why a training failed, told from what libraries raise."""

from __future__ import annotations

import errno

import pytest

from model_trainer.trainer.failures import Failure, explain

#: As torch, safetensors, PEFT and Python word them.
RAISED = [
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


def test_a_failures_detail_is_bounded():
    assert len(explain(ValueError("x" * 100_000)).detail) <= 2000
