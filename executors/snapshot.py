"""A copy of our own code that runs without us: the trainer and the supervisor as one package of their own name.

The training environment has no `model_trainer`, and the environment the server started from may vanish under a run
(`uvx`). The copy is a *regular* package: a namespace package would let an installed one of the same name leak in.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import py_compile
import shutil
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from ..trainer import contract
from .paths import Home

#: What the supervisor needs of this layer; each is standard library only (an import contract checks it).
_EXECUTOR_MODULES = (
    *(
        "__init__",
        "gpu_users",
        "history",
        "host",
        "judging",
        "locking",
        "logcap",
        "processes",
        "queueing",
        "recovering",
    ),
    *("supervisor", "sweeping", "watching"),
)

#: What the supervisor imports beside them.
_SUPERVISORS_OWN = ("__init__.py", "trainer/__init__.py", "trainer/contract.py", "trainer/records.py")

#: nvidia-ml-py's one module, pure Python: a supervisor can't count on the server's packages.
_NVML = "pynvml.py"

#: Making a copy takes milliseconds.
_HALF_MADE_SECONDS = 3600.0


def snapshot(home: Home) -> Path:
    """The folder to put on PYTHONPATH so that `trainer_snapshot.trainer` and `.executors.supervisor` import.

    Made once per state of the source, under its digest; safe when several servers make it at once.
    """
    files = _source()
    folder = home.code / _digest()
    if not folder.is_dir():
        _tidy(home.code)
        building = home.code / f".{folder.name}.{os.getpid()}"
        package = building / contract.SNAPSHOT_PACKAGE
        for name, text in files.items():
            target = package / name
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            if name.startswith("executors/") or name in _SUPERVISORS_OWN:
                # Else each supervisor would compile them anew in its own copy: a sixth of a launch.
                py_compile.compile(str(target), dfile=name, quiet=2)
        if (nvml := importlib.util.find_spec("pynvml")) is not None and nvml.origin is not None:
            shutil.copyfile(nvml.origin, building / _NVML)
        try:
            building.rename(folder)
        except OSError:
            shutil.rmtree(building)
            if not folder.is_dir():
                raise
    return folder


def for_run(snapshot: Path, target: Path, *, gpus: bool) -> None:
    """Copy a snapshot into a run's folder; what asks the driver about GPUs (0.3 MB) only where it will be asked."""
    shutil.copytree(snapshot, target, ignore=None if gpus else shutil.ignore_patterns(_NVML))


def _tidy(folder: Path) -> None:
    """Remove what makers that died left half-made, once it is certainly theirs no more."""
    for half in folder.glob(".*"):
        with suppress(OSError):
            if time.time() - half.stat().st_mtime > _HALF_MADE_SECONDS:
                shutil.rmtree(half, ignore_errors=True)


@cache
def _source() -> dict[str, str]:
    """Path inside the package to source text, read once: all runs of a server carry the code it started with."""
    here = Path(__file__).parent
    files = {"__init__.py": '"""A run\'s own copy of the code that trains it."""\n'}
    for name in _EXECUTOR_MODULES:
        files[f"executors/{name}.py"] = (here / f"{name}.py").read_text(encoding="utf-8")
    trainer = Path(contract.__file__).parent
    for path in sorted(trainer.rglob("*.py")):
        files[f"trainer/{path.relative_to(trainer).as_posix()}"] = path.read_text(encoding="utf-8")
    return files


@cache
def _digest() -> str:
    text = "\0".join(f"{name}\0{body}" for name, body in sorted(_source().items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
