"""`model-trainer setup`: makes a training environment from the lock that ships with this version.

    <state>/envs/<lock digest>/    the environment; never changed once it is there
    <state>/envs/<profile>         a link to it, moved in one step

Crash contract: it is built under a hidden name and renamed when it works, so what has its name is complete. A set-up
that was killed leaves a hidden folder, which the next one removes. One set-up at a time: uv inherits the lock, so that
a uv whose set-up was killed is waited for.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...executors import host
from ...executors.errors import EnvironmentFault, LimitError
from ...executors.paths import Home
from ...trainer import records
from .environments import REQUIRED, describe
from .uv import Tell, check_imports, get_uv, measure, run_uv

#: As `environment` in a config.
PROFILE = "[a-z][a-z0-9_-]{0,31}"

LOCKS = Path(__file__).parent / "locks"

_GIB = 2**30
#: Measured: 6.3 GB on Linux x86-64, plus room for what is unpacked meanwhile.
_NEEDED_BYTES = 8 * _GIB


@dataclass(frozen=True)
class Lock:
    """Pinned requirements, and the name of the environment that they make."""

    profile: str
    path: Path
    text: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    @property
    def packages(self) -> list[str]:
        """Names of the pinned packages, as the lock spells them."""
        return re.findall(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*==", self.text, re.MULTILINE)


@dataclass(frozen=True)
class SetUp:
    """The environment that `set_up` leaves."""

    folder: Path
    already_there: bool
    packages: int
    megabytes: int
    others: tuple[Path, ...]
    """Environments of former versions, which runs may still use."""


def find_lock(profile: str, requirements: Path | None = None) -> Lock:
    """The lock that ships for `profile`, or the file given.

    Raises:
        EnvironmentFault: there is no such profile or file, or the shipped locks are not for this platform.
    """
    if not re.fullmatch(PROFILE, profile):
        raise EnvironmentFault(
            "environment_missing",
            f"{profile[:80]!r} can't name a profile: lower-case letters, digits, '_' and '-', at most 32.",
            next_step="Run `model-trainer setup --profile default`.",
        )
    path = requirements or LOCKS / f"{profile}.txt"
    known = sorted(lock.stem for lock in LOCKS.glob("*.txt"))
    if requirements is None and profile not in known:
        raise EnvironmentFault(
            "environment_missing",
            f"There is no profile {profile!r}; this version has {', '.join(known)}.",
            next_step=f"Run `model-trainer setup --profile {known[0]}`.",
        )
    if requirements is None and sys.platform != "linux":
        raise EnvironmentFault(
            "environment_missing",
            f"The locked environments are for Linux, this is {sys.platform}.",
            next_step="Make an environment with torch, transformers, trl, peft, datasets and accelerate yourself, and "
            "set MODEL_TRAINER_PYTHON to its Python.",
        )
    try:
        return Lock(profile, path, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise EnvironmentFault(
            "environment_missing", f"{path} can't be read: {error}.", next_step="Give the path of a requirements file."
        ) from error


def set_up(home: Home, lock: Lock, tell: Tell) -> SetUp:
    """Make the lock's environment, or find it made; then point the profile's link at it. Blocking for minutes.

    Raises:
        EnvironmentFault: uv can't be had, or the packages can't be installed or imported.
        LimitError: too little disk (`too_large`).
    """
    folder = home.envs / lock.digest
    with _alone(home, tell) as held:
        for leftover in home.envs.glob(".building-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        already_there = is_complete(folder, lock)
        if not already_there:
            _build(home, lock, folder, tell, held)
        _link(home.envs / lock.profile, folder)
    packages, size = measure(folder)
    return SetUp(folder, already_there, packages, size, others=_others(home))


def is_complete(folder: Path, lock: Lock) -> bool:
    """Whether the environment was finished once and still works."""
    if not (folder / "complete.json").is_file():
        return False
    try:
        there = describe(folder / "bin" / "python", "setup").versions
    except EnvironmentFault:
        return False
    return all(name in there for name in _wanted(lock))


def _wanted(lock: Lock) -> list[str]:
    return [name for name in REQUIRED if name in lock.packages]


def _build(home: Home, lock: Lock, folder: Path, tell: Tell, held: int) -> None:
    _check_disk(home, lock)
    started = time.monotonic()
    uv = get_uv(home, tell)
    building = home.envs / f".building-{lock.digest}"
    python = building / "bin" / "python"
    try:
        tell(f"making {folder} …")
        # --relocatable: it is renamed when it is complete.
        run_uv(uv, held, "venv", "--quiet", "--no-project", "--relocatable", "--python", sys.executable, str(building))
        tell(f"downloading and installing {len(lock.packages)} locked packages …")
        hashes = ["--require-hashes"] if "--hash" in lock.text else []
        arguments = ["pip", "install", "--python", str(python), "--no-deps", "--compile-bytecode", *hashes]
        run_uv(uv, held, *arguments, "-r", str(lock.path), watch=(building, tell))
        wanted = _wanted(lock)
        if wanted:
            tell(f"checking that {', '.join(wanted)} can be imported …")
            check_imports(python, wanted)
        record = {
            "lock": lock.digest,
            "profile": lock.profile,
            "versions": describe(python, "setup").versions,
            "made": host.now(),
            "seconds": round(time.monotonic() - started, 1),
        }
        records.write_json(building / "complete.json", record)
        if folder.exists():
            # It has the name but doesn't work (is_complete said so): a system Python was removed, or files were.
            tell(f"replacing {folder}, which doesn't work any more")
            shutil.rmtree(folder)
        building.rename(folder)
        records.sync_folder(home.envs)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _check_disk(home: Home, lock: Lock) -> None:
    free = shutil.disk_usage(home.envs).free
    if "torch" in lock.packages and free < _NEEDED_BYTES:
        raise LimitError(
            "too_large",
            f"The training environment needs about {_NEEDED_BYTES / _GIB:.0f} GiB of disk; {home.envs} has "
            f"{free / _GIB:.1f} GiB free.",
            next_step="Free some, or set MODEL_TRAINER_STATE to a folder on a bigger disk (for the server too).",
        )


@contextmanager
def _alone(home: Home, tell: Tell) -> Generator[int]:
    """Wait until no other set-up works in this state folder; yields the descriptor that holds the lock."""
    descriptor = os.open(home.locks / "setup.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        told = False
        while not records.try_lock(descriptor):
            if not told:
                tell("another set-up is at work; waiting for it …")
                told = True
            time.sleep(0.5)
        yield descriptor
    finally:
        os.close(descriptor)


def _link(link: Path, folder: Path) -> None:
    """Point `link` at `folder`, in one step for whoever reads it meanwhile."""
    if link.is_symlink() and link.readlink() == Path(folder.name):
        return
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(folder.name)
    os.replace(temporary, link)


def _others(home: Home) -> tuple[Path, ...]:
    entries = [entry for entry in home.envs.iterdir() if not entry.name.startswith(".")]
    used = {entry.resolve() for entry in entries if entry.is_symlink()}
    return tuple(sorted(entry for entry in entries if not entry.is_symlink() and entry.resolve() not in used))
