"""What a push would do, whole: looked at, collected, and put into one digest that a yes is bound to."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeVar

import anyio
import anyio.to_thread

from ...executors import states
from ...executors.errors import EnvironmentFault, LimitError, ModelTrainerError, PublishError
from ...executors.paths import RunPaths
from ..app import App, Progress
from ..calls import as_call
from ..configs import loading as configs
from ..runs import life as runs
from ..runs import plotting
from ..runs.outputs import Output
from . import card, facts, hub
from .bundle import CARD, CURVE, Bundle, gather, lies_in, to_remove, write_file
from .destinations import Folder, HubRepo, check_owner
from .leaks import refuse_leaks
from .licence import licence_of

T = TypeVar("T")

#: Seconds for what is asked of the Hub before a push.
_HUB_SECONDS = 12.0

#: Seconds for reading the files that would go out.
_READ_SECONDS = 30.0


@dataclass(frozen=True)
class PushRequest:
    """What is to be published where."""

    run_id: str
    destination: str
    visibility: Literal["private", "public"] = "private"
    overwrite: str | None = None
    """The destination once more, where something stands there that may be written over."""
    dry_run: bool = False
    confirm: str | None = None

    def call(self, **more: object) -> str:
        """The call that this was, with some arguments changed (None: left out)."""
        given: dict[str, object] = {
            "run_id": self.run_id,
            "destination": self.destination,
            "visibility": None if self.visibility == "private" else self.visibility,
            "overwrite": self.overwrite,
            **more,
        }
        return as_call("push_adapter", **given)


@dataclass(frozen=True)
class Prepared:
    """What would be done, whole: what a yes is given for."""

    request: PushRequest
    target: HubRepo | Folder
    output: Output
    bundle: Bundle
    replaces: str | None
    base_commit: str | None
    removes: tuple[str, ...]
    is_there: bool
    """The destination holds exactly this already."""
    notes: tuple[str, ...]
    spent: str | None = None
    """The push that a yes to this was used up by: it succeeded, or was stopped."""

    @property
    def content(self) -> str:
        """What would be done, in short, whenever it is."""
        return _short_hash(
            {
                "endpoint": os.environ.get("HF_ENDPOINT"),
                "target": self.target.record(),
                "replaces": self.base_commit or self.replaces,
                "removes": self.removes,
                "files": [(file.path, file.size, file.sha256) for file in self.bundle.files],
            }
        )

    @property
    def digest(self) -> str:
        """What a yes is bound to: the content, and that no such yes was used before."""
        return _short_hash([self.content, self.spent])


def _short_hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


async def account_for(app: App, target: HubRepo | Folder, request: PushRequest) -> hub.Account | None:
    """Who is logged in; None for a folder, and for a preview where nobody is or the Hub is out of reach."""
    if isinstance(target, Folder):
        return None
    if not hub.has_token():
        check_owner(app, target, None, ())
        if request.dry_run:
            return None
        raise PublishError(
            "not_logged_in",
            "There is no Hugging Face token here, so nothing can be published.",
            next_step=f"{hub.LOGIN}; then call push_adapter again. {request.call(dry_run=True)} shows what would go "
            "out, without a token.",
        )
    try:
        account = await _from_hub(hub.look_at_account)
    except EnvironmentFault:
        check_owner(app, target, None, ())
        if request.dry_run:
            return None
        raise
    check_owner(app, target, account.name, account.orgs)
    if not account.may_write:
        raise PublishError(
            "not_allowed",
            f"The token of {account.name!r} may only read.",
            next_step=f"{hub.LOGIN}; then call push_adapter again.",
        )
    return account


async def _from_hub(work: Callable[[], T]) -> T:
    """What the Hub says, in bounded time."""
    with anyio.move_on_after(_HUB_SECONDS):
        return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
    raise EnvironmentFault(
        "unreachable",
        f"The Hugging Face Hub did not answer within {_HUB_SECONDS:.0f} s.",
        next_step="Call push_adapter again in a minute.",
    )


async def prepare(
    app: App,
    run: RunPaths,
    output: Output,
    request: PushRequest,
    target: HubRepo | Folder,
    account: hub.Account | None,
    progress: Progress,
) -> Prepared:
    """Look at the destination and collect what would go there; `account` is None where the Hub wasn't asked.

    Raises:
        PublishError: `destination_taken`, `unsafe_files`.
        EnvironmentFault: the Hub can't be reached.
    """
    standing: hub.Standing | None = None
    notes: list[str] = []
    if isinstance(target, HubRepo):
        if account is not None:
            standing = await _from_hub(partial(hub.look_at_repo, target.repo))
        else:
            why = "the Hub can't be reached" if hub.has_token() else "nobody is logged in"
            notes.append(f"Not checked, as {why}: your account's rights, and whether {target.repo} exists already.")
    await progress(0, 3, "drawing the curve")
    curve = await _curve(app, run)
    await progress(1, 3, "reading files")
    bundle = await _in_time(partial(_bundle, app, run, output, target, curve), request)
    await progress(2, 3, "looking for secrets")
    await anyio.to_thread.run_sync(refuse_leaks, app, run, bundle)
    removes = to_remove(bundle, standing.files) if standing is not None else ()
    if isinstance(target, Folder):
        is_there = await anyio.to_thread.run_sync(lies_in, target.path, bundle)
    else:
        # Also if it is called already there: that a name leads elsewhere, or is public, must be said.
        _refuse_other(request, target, standing)
        is_there = standing is not None and standing.holds(bundle) and not removes
    replaces = None if is_there else _refuse_taken(request, target, standing)
    prepared = Prepared(
        request=request,
        target=target,
        output=output,
        bundle=bundle,
        replaces=replaces,
        base_commit=standing.commit if standing is not None and standing.files else None,
        removes=removes,
        is_there=is_there,
        notes=tuple(notes),
    )
    return replace(prepared, spent=await anyio.to_thread.run_sync(_spent, app, prepared.content))


async def _in_time(work: Callable[[], T], request: PushRequest) -> T:
    """What reading many bytes gives, within the time that an answer may take.

    Raises:
        LimitError: it takes longer (`timed_out`); what was read by then is remembered.
    """
    with anyio.move_on_after(_READ_SECONDS):
        return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
    raise LimitError(
        "timed_out",
        f"Reading the output's files takes longer than {_READ_SECONDS:.0f} s; what was read is remembered.",
        next_step=f"{request.call(dry_run=True)} again goes on reading.",
    )


def _spent(app: App, content: str) -> str | None:
    """The newest push of this content that succeeded or was stopped: a yes counts for one."""
    for run in runs.all_runs(app):
        record = runs.read_record(run.run_json) or {}
        asked: dict[str, Any] = record.get("request") or {}
        if record.get("kind") != "push" or asked.get("content") != content:
            continue
        if states.read_state(run).status in ("succeeded", "cancelled"):
            return run.id
    return None


def _refuse_other(request: PushRequest, target: HubRepo, standing: hub.Standing | None) -> None:
    """Refuse a name that leads to another repository, or one of another visibility.

    Raises:
        PublishError: `destination_taken`.
    """
    if standing is None:
        return
    if standing.id != target.repo:
        raise PublishError(
            "destination_taken",
            f"{target.repo} is called {standing.id} now: the Hub leads on from the former name.",
            next_step=f"{request.call(destination=standing.id, dry_run=True)} if that one is meant.",
        )
    if standing.private != target.private:
        is_now = "private" if standing.private else "public"
        raise PublishError(
            "destination_taken",
            f"{target.repo} exists and is {is_now}; visibility={request.visibility!r} was asked for, and that of an "
            "existing repository is never changed here.",
            next_step=f"{request.call(destination=_beside(request), dry_run=True)}, or visibility={is_now!r} if the "
            "user wants that.",
        )


def _refuse_taken(request: PushRequest, target: HubRepo | Folder, standing: hub.Standing | None) -> str | None:
    """What stands at the destination and may be written over; None for nothing that could be lost.

    Raises:
        PublishError: `destination_taken`.
    """
    if isinstance(target, Folder):
        if not target.path.is_dir() or not any(target.path.iterdir()):
            return None
        what = f"the folder {target.path}, which is kept beside it as a .bak"
    elif standing is None or not standing.files:
        return None
    else:
        what = f"{target.repo} at commit {standing.commit[:10]} ({len(standing.files)} files)"
    if request.overwrite is None:
        raise PublishError(
            "destination_taken",
            f"{request.destination} exists: it is {what}. It is not written over without a yes that names it.",
            next_step=f"{request.call(destination=_beside(request), dry_run=True)} takes a new name; if the user wants "
            f"it replaced, {request.call(overwrite=request.destination, dry_run=True)}.",
        )
    if request.overwrite != request.destination:
        raise PublishError(
            "destination_taken",
            f"overwrite names {request.overwrite!r}; what would be written over is {request.destination!r}.",
            next_step=f"{request.call(overwrite=request.destination, dry_run=True)}, if that is what the user wants.",
        )
    return what


def _beside(request: PushRequest) -> str:
    """Another name near the destination."""
    return f"{request.destination.rstrip('/')}-2"


async def _curve(app: App, run: RunPaths) -> bytes | None:
    """The picture of the ended run's losses, drawn once; None where there is nothing to draw."""
    kept = run.publish / CURVE
    if kept.is_file():
        return await anyio.to_thread.run_sync(kept.read_bytes)
    try:
        png = (await plotting.plot(app, [run.id], None, smooth=0)).png
    except ModelTrainerError:
        # No rows, or no picture in time: a card without one is as true.
        return None
    await anyio.to_thread.run_sync(write_file, kept, png)
    return png


def _bundle(app: App, run: RunPaths, output: Output, target: HubRepo | Folder, curve: bytes | None) -> Bundle:
    config = configs.load_config(run.config).config
    base = facts.base_of(config, output)
    kept = run.publish / "licence.json"
    licence = licence_of(config.model.name, base.commit, ask_hub=isinstance(target, HubRepo), kept=kept)
    known = facts.collect(app, run, output, config, base, licence)
    where = target.repo if isinstance(target, HubRepo) else target.path.name
    text = card.write(known, where, curve=CURVE if curve is not None else None)
    written = {CARD: text.encode()} | ({CURVE: curve} if curve is not None else {})
    return gather(run, written, base)
