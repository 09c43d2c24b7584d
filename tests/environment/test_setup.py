"""`model-trainer setup` with a small lock: real uv, real packages, and what it leaves when it is interrupted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from model_trainer.executors.errors import EnvironmentFault, LimitError
from model_trainer.executors.paths import Home
from model_trainer.services.environment import setup
from model_trainer.services.environment.setup import LOCKS, find_lock, set_up
from model_trainer.services.environment.uv import find_uv, get_uv
from model_trainer.trainer import records

ROOT = Path(__file__).parents[2]
UV = ROOT / ".make" / "uv" / "bin" / "uv"


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Home:
    """A state folder, and on PATH the uv with which `make` set up this checkout."""
    if not UV.exists() and shutil.which("uv") is None:
        pytest.skip("uv is not installed; `make` installs it")
    monkeypatch.setenv("PATH", f"{UV.parent}:{os.environ['PATH']}")
    return Home.open()


def take(package: str) -> str:
    """One package's lines of the lock that ships: version and hashes."""
    lines = (LOCKS / "default.txt").read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"{package}=="))
    stop = next(number for number in range(start + 1, len(lines)) if not lines[number].startswith(" "))
    return "\n".join(lines[start:stop]) + "\n"


@pytest.fixture
def tiny_lock(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.txt"
    path.write_text(take("six"), encoding="utf-8")
    return path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "model_trainer.server.cli", "setup", *arguments]


def test_an_environment_is_made_once_and_then_found(home: Home, tiny_lock: Path) -> None:
    first = subprocess.run(command("--from-requirements", str(tiny_lock)), capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    digest = find_lock("default", tiny_lock).digest
    assert (home.envs / "default").readlink() == Path(digest)
    assert "1 packages" in first.stdout
    assert "installing 1 locked packages" in first.stderr
    record = records.read_json(home.envs / digest / "complete.json")
    assert record is not None
    assert record["lock"] == digest
    made = (home.envs / digest).stat().st_mtime_ns
    second = subprocess.run(command("--from-requirements", str(tiny_lock)), capture_output=True, text=True, check=False)
    assert second.returncode == 0
    assert "is already there" in second.stdout
    assert (home.envs / digest).stat().st_mtime_ns == made


def test_the_environment_works_under_its_final_name(home: Home, tiny_lock: Path) -> None:
    set_up(home, find_lock("default", tiny_lock), lambda line: None)
    code = "import six, sys; print(six.__file__); print(sys.prefix)"
    done = subprocess.run(
        [home.envs / "default" / "bin" / "python", "-c", code], capture_output=True, text=True, check=True
    )
    assert ".building" not in done.stdout


def test_a_new_lock_makes_a_new_environment_and_leaves_the_former(home: Home, tiny_lock: Path, tmp_path: Path) -> None:
    former = set_up(home, find_lock("default", tiny_lock), lambda line: None)
    newer = tmp_path / "newer.txt"
    newer.write_text(take("six") + take("mdurl"), encoding="utf-8")
    made = set_up(home, find_lock("default", newer), lambda line: None)
    assert (home.envs / "default").resolve() == made.folder
    assert made.packages == 2
    assert former.folder.is_dir()
    assert made.others == (former.folder,)


def test_a_package_that_differs_from_its_hash_is_refused_and_nothing_is_left(home: Home, tmp_path: Path) -> None:
    forged = tmp_path / "forged.txt"
    forged.write_text(f"six==1.17.0 --hash=sha256:{'0' * 64}\n", encoding="utf-8")
    with pytest.raises(EnvironmentFault) as caught:
        set_up(home, find_lock("default", forged), lambda line: None)
    assert caught.value.code == "environment_incomplete"
    assert list(home.envs.iterdir()) == []


def test_packages_that_do_not_work_here_make_no_environment(home: Home, tmp_path: Path) -> None:
    """A wheel that is named like a training package and can't be imported."""
    source = tmp_path / "trl"
    source.mkdir()
    (source / "trl.py").write_text(
        "raise ImportError('libcudart.so.13: cannot open shared object file')\n", encoding="utf-8"
    )
    (source / "pyproject.toml").write_text(
        '[project]\nname = "trl"\nversion = "1.0"\n[tool.setuptools]\npy-modules = ["trl"]\n'
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n',
        encoding="utf-8",
    )
    uv = find_uv(home)
    assert uv is not None
    subprocess.run([uv, "build", "--wheel", "--quiet", "--out-dir", tmp_path, source], check=True)
    lock = tmp_path / "broken.txt"
    lock.write_text(f"--find-links {tmp_path}\ntrl==1.0\n", encoding="utf-8")
    with pytest.raises(EnvironmentFault, match="libcudart") as caught:
        set_up(home, find_lock("default", lock), lambda line: None)
    assert caught.value.code == "environment_incomplete"
    assert list(home.envs.iterdir()) == []


def test_an_environment_that_no_longer_works_is_made_anew(home: Home, tiny_lock: Path) -> None:
    lock = find_lock("default", tiny_lock)
    made = set_up(home, lock, lambda line: None)
    (made.folder / "bin" / "python").unlink()
    again = set_up(home, lock, lambda line: None)
    assert not again.already_there
    assert (again.folder / "bin" / "python").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130)])
