"""What is said of GPUs, memory and processors, under drivers and containers of all kinds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pynvml
import pytest
from nvml_driver import GIB, Card, Driver

from model_trainer.services.app import App
from model_trainer.services.environment.gpus import look_at_gpus
from model_trainer.services.environment.hardware import look_at_hardware
from model_trainer.services.environment.limits import ControlGroups, count_processors, look_at_memory


@pytest.fixture
def install_driver(monkeypatch: pytest.MonkeyPatch):
    """Put a driver where pynvml would have loaded the machine's."""

    def install(*cards: Card) -> None:
        monkeypatch.setattr(pynvml, "nvmlLib", Driver(*cards))
        monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})

    return install


def h200(index: int = 0, **changes: object) -> Card:
    card = Card(name="NVIDIA H200", uuid=f"GPU-{index}aaa", total=140 * GIB, free=100 * GIB)
    for name, value in changes.items():
        setattr(card, name, value)
    return card


def test_without_a_driver_there_is_no_gpu_and_a_note_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "CDLL", no_library)
    assert look_at_gpus() == ([], "No NVIDIA driver is installed.")


def test_free_memory_counts_what_everybody_uses(install_driver) -> None:
    install_driver(h200(free=3 * GIB))
    (gpu,), note = look_at_gpus()
    assert (gpu.name, gpu.memory_total_gib, gpu.memory_free_gib) == ("NVIDIA H200", 140.0, 3.0)
    assert gpu.compute_capability == "9.0"
    assert note is None


def test_a_run_of_ours_on_the_gpu_is_not_another_process(install_driver) -> None:
    code = "import sys; print('ready', flush=True); sys.stdin.read()"
    ours = [sys.executable, "-c", code, "trainer_snapshot.trainer"]
    with subprocess.Popen(ours, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        # 2**22 is above any pid of Linux: as a process of the host, seen from inside a container.
        install_driver(h200(pids=(child.pid, os.getpid(), 2**22 + 1)))
        (gpu,), _ = look_at_gpus()
        assert child.stdin is not None
        child.stdin.close()
    assert gpu.other_processes == 2


def test_one_lost_gpu_does_not_hide_the_other(install_driver) -> None:
    install_driver(h200(0, broken=True), h200(1))
    gpus, note = look_at_gpus()
    assert [gpu.index for gpu in gpus] == [1]
    assert note is not None
    assert "GPU 0 doesn't answer" in note


@pytest.mark.parametrize(
    ("setting", "seen"),
    [("1", [1]), ("GPU-0aaa", [0]), ("1,0", [1, 0]), ("", []), ("-1", []), ("0,7,1", [0])],
)
def test_gpus_that_cuda_hides_are_not_offered(
    setting: str, seen: list[int], install_driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_driver(h200(0), h200(1))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    gpus, note = look_at_gpus()
    assert [gpu.index for gpu in gpus] == seen
    assert ("CUDA_VISIBLE_DEVICES hides" in (note or "")) == (len(seen) < 2)


def test_a_gpu_split_by_mig_is_told(install_driver) -> None:
    install_driver(h200(mig=1))
    assert "split by MIG" in (look_at_gpus()[1] or "")


def groups(folder: Path, membership: str, files: dict[str, str]) -> ControlGroups:
    mount = folder / "cgroup"
    for name, text in files.items():
        (mount / name).parent.mkdir(parents=True, exist_ok=True)
        (mount / name).write_text(text, encoding="ascii")
    (folder / "membership").write_text(membership, encoding="ascii")
    return ControlGroups(membership=folder / "membership", mount=mount)


def test_a_containers_memory_limit_counts_and_page_cache_counts_as_free(tmp_path: Path) -> None:
    found = groups(
        tmp_path,
        "0::/box/inner\n",
        {
            "box/memory.max": str(GIB),
            "box/memory.current": str(GIB // 2),
            "box/memory.stat": f"anon 5\ninactive_file {GIB // 4}\n",
            "box/inner/memory.max": "max",
            "box/inner/memory.current": "1",
        },
    )
    memory = look_at_memory(found)
    assert memory.total == GIB
    assert memory.available == GIB - GIB // 2 + GIB // 4


def test_the_older_control_groups_count_too(tmp_path: Path) -> None:
    found = groups(
        tmp_path,
        "5:cpuset:/\n4:memory:/box\n3:cpu,cpuacct:/box\n0::/\n",
        {
            "memory/box/memory.limit_in_bytes": str(GIB),
            "memory/box/memory.usage_in_bytes": str(GIB // 2),
            "cpu/box/cpu.cfs_quota_us": "50000",
            "cpu/box/cpu.cfs_period_us": "100000",
        },
    )
    assert look_at_memory(found).total == GIB
    assert look_at_memory(found).available == GIB // 2
    assert count_processors(found) == 1


def test_a_processor_quota_is_rounded_up(tmp_path: Path) -> None:
    quota = groups(tmp_path, "0::/box\n", {"box/cpu.max": "1 100000"})
    assert count_processors(quota) == 1


def test_without_limits_the_machine_itself_counts(tmp_path: Path) -> None:
    free = groups(tmp_path, "0::/\n", {"memory.max": "max", "cpu.max": "max 100000"})
    assert look_at_memory(free).total == psutil.virtual_memory().total
    assert count_processors(free) == len(os.sched_getaffinity(0))


def test_memory_and_disk_of_this_machine_are_plausible(app: App) -> None:
    hardware = look_at_hardware(app.home)
    assert 0 < hardware.memory_available_gib <= hardware.memory_total_gib
    assert hardware.disk_free_gib > 0
    assert hardware.cpu_cores >= 1
