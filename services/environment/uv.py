"""The uv that makes training environments: the user's own, else one of our own under the state folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from ...executors.errors import EnvironmentFault
from ...executors.paths import Home

#: Relocatable environments and hash checking are stable in these.
UV = "uv>=0.9,<1"

Tell = Callable[[str], None]

_HEARTBEAT_SECONDS = 10.0


def find_uv(home: Home) -> Path | None:
    """`$UV` (set by uv itself for what it runs), uv on PATH, or the one that `get_uv` made."""
    candidates = (os.environ.get("UV"), shutil.which("uv"), str(home.root / "tools" / "uv" / "bin" / "uv"))
    return next((Path(found) for found in candidates if found and os.access(found, os.X_OK)), None)


def get_uv(home: Home, tell: Tell) -> Path:
    """As `find_uv`; where there is none, it is installed into `<state>/tools/uv` with venv and pip.

    Raises:
        EnvironmentFault: Python can't make virtual environments here, or the package index is out of reach.
    """
    found = find_uv(home)
    if found is not None:
        return found
    tell("getting uv (about 60 MB) …")
    folder = home.root / "tools" / "uv"
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    building = folder.with_name(f".uv.{os.getpid()}")
    try:
        _run([sys.executable, "-m", "venv", str(building)])
        _run([str(building / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", UV])
        shutil.rmtree(folder, ignore_errors=True)
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder / "bin" / "uv"


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or "").strip().splitlines()
        raise EnvironmentFault(
            "package_missing",
            f"uv is not installed, and could not be: {said[-1][:300] if said else error}",
            next_step="Install uv (for one with `pipx install uv`), then run `model-trainer setup` again.",
        ) from error


def run_uv(uv: Path, held: int, *arguments: str, watch: tuple[Path, Tell] | None = None) -> None:
    """Run uv with its own live output on our stderr; ended when we are interrupted.

    `held` is a lock's descriptor that uv inherits, so that the lock outlives us if only we are killed.

    Raises:
        EnvironmentFault: uv failed.
    """
    dropped = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "UV_PROJECT_ENVIRONMENT")
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    command = [str(uv), *arguments]
    with _interruptions_held_back() as interrupted:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(), env=environment, pass_fds=(held,)
        )
    try:
        if interrupted:
            raise KeyboardInterrupt
        while True:
            try:
                code = process.wait(timeout=_HEARTBEAT_SECONDS)
                break
            except subprocess.TimeoutExpired:
                # On a terminal uv draws its own bars; our lines would tear them.
                if watch is not None and not sys.stderr.isatty():
                    packages, size = measure(watch[0])
                    watch[1](f"… {packages} packages, {size:,} MB on disk")
    except BaseException:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    if code:
        raise EnvironmentFault(
            "environment_incomplete",
            f"`uv {arguments[0]}` failed (exit {code}); its own words stand above.",
            next_step="Mend that (network, proxy, disk), run `model-trainer setup` again; nothing half-made is left.",
        )


@contextmanager
def _interruptions_held_back() -> Generator[list[int]]:
    """Collects SIGINT and SIGTERM meanwhile: raised inside Popen they would leave a child that nobody knows."""
    held: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield held
        return

    def hold(number: int, _frame: FrameType | None) -> None:
        held.append(number)

    former = {number: signal.signal(number, hold) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield held
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def check_imports(python: Path, packages: list[str]) -> None:
    """Prove that the packages work on this machine, not only that their files are there.

    Raises:
        EnvironmentFault: one can't be imported; its last line is quoted.
    """
    try:
        done = subprocess.run(
            [str(python), "-E", "-c", f"import {', '.join(packages)}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        said = done.stderr.strip().splitlines()[-1:] if done.returncode else []
    except (OSError, subprocess.SubprocessError) as error:
        said = [str(error)]
    if said:
        raise EnvironmentFault(
            "environment_incomplete",
            f"The packages were installed, but don't work here: {said[0][:300]}",
            next_step="Mend that, run `model-trainer setup` again; nothing half-made is left.",
        )


def measure(folder: Path) -> tuple[int, int]:
    """Packages in the environment, and its size in MB; hard links to uv's cache count in full."""
    packages, size = 0, 0
    for where, folders, files in os.walk(folder):
        if where.endswith("site-packages"):
            packages += sum(name.endswith(".dist-info") for name in folders)
        for name in files:
            try:
                size += os.lstat(os.path.join(where, name)).st_size  # noqa: PTH118 (a path object per file is slow)
            except OSError:
                continue
    return packages, round(size / 1e6)
