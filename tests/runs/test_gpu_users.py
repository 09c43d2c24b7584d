"""GPUs that others use, by the driver: real processes, and what a driver would say of them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pynvml
import pytest
from nvml_driver import GIB, Card, Driver
from programs import SUCCEEDS, events, program, start, until, until_status

from model_trainer.executors import gpu_users, host, states
from model_trainer.executors.queueing import Pool
from model_trainer.executors.snapshot import snapshot
from model_trainer.services.app import App
from model_trainer.services.runs import life as runs
from model_trainer.trainer.contract import SNAPSHOT_PACKAGE

pytestmark = pytest.mark.anyio

UUID = "GPU-11111111-2222-3333-4444-555555555555"


def card(*pids: int, uuid: str = UUID) -> Card:
    return Card(name="NVIDIA H100", uuid=uuid, total=80 * GIB, free=70 * GIB, pids=pids)


def install(monkeypatch: pytest.MonkeyPatch, *cards: Card) -> None:
    """Put a driver under the real pynvml."""
    monkeypatch.setattr(pynvml, "nvmlLib", Driver(*cards))
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    monkeypatch.setattr(gpu_users, "_asked", {})


def test_the_driver_names_who_computes_on_a_gpu(monkeypatch: pytest.MonkeyPatch):
    install(monkeypatch, card(uuid="GPU-other"), card(os.getpid(), 2**22 - 1))
    assert host.gpu_processes(UUID) == [os.getpid(), 2**22 - 1]
    assert host.gpu_processes("GPU-other") == []
    assert host.gpu_processes("GPU-nowhere") == []
    first, second = gpu_users.users_of(UUID)
    assert first.startswith(f"process {os.getpid()} (")
    assert second == f"process {2**22 - 1}"


def test_without_a_driver_nobody_is_there():
    assert host.gpu_processes(UUID) == []


def see(app: App, told: Path) -> None:
    """Have supervisors see on each GPU the pids that stand in the file `told`, as their driver's word."""
    path = snapshot(app.home) / SNAPSHOT_PACKAGE / "executors" / "host.py"
    more = f"""

def gpu_processes(uuid):
    lines = Path({str(told)!r}).read_text(encoding="utf-8").splitlines()
    return [int(line.split()[1]) for line in lines if line.split()[0] == uuid]
"""
    path.write_text(path.read_text(encoding="utf-8") + more, encoding="utf-8")
    supervisor = path.with_name("gpu_users.py")
    text = supervisor.read_text(encoding="utf-8")
    assert "_FRESH_SECONDS = 2.0" in text
    supervisor.write_text(text.replace("_FRESH_SECONDS = 2.0", "_FRESH_SECONDS = 0.1"), encoding="utf-8")


async def test_a_gpu_that_others_use_is_not_given_until_they_are_gone(app: App, workspace: Path):
    told = workspace / "told"
    with subprocess.Popen(["sleep", "600"]) as other:  # noqa: ASYNC220
        told.write_text(f"GPU-a {other.pid}\n", encoding="utf-8")
        see(app, told)
        run = await start(app, program(workspace, SUCCEEDS), pool=Pool("gpu", ("GPU-a",), 1))
        state = await until_status(run, "queued")
        assert isinstance(state, states.Queued)
        assert (
            state.why
            == f"needs 1 of 1 GPU; in use by process {other.pid} (sleep), no run of this state folder, on GPU-a"
        )
        other.kill()
    told.write_text("", encoding="utf-8")
    assert (await runs.wait(app, run, seconds=60)).status == "succeeded"


async def test_of_two_gpus_the_free_one_is_given(app: App, workspace: Path):
    told = workspace / "told"
    told.write_text(f"GPU-a {os.getpid()}\n", encoding="utf-8")
    see(app, told)
    run = await start(app, program(workspace, SUCCEEDS), pool=Pool("gpu", ("GPU-a", "GPU-b"), 1))
    assert (await runs.wait(app, run, seconds=60)).status == "succeeded"
    assert next(row["slots"] for row in events(run) if row["event"] == "leased") == ["GPU-b"]


async def test_a_shared_gpu_is_given_all_the_same(app: App, workspace: Path):
    told = workspace / "told"
    told.write_text(f"GPU-a {os.getpid()}\n", encoding="utf-8")
    see(app, told)
    run = await start(app, program(workspace, SUCCEEDS), pool=Pool("gpu", ("GPU-a",), 1, shared=True))
    assert (await runs.wait(app, run, seconds=60)).status == "succeeded"


async def test_a_supervisor_finds_the_drivers_library_beside_itself_only_where_it_is_needed(app: App, workspace: Path):
    on_gpu = await start(app, program(workspace, SUCCEEDS), pool=Pool("gpu", ("GPU-a",), 1))
    on_cpu = await start(app, program(workspace, SUCCEEDS), pool=Pool("cpu", ("cpu-0",), 1))
    for run in (on_gpu, on_cpu):
        await until(run, "ended")
    assert (on_gpu.code / "pynvml.py").is_file()
    assert not (on_cpu.code / "pynvml.py").exists()
