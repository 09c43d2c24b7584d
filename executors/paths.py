"""Where everything lies: the state folder (`Home`) and one run's folder (`RunPaths`).

<home>/                    0700, ours; a foreign owner is refused
  runs/<run_id>/           see RunPaths (the setting `runs_dir` moves it: checkpoints are big)
  plans/<plan_id>.json     what plan_training answered
  envs/<lock digest>/      training environments, never changed once complete
  code/<digest>/           the trainer's source as a package of its own name, shared by probes
  cache/                   rebuildable: argument names per environment
  locks/<run_id>.lock      held by the run's supervisor for life; always on a local disk
  server.log               what the error boundary hides from callers
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from .errors import RunError, StateError

RUN_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")


@dataclass(frozen=True)
class Home:
    """The state folder, made on demand. `runs` may lie on another disk."""

    root: Path
    runs: Path

    @classmethod
    def open(cls, runs_dir: Path | None = None) -> Home:
        """The user's state folder (`$MODEL_TRAINER_STATE`, else the platform's), created with mode 0700.

        Raises:
            StateError: it belongs to somebody else, or can't be written.
        """
        given = os.environ.get("MODEL_TRAINER_STATE")
        root = Path(given) if given else Path(platformdirs.user_state_dir("model-trainer"))
        root = root.expanduser().absolute()
        home = cls(root=root, runs=(runs_dir or root / "runs").expanduser().absolute())
        for folder in (home.root, home.runs, home.plans, home.envs, home.code, home.cache, home.locks):
            _own(folder)
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
        return self.root / "locks"

    def run(self, run_id: str) -> RunPaths:
        """Paths of an existing run.

        Raises:
            RunError: the id is none of ours, or no such run is here.
        """
        paths = self.new_run(run_id)
        if not paths.run_json.is_file():
            raise RunError("run_not_found", f"There is no run {run_id!r}.", next_step="list_runs() shows all runs.")
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


def _own(folder: Path) -> None:
    """Make `folder` ours alone, or refuse it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.stat().st_uid
    except OSError as error:
        raise StateError(
            "state_unwritable",
            f"The state folder {folder} can't be used: {error.strerror}.",
            next_step="Free disk space, or set MODEL_TRAINER_STATE to a writable folder; see `model-trainer doctor`.",
        ) from error
    if owner != os.getuid():
        raise StateError(
            "foreign_state",
            f"The state folder {folder} belongs to user {owner}, not to you ({os.getuid()}).",
            next_step="Set MODEL_TRAINER_STATE to a folder of your own; `model-trainer doctor` checks it.",
        )
