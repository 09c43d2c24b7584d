"""Training environments: which Python trains, and what is installed there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ...executors.errors import EnvironmentFault
from ..app import App

#: Packages a training environment must have, and those whose versions are worth knowing.
REQUIRED = ("torch", "transformers", "trl", "peft", "datasets", "accelerate")
OPTIONAL = ("bitsandbytes", "wandb", "trackio", "tensorboard", "mlflow", "vllm")

SETUP = "Run `model-trainer setup` (a person or the agent's shell; it takes minutes and about 6 GB)."


@dataclass(frozen=True)
class TrainingEnvironment:
    """An interpreter that can train."""

    python: Path
    source: str
    """Where it was found: settings, MODEL_TRAINER_PYTHON, setup, server."""
    versions: dict[str, str]
    """Installed distributions among REQUIRED and OPTIONAL."""

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(name for name in REQUIRED if name not in self.versions)


def find_environment(app: App, profile: str = "default") -> TrainingEnvironment:
    """The training environment that applies, complete.

    Order: the setting `python`, `$MODEL_TRAINER_PYTHON`, what `model-trainer setup` made for `profile`, the server's
    own environment if it has trl. The first that is named counts: a broken choice is said, never skipped.

    Raises:
        EnvironmentFault: none is there (`environment_missing`), or packages are missing (`environment_incomplete`).
    """
    found = look_for_environment(app, profile)
    if found is None:
        raise EnvironmentFault(
            "environment_missing",
            f"No training environment is installed (profile {profile!r}).",
            next_step=SETUP,
        )
    if found.missing:
        raise EnvironmentFault(
            "environment_incomplete",
            f"The training environment {found.python} ({found.source}) lacks {', '.join(found.missing)}.",
            next_step=f"Install them there, or choose another: {SETUP}",
        )
    return found


def look_for_environment(app: App, profile: str = "default") -> TrainingEnvironment | None:
    """As `find_environment`, but None where there is none, and incomplete ones as they are."""
    if app.settings.python is not None:
        return describe(app.settings.python, "settings")
    if given := os.environ.get("MODEL_TRAINER_PYTHON"):
        return describe(Path(given), "MODEL_TRAINER_PYTHON")
    # Resolved to the folder that never changes: a later setup moves the profile's link, not a run that uses it.
    link = app.home.envs / profile
    if os.path.lexists(link):
        return describe(link.resolve() / "bin" / "python", "setup")
    if find_spec("trl") is not None:
        return describe(Path(sys.executable), "server")
    return None


_VERSIONS = """
import importlib.metadata as m, json, sys
found = {}
for name in sys.argv[1:]:
    try: found[name] = m.version(name)
    except m.PackageNotFoundError: pass
found["python"] = ".".join(map(str, sys.version_info[:3]))
print(json.dumps(found))
"""


def describe(python: Path, source: str) -> TrainingEnvironment:
    """What that interpreter has; `source` says who named it.

    Raises:
        EnvironmentFault: it doesn't exist or doesn't work (`environment_incomplete`).
    """
    python = python.expanduser()
    try:
        done = subprocess.run(
            [str(python), "-E", "-c", _VERSIONS, *REQUIRED, *OPTIONAL],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        versions: dict[str, str] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise EnvironmentFault(
            "environment_incomplete",
            f"The training environment's Python {python} ({source}) doesn't work: {type(error).__name__}.",
            next_step=f"Correct it, or: {SETUP}",
        ) from error
    return TrainingEnvironment(python=python, source=source, versions=versions)