def test_an_interrupted_set_up_leaves_nothing_half_made(home: Home, tmp_path: Path, number: int, code: int) -> None:
    started = slow_set_up(tmp_path)
    started.send_signal(number)
    _, errors = started.communicate(timeout=60)
    assert started.returncode == code, errors
    assert [entry.name for entry in home.envs.iterdir()] == []


def test_what_a_killed_set_up_left_is_removed_by_the_next(home: Home, tiny_lock: Path, tmp_path: Path) -> None:
    started = slow_set_up(tmp_path)
    os.killpg(started.pid, signal.SIGKILL)
    started.communicate(timeout=60)
    assert [entry.name for entry in home.envs.iterdir() if entry.name.startswith(".building-")]
    set_up(home, find_lock("default", tiny_lock), lambda line: None)
    assert not [entry.name for entry in home.envs.iterdir() if entry.name.startswith(".building-")]


def slow_set_up(tmp_path: Path) -> subprocess.Popen[str]:
    """A set-up whose uv never comes to an end: it reads a pipe that nobody writes, as from a network that hangs."""
    fifo = tmp_path / "hanging.txt"
    os.mkfifo(fifo)
    lock = tmp_path / "slow.txt"
    lock.write_text(f"-r {fifo}\nsix==1.17.0\n", encoding="utf-8")
    process = subprocess.Popen(
        command("--from-requirements", str(lock)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "downloading" in line:
            break
    return process


def test_two_set_ups_at_once_make_one_environment(home: Home, tiny_lock: Path) -> None:
    lock = find_lock("default", tiny_lock)
    told: list[str] = []
    waiting = threading.Event()

    def tell(line: str) -> None:
        told.append(line)
        waiting.set()

    descriptor = os.open(home.locks / "setup.lock", os.O_RDWR | os.O_CREAT, 0o600)
    assert records.try_lock(descriptor)
    second = threading.Thread(target=set_up, args=(home, lock, tell))
    second.start()
    try:
        assert waiting.wait(timeout=60)
        assert "another set-up is at work" in told[0]
        assert not (home.envs / lock.digest).exists()
    finally:
        os.close(descriptor)
        second.join(timeout=60)
    assert (home.envs / lock.digest / "complete.json").is_file()


def test_too_little_disk_is_said_before_anything_is_downloaded(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "_NEEDED_BYTES", 2**60)
    with pytest.raises(LimitError) as caught:
        set_up(home, find_lock("default"), lambda line: None)
    assert caught.value.code == "too_large"
    assert str(home.envs) in caught.value.message
    assert list(home.envs.iterdir()) == []


@pytest.mark.parametrize("profile", ["vllm", "../default", "", "Default"])
def test_an_unknown_profile_is_refused(profile: str) -> None:
    with pytest.raises(EnvironmentFault) as caught:
        find_lock(profile)
    assert caught.value.code == "environment_missing"
    assert "--profile default" in caught.value.next_step


def test_a_requirements_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"none\.txt"):
        find_lock("default", tmp_path / "none.txt")


def test_where_uv_is_missing_it_is_installed_beside_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    home = Home.open()
    assert find_uv(home) is None
    uv = get_uv(home, lambda line: None)
    assert uv == home.root / "tools" / "uv" / "bin" / "uv"
    assert find_uv(home) == uv
    done = subprocess.run([uv, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("uv ")


def test_the_lock_that_ships_is_what_uv_lock_says() -> None:
    """`make locks` writes it; this compares it with a fresh export."""
    if not UV.exists():
        pytest.skip("uv is not installed; `make` installs it")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    arguments = next(line for line in makefile.splitlines() if "$(UV) export" in line).partition("$(UV) ")[2].split()
    arguments = arguments[: arguments.index("--output-file")]
    fresh = subprocess.run([UV, *arguments, "--quiet"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert fresh.stdout == (LOCKS / "default.txt").read_text(encoding="utf-8")


def test_the_lock_has_what_training_needs_and_none_of_the_server() -> None:
    packages = find_lock("default").packages
    assert {"torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes", "pyyaml"} <= set(packages)
    assert not {"mcp", "model-trainer", "ruamel-yaml", "matplotlib"} & set(packages)
    assert json.dumps(packages).count("torch") == 1
