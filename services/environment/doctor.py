"""`model-trainer doctor`: everything checked, in words for a person, with what to do at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from ...executors import storage
from ...executors.errors import ModelTrainerError
from ...executors.owned import is_open
from ...executors.paths import Home, state_folder
from ..app import App
from ..settings import Settings, load_settings, settings_path
from . import checking
from .checking import EnvironmentReport
from .clients import TITLES, Client, Scope, find_target

Level = Literal["ok", "note", "bad"]
_MARKS: dict[Level, str] = {"ok": "ok  ", "note": "note", "bad": "BAD "}

#: Importing torch cold from a slow disk takes a minute; more is a defect.
_TORCH_SECONDS = 180
_TORCH = "import json, torch; print(json.dumps([torch.__version__, torch.version.cuda, torch.cuda.is_available()]))"


@dataclass
class Diagnosis:
    """What was found, in order."""

    lines: list[str] = field(default_factory=list[str])
    to_do: list[str] = field(default_factory=list[str])
    healthy: bool = True

    def add(self, level: Level, text: str, to_do: str | None = None) -> None:
        """One finding; `to_do` is what a person does about it."""
        self.lines.append(f"{_MARKS[level]}  {text}")
        self.healthy = self.healthy and level != "bad"
        if to_do is not None:
            self.to_do.append(to_do)

    def text(self) -> str:
        """The whole, for a terminal."""
        verdict = "Everything works." if self.healthy else "Something is broken."
        steps = [f"  {number}. {step}" for number, step in enumerate(self.to_do, 1)]
        return "\n".join([*self.lines, "", verdict, *(["What to do:"] if steps else []), *steps])


def examine(project: Path | None = None, *, mounts: str | None = None) -> Diagnosis:
    """Check the whole installation; takes seconds, because torch is imported once.

    `mounts` stands for the text of /proc/self/mountinfo.
    """
    found = Diagnosis()
    found.add("ok", f"model-trainer {version('model-trainer')}, Python {sys.version.split()[0]} at {sys.executable}")
    settings = _settings(found)
    home = _state(found, settings, storage.mountinfo() if mounts is None else mounts)
    if home is None:
        return found
    report = checking.look(App(home=home, settings=settings, workspace=None))
    _training(found, report)
    _hardware(found, report)
    for account in report.accounts:
        where = f"logged in ({account.where})" if account.logged_in else "not logged in"
        found.add(
            "ok" if account.logged_in and account.reaches_runs else "note",
            _with(f"{account.name}: {where}", account.note),
        )
    _clients(found, project or Path.cwd())
    return found


def _settings(found: Diagnosis) -> Settings:
    path = settings_path()
    try:
        settings = load_settings()
    except ModelTrainerError as error:
        found.add("bad", error.message, f"correct {path}: the server refuses all work until then")
        return Settings()
    there = "" if path.is_file() else " (not there: all defaults; docs/settings.md says what it may hold)"
    found.add("ok", f"settings: {path}{there}")
    for setting in checking.describe_settings(settings):
        if setting.changed:
            found.lines.append(f"        {setting.name} = {setting.value}")
    return settings


def _state(found: Diagnosis, settings: Settings, mounts: str) -> Home | None:
    root = state_folder()
    was_open = _is_open(root)
    try:
        home = Home.open(settings.runs_dir, mounts=mounts)
    except ModelTrainerError as error:
        found.add("bad", error.message, error.next_step)
        return None
    found.add("ok", f"state folder: {home.root} (yours); runs: {home.runs}; locks: {home.locks}")
    if was_open and not _is_open(root):
        found.add("note", f"{root} could be entered by other users; it is closed to them now (mode 700)")
    for folder in (home.root, home.runs):
        if _is_open(folder):
            found.add("note", f"{folder} can be entered by other users", f"chmod 700 '{folder}'")
    _network(found, home, mounts)
    return home


def _is_open(folder: Path) -> bool:
    try:
        return is_open(folder.stat())
    except OSError:
        return False


def _network(found: Diagnosis, home: Home, mounts: str) -> None:
    """Which folders other machines may share; locks must not be among them."""
    for folder in dict.fromkeys((home.root, home.runs)):
        if (kind := storage.network_type(folder, mounts)) is not None:
            what = "each machine has its own queue and locks, and other machines' runs there read as unreachable"
            found.add("note", f"{folder} is on a network file system ({kind}): {what}")
    if (kind := storage.network_type(home.locks, mounts)) is not None:
        found.add(
            "bad",
            f"locks lie in {home.locks}, on a network file system ({kind}): two machines could run the same",
            "set MODEL_TRAINER_STATE to a folder on a local disk",
        )


def _training(found: Diagnosis, report: EnvironmentReport) -> None:
    for missing in report.missing:
        if missing.required:
            found.add("bad", f"missing: {missing.what}: {missing.why}", f"run: {missing.command}")
        elif missing.what == "disk space":
            found.add("note", f"{missing.what}: {missing.why}", missing.command)
    if not report.environments or report.environments[0].missing:
        return
    first = report.environments[0]
    versions = ", ".join(f"{name} {number}" for name, number in first.versions.items())
    found.add("ok", f"training environment (named by: {first.source}): {first.python}\n        {versions}")
    _torch(found, Path(first.python), gpus=len(report.hardware.gpus))


def _torch(found: Diagnosis, python: Path, *, gpus: int) -> None:
    """Whether torch really loads there, and sees the GPUs that the driver sees."""
    try:
        done = subprocess.run(
            [str(python), "-E", "-c", _TORCH],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TORCH_SECONDS,
            check=False,
        )
        number, cuda, sees = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        found.add(
            "bad",
            f"torch can't be imported there: {type(error).__name__}",
            f"see for yourself: {python} -c 'import torch'",
        )
        return
    if gpus and not sees:
        to_do = "update the NVIDIA driver, or install the torch build that fits it; until then runs use the CPU"
        found.add("bad", f"torch {number} (CUDA {cuda or 'none'}) does not see the GPU that the driver shows", to_do)
    else:
        found.add("ok", f"torch {number} loads" + (f" and sees the GPU (CUDA {cuda})" if sees else ""))


def _hardware(found: Diagnosis, report: EnvironmentReport) -> None:
    hardware = report.hardware
    for gpu in hardware.gpus:
        found.add(
            "ok", f"GPU {gpu.index}: {gpu.name}, {gpu.memory_free_gib:.1f} of {gpu.memory_total_gib:.1f} GiB free"
        )
    if hardware.note or not hardware.gpus:
        found.add("note", _with("" if hardware.gpus else "no GPU: training runs on the CPU", hardware.note))
    found.add(
        "ok",
        f"{hardware.cpu_cores} cores, {hardware.memory_available_gib:.1f} of {hardware.memory_total_gib:.1f} GiB "
        f"memory available, {hardware.disk_free_gib:.1f} GiB disk free",
    )


def _clients(found: Diagnosis, project: Path) -> None:
    connected = False
    clients: tuple[Client, ...] = ("claude", "cursor", "vscode", "codex")
    scopes: tuple[Scope, ...] = ("project", "user")
    for client in clients:
        for scope in scopes:
            target = find_target(client, scope, project)
            try:
                entry = target.entry_in(target.read())
            except ModelTrainerError as error:
                found.add("note", error.message, error.next_step)
                continue
            if entry is None:
                continue
            connected = True
            command = str(entry.get("command", ""))
            if os.access(command, os.X_OK):
                found.add("ok", f"{TITLES[client]} starts it ({target.path})")
            else:
                again = f"model-trainer connect {client} --scope {scope}"
                found.add("bad", f"{TITLES[client]}: {command!r} in {target.path} can't be started", f"run: {again}")
    if not connected:
        found.add("note", "no client is connected here", "run: model-trainer connect claude (or cursor, vscode, codex)")


def _with(text: str, note: str | None) -> str:
    return "; ".join(part for part in (text, note) if part)
