"""`model-trainer runs`: for people, which runs there are, what they take on the disk, and how to get room back."""

from __future__ import annotations

import argparse
import shlex
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ..services.app import App
    from ..services.runs.listing import RunLine
    from ..services.runs.pruning import PrunePlan, PruneRequest

_OVER = ("succeeded", "failed", "cancelled", "lost")

#: Run ids named behind a reason for which runs stay.
_NAMED = 5

_RUNS = """\
examples:
  model-trainer runs list                       the newest 20 runs, and what all of them take
  model-trainer runs list --status failed --all
  model-trainer runs prune                      show what of old runs could go (nothing is removed)
  model-trainer runs restart                    go on with what a restart of the machine interrupted
"""

_PRUNE = """\
examples:
  model-trainer runs prune                      checkpoints of runs that ended more than 30 days ago
  model-trainer runs prune --older-than 7 --status failed --status cancelled
  model-trainer runs prune --what run --keep 20
  model-trainer runs prune RUN_ID               this run's checkpoints, whatever its age

Nothing is removed without --confirm: the list ends with the command that removes exactly what it shows.
Never removed: anything of a run that is not over, or that such a run needs, or that can't be read.
"""


class Commands(Protocol):
    """What argparse's subparsers are; their class has no public name."""

    def add_parser(self, name: str, **kwargs: Any) -> argparse.ArgumentParser: ...


