"""Temporary files that a killed writer left: found by their names, removed once their writer is certainly dead.

Writers make `.<name>.<pid>.tmp` or `.<name>.<hex>.tmp` and rename it at once; a snapshot of our code is made as
`.<digest>.<pid>`. Nobody reads what still has such a name.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from . import host

_TEMPORARY = re.compile(r"^\..+\.(?:(?P<pid>[0-9]{1,10})|[0-9a-f]{6,32})\.tmp$")
_SNAPSHOT = re.compile(r"^\.[0-9a-f]{16}\.(?P<pid>[0-9]{1,10})$")

#: Seconds after which any of them is nobody's; writing takes milliseconds. More than an hour, by which a wall clock
#: may have jumped.
OLD_SECONDS = 2 * 3600.0

#: … and after which a process is asked for: one of another container has a pid that isn't seen here.
_DEAD_SECONDS = 60.0


def tidy(folders: Iterable[Path], *, shared: bool) -> list[Path]:
    """Remove what dead writers left directly in these folders; returns what is gone.

    `shared`: other machines write there too, so a pid says nothing, and only age counts.
    """
    gone: list[Path] = []
    now = datetime.fromisoformat(host.now()).timestamp()
    for folder in folders:
        try:
            entries = [entry for entry in os.scandir(folder) if entry.name.startswith(".")]
        except OSError:
            continue
        for entry in entries:
            match = _TEMPORARY.match(entry.name) or _SNAPSHOT.match(entry.name)
            with contextlib.suppress(OSError):
                if match is None or not _is_dead(
                    match["pid"], now - entry.stat(follow_symlinks=False).st_mtime, shared
                ):
                    continue
                path = Path(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(path)
                else:
                    path.unlink()
                gone.append(path)
    return gone


def of_a_run(run: Path) -> list[Path]:
    """What writers left anywhere in the folder of a run that is over, and the room kept for its terminal record.

    Links are not followed.
    """
    found: list[Path] = []
    for folder, _, names in os.walk(run):
        here = [name for name in names if _TEMPORARY.match(name)]
        found += [Path(folder, name) for name in here]
    reserved = run / ".exit.json.reserved"
    return sorted([*found, *([reserved] if reserved.is_file() else [])])


def _is_dead(pid: str | None, age: float, shared: bool) -> bool:
    if pid is None or shared:
        return age > OLD_SECONDS
    # A pid that lives may be another process's by now; two hours decide.
    return age > OLD_SECONDS or (age > _DEAD_SECONDS and host.identify(int(pid)) is None)
