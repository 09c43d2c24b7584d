"""Fixtures of all tests: a clean machine for each, tiny real models and data, and a fast way to real trainers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from forkserver import LAUNCHER

from model_trainer.executors.paths import Home
from model_trainer.executors.snapshot import snapshot
from model_trainer.server.demo_data import write_pairs
from model_trainer.services.app import App
from model_trainer.services.settings import Settings
from model_trainer.trainer.contract import SNAPSHOT_PACKAGE

pytest_plugins = ("hub.fixtures",)

#: What a test process may keep of the environment; everything else would make tests depend on the machine.
_KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "TERM", "SSL_CERT_FILE", "SSL_CERT_DIR", "COVERAGE_PROCESS_START")

# A shell starts background jobs with SIGINT ignored, and children inherit that: tests that interrupt one would hang.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def clean_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, state, settings and cache folder, and nothing of the real environment."""
    for name in list(os.environ):
        if name not in _KEPT and not name.startswith("PYTEST"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    for name, value in {
        "HOME": home,
        "XDG_STATE_HOME": home / "state",
        "XDG_CONFIG_HOME": home / "config",
        "XDG_CACHE_HOME": home / "cache",
        "HF_HOME": home / "hf",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }.items():
        monkeypatch.setenv(name, str(value))
    return home


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


@pytest.fixture
def app(clean_machine: Path, workspace: Path) -> App:
    """A server's view of an empty machine."""
    return App(home=Home.open(), settings=Settings(), workspace=workspace)


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 real (signature, first line of the docstring) rows as JSONL: prompt, completion."""
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    write_pairs(path, limit=600)
    return path


@pytest.fixture(scope="session")
def fork_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A training environment's Python that forks from a process which imported TRL once (tests/forkserver.py)."""
    folder = tmp_path_factory.mktemp("fork")
    server = Path(__file__).with_name("forkserver.py")
    socket = folder / "socket"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen(
        [sys.executable, str(server), "serve", str(socket)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == b"ready\n"
        launcher = folder / "python"
        launcher.write_text(LAUNCHER.format(python=sys.executable, server=server, socket=socket), encoding="utf-8")
        launcher.chmod(0o755)
        yield launcher
        process.stdin.close()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, pairs: Path, fork_python: Path) -> Path:
    """A Qwen3-architecture model of 0.1 million random weights, with tokenizer and chat template."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    home = Home(root=folder.parent / "state", runs=folder.parent / "state" / "runs")
    home.code.mkdir(parents=True)
    asked = {"folder": str(folder), "texts": str(pairs), "vocab_size": 1024, "hidden_size": 64, "layers": 2}
    subprocess.run(
        [str(fork_python), "-m", f"{SNAPSHOT_PACKAGE}.trainer", "tiny"],
        input=json.dumps(asked),
        text=True,
        check=True,
        capture_output=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(snapshot(home))},
    )
    return folder
