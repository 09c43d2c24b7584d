"""`model-trainer setup` as a person sees it: progress on stderr, the result on stdout."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from types import FrameType

from ..executors.paths import Home
from ..services.environment.setup import find_lock, set_up
from ..services.settings import load_settings


def run_setup(profile: str, requirements: Path | None) -> int:
    """Make the environment; 0 when it is there.

    Raises:
        ModelTrainerError: as `services.environment.setup` says.
    """
    # Ended politely, it cleans up as for Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    started = time.monotonic()

    def tell(line: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - started:5.0f} s] {line}\n")
        sys.stderr.flush()

    settings = load_settings()
    made = set_up(Home.open(settings.runs_dir), find_lock(profile, requirements), tell)
    verb = "is already there" if made.already_there else f"is ready after {time.monotonic() - started:.0f} s"
    lines = [
        f"The training environment {profile!r} {verb}: {made.folder}",
        f"{made.packages} packages, {made.megabytes:,} MB",
    ]
    if made.others:
        lines.append("Older environments, which runs may still use (remove them by hand when none does):")
        lines += [f"  {folder}" for folder in made.others]
    if settings.python is not None:
        lines.append(f"It isn't used while settings.toml names another: python = {settings.python}")
    lines.append("Next: `model-trainer doctor`, then `model-trainer connect claude` (or cursor, vscode, codex).")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
