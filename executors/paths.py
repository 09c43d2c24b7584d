"""Where everything lies: the state folder (`Home`) and one run's folder (`RunPaths`).

<home>/                    0700, ours; a foreign owner is refused
  runs/<run_id>/           see RunPaths (the setting `runs_dir` moves it: checkpoints are big)
  plans/<plan_id>.json     what plan_training answered
  envs/<lock digest>/      training environments, never changed once complete
  code/<digest>/           the trainer's source as a package of its own name, shared by probes
  cache/                   rebuildable: argument names per environment
  locks/<run_id>.lock      held by the run's supervisor for life; always on a local disk: if <home> is on a network file
                           system, locks lie in /var/tmp/model-trainer-<uid>/<hash of its path>/, on each machine apart
  server.log               what the error boundary hides from callers
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from ..trainer import records
from ..trainer.contract import SCHEMA_VERSION
from . import history, leftovers, storage
from .errors import RunError, StateError
from .owned import own, own_here

#: A local disk that outlasts a restart of the machine.
LOCAL = Path("/var/tmp")  # noqa: S108  whatever lies there already is looked at before it is used

RUN_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")


@dataclass(frozen=True)
class Home:
    """The state folder, made on demand. `runs` may lie on another disk."""

    root: Path
    runs: Path
    locks_apart: Path | None = None
    """Where locks lie if the state folder can't hold them."""

    @classmethod
    def open(cls, runs_dir: Path | None = None, *, mounts: str | None = None) -> Home:
        """The user's state folder (see `state_folder`), made on demand, closed to others, and cleared of leftovers.

        `mounts` stands for the text of /proc/self/mountinfo.

        Raises:
            StateError: it belongs to somebody else, or can't be written.
        """
        root = state_folder()
        own(root, alone=True)
        shared = storage.network_type(root, storage.mountinfo() if mounts is None else mounts) is not None
        home = cls(
            root=root,
            runs=(runs_dir or root / "runs").expanduser().absolute(),
            locks_apart=_local_locks(root) if shared else None,
        )
        own(home.runs, named="MODEL_TRAINER_STATE" if runs_dir is None else "runs_dir in settings.toml")
        for folder in (home.plans, home.envs, home.code, home.cache, home.locks):
            own(folder)
        leftovers.tidy((home.root, home.plans, home.code, home.cache), shared=shared)
        leftovers.tidy((home.locks,), shared=False)
        return home

    @property
    def plans(self) -> Path:
        return self.root / "plans"

    @property
    def envs(self) -> Path:
        return self.root / "envs"

    @property
    def code(self) -> Path:
        return self.root / "code"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def locks(self) -> Path:
        return self.locks_apart or self.root / "locks"

    def run(self, run_id: str) -> RunPaths:
        """Paths of an existing run.

        Raises:
            RunError: the id is none of ours, or no such run is here.
            StateError: a newer version of Model Trainer made the run (`newer_schema`).
        """
        paths = self.new_run(run_id)
        if not paths.run_json.is_file():
            raise RunError("run_not_found", f"There is no run {run_id!r}.", next_step="list_runs() shows all runs.")
        # Of a damaged record, whoever needs it says so; others do without.
        with contextlib.suppress(ValueError):
            refuse_newer(run_id, records.read_json(paths.run_json) or {})
        return paths

    def new_run(self, run_id: str) -> RunPaths:
        """Paths of a run that need not exist yet.

        Raises:
            RunError: the id isn't one that we mint (letters, digits, `_.-`, at most 64): never joined to a path.
        """
        if not RUN_ID.fullmatch(run_id):
            raise RunError(
                "run_not_found",
                f"{run_id[:80]!r} is no run id: ids hold letters, digits, '_', '.' and '-', at most 64.",
                next_step="list_runs() shows the ids.",
            )
        return RunPaths(root=self.runs / run_id, lock=self.locks / f"{run_id}.lock")


@dataclass(frozen=True)
class RunPaths:
    """One run's folder; the only place that knows its file names.

    run.json            server, once: what was asked
    config.yaml         server, once: the config as asked, every path absolute
    code/               server, once: the trainer's source as it was
    events.jsonl        supervisor: every transition and notice
    attempts/<n>/       supervisor and trainer: config.yaml, metrics.jsonl, train.log, result.json, exit.json
    checkpoints/        trainer
    output/             trainer: adapter or model, tokenizer, summary
    plots/              server: pictures of its metrics, drawn on request
    publish/            server: for publishing it: the curve, hashes, and by digest what was shown (card, clean configs)
    exit.json           supervisor, once: the terminal record
    """

    root: Path
    lock: Path

    @property
    def id(self) -> str:
        return self.root.name

    @property
    def run_json(self) -> Path:
        return self.root / "run.json"

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def code(self) -> Path:
        return self.root / "code"

    @property
    def events(self) -> Path:
        return self.root / "events.jsonl"

    @property
    def exit_json(self) -> Path:
        return self.root / "exit.json"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def output(self) -> Path:
        return self.root / "output"

    @property
    def plots(self) -> Path:
        return self.root / "plots"

    @property
    def publish(self) -> Path:
        return self.root / "publish"

    @property
    def attempts(self) -> Path:
        return self.root / "attempts"

    def attempt(self, number: int) -> AttemptPaths:
        """Paths of attempt `number`, counted from 1."""
        return AttemptPaths(self.attempts / str(number))

    def latest_attempt(self) -> AttemptPaths:
        """The newest attempt's paths; attempt 1's where none has begun."""
        try:
            numbers = [int(entry.name) for entry in self.attempts.iterdir() if entry.name.isdigit()]
        except FileNotFoundError:
            numbers = []
        return self.attempt(max(numbers, default=1))


@dataclass(frozen=True)
class AttemptPaths:
    """One attempt's folder inside a run."""

    root: Path

    @property
    def number(self) -> int:
        return int(self.root.name)

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def progress(self) -> Path:
        return self.root / "progress.json"

    @property
    def log(self) -> Path:
        return self.root / "train.log"

    @property
    def result(self) -> Path:
        return self.root / "result.json"

    @property
    def exit_json(self) -> Path:
        return self.root / "exit.json"


def state_folder() -> Path:
    """The user's state folder: `$MODEL_TRAINER_STATE`, else the platform's. It need not be there yet."""
    given = os.environ.get("MODEL_TRAINER_STATE")
    root = Path(given) if given else Path(platformdirs.user_state_dir("model-trainer"))
    return root.expanduser().absolute()


def refuse_newer(run_id: str, record: dict[str, Any]) -> None:
    """Let nothing be read from a run's record that a newer version wrote: its fields may mean something else.

    Raises:
        StateError: `newer_schema`.
    """
    if history.is_newer(record):
        raise StateError(
            "newer_schema",
            f"Run {run_id} was made by a newer version of Model Trainer: its record has schema {record['schema']}, "
            f"this version knows {SCHEMA_VERSION}.",
            next_step="Update Model Trainer (for example `uv tool upgrade model-trainer`); nothing touches the run "
            "until then. list_runs() shows the others.",
        )


def _local_locks(root: Path) -> Path:
    """Where this machine's locks of a state folder on a network file system lie.

    Raises:
        StateError: somebody else was there first (`foreign_state`), or it can't be used.
    """
    ours = LOCAL / f"model-trainer-{os.getuid()}"
    own_here(ours)
    locks = ours / hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    own_here(locks)
    return locks