def add_to(commands: Commands) -> None:
    """Add `runs` and what comes after it to the command line."""
    purpose = "list runs with what they take on the disk, remove what old ones don't need, go on after a restart"
    runs = commands.add_parser(
        "runs",
        help=purpose,
        description=f"model-trainer runs: {purpose}.",
        epilog=_RUNS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = runs.add_subparsers(dest="verb", metavar="VERB", required=True)
    listing = verbs.add_parser(
        "list", help="a table of runs, their disk use, and free disk", description="The newest runs first."
    )
    listing.add_argument("--status", choices=("live", "queued", *_OVER), help="only runs of this status")
    listing.add_argument("--all", action="store_true", help="all of them (default: the newest 20)")
    prune = verbs.add_parser(
        "prune",
        help="show, and with --confirm remove, the big parts of runs that are over",
        description="Remove the big parts of runs that are over, once you have seen which.",
        epilog=_PRUNE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    prune.add_argument("run_ids", metavar="RUN_ID", nargs="*", help="only these runs (default: all old ones)")
    prune.add_argument(
        "--older-than",
        metavar="DAYS",
        type=_days,
        help="only runs that ended so long ago (default: 30; for named runs 0)",
    )
    prune.add_argument("--status", action="append", choices=_OVER, default=[], help="only these; may be repeated")
    prune.add_argument("--keep", metavar="N", type=_count, default=0, help="leave the newest N runs alone")
    prune.add_argument(
        "--what",
        choices=("checkpoints", "run"),
        default="checkpoints",
        help="checkpoints: also code/ and work/, while output, metrics, logs and records stay; "
        "run: the whole folder, the output too (default: %(default)s)",
    )
    prune.add_argument("--confirm", metavar="DIGEST", help="remove what the list with this digest showed")
    verbs.add_parser(
        "restart",
        help="start again what a restart of the machine interrupted",
        description="Start the next supervisor of each run that waits for one; servers do this when they start.",
    )


def run(options: argparse.Namespace) -> int:
    """Do what was asked; the exit code.

    Raises:
        ModelTrainerError: settings or state folder can't be used, a run isn't here, a digest is out of date.
    """
    # Not `app.open_app`: the server's SDK takes half a second to import.
    from ..executors.paths import Home
    from ..services.app import App
    from ..services.settings import load_settings

    settings = load_settings()
    app = App(home=Home.open(settings.runs_dir), settings=settings, workspace=None)
    match options.verb:
        case "list":
            return _list(app, options.status, everything=options.all)
        case "restart":
            from ..services.runs.restarting import restart_interrupted

            _say(*(restart_interrupted(app) or ["No run waits for a restart."]))
            return 0
        case _:
            return _prune(app, options)


def _list(app: App, status: Any, *, everything: bool) -> int:
    import anyio

    from ..services.runs import disk, listing

    async def read() -> tuple[list[RunLine], int, list[str]]:
        lines: list[RunLine] = []
        cursor = None
        while True:
            page = await listing.list_runs(
                app, status=status, kind="all", limit=50 if everything else 20, cursor=cursor
            )
            lines += page.runs
            cursor = page.next_cursor
            if not everything or cursor is None:
                return lines, page.total, page.damaged

    lines, total, damaged = anyio.run(read)
    rows = [("run", "status", "kind", "disk", "model")]
    for line in lines:
        reason = f": {line.reason}" if line.reason else ""
        used = "many files" if line.disk_bytes is None else _size(line.disk_bytes)
        rows.append((line.run_id, line.status + reason, line.method or line.kind, used, line.model or ""))
    _table(rows)
    if len(lines) < total:
        _say(f"… the newest {len(lines)} of {total}; --all shows all")
    if damaged:
        _say(f"Can't be read, damaged or of a newer version: {', '.join(damaged)}")
    totals = disk.disk_totals(app)
    _say("", f"All runs take {_size(totals.used)}; {_size(totals.free)} are free in {app.home.runs}")
    return 0


def _prune(app: App, options: argparse.Namespace) -> int:
    from ..services.runs import pruning

    request = pruning.PruneRequest(
        run_ids=tuple(options.run_ids),
        older_than_days=options.older_than,
        statuses=tuple(options.status),
        keep=options.keep,
        what=options.what,
    )
    if options.confirm is None:
        _show(pruning.plan(app, request), request)
        return 0
    done = pruning.prune(app, request, options.confirm)
    for run_id, size in done.gone.items():
        _say(f"{run_id}  {_size(size)} removed")
    _say(f"{_size(sum(done.gone.values()))} of {len(done.gone)} runs removed.")
    for problem in done.problems:
        sys.stderr.write(f"could not be removed: {problem}\n")
    return 1 if done.problems else 0


def _show(plan: PrunePlan, request: PruneRequest) -> None:
    from ..executors import host

    now = datetime.fromisoformat(host.now())
    if plan.doomed:
        rows = [("run", "status", "ended", "would go", "disk")]
        for one in plan.doomed:
            ago = f"{max(0, (now - one.ended).days)} days ago"
            what = ", ".join("the whole run" if name == "run" else name for name, _ in one.parts)
            rows.append((one.run.id, one.status, ago, what, _size(one.size)))
        _table(rows)
        _say("", f"{_size(plan.size)} of {len(plan.doomed)} runs would go.")
        stays = "nothing of them" if request.what == "run" else "their output, metrics, logs and records"
        _say(f"What stays: {stays}.")
    else:
        _say("Nothing would go.")
    if plan.kept:
        _say("These runs stay as they are:")
    for reason, run_ids in plan.kept.items():
        more = f" and {len(run_ids) - _NAMED} more" if len(run_ids) > _NAMED else ""
        _say(f"  {reason}: {', '.join(run_ids[:_NAMED])}{more}")
    if plan.doomed:
        _say("", "Nothing was removed. This removes exactly what is listed:", f"  {_command(request, plan.digest)}")


def _command(request: PruneRequest, digest: str) -> str:
    words = ["model-trainer", "runs", "prune", *request.run_ids]
    if request.older_than_days is not None:
        words += ["--older-than", f"{request.older_than_days:g}"]
    for status in request.statuses:
        words += ["--status", status]
    if request.keep:
        words += ["--keep", str(request.keep)]
    if request.what != "checkpoints":
        words += ["--what", request.what]
    return shlex.join([*words, "--confirm", digest])


def _table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    _say(*("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows))


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _size(count: int) -> str:
    for unit, least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= least:
            return f"{count / least:.1f} {unit}"
    return f"{count} B"


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not 0 <= days < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days")
    return days


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of runs")
    return int(text)
