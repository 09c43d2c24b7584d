"""Publish what a run trained: shown first, agreed to, then pushed by a run of its own.

A yes is bound to what it was given for: `confirm` is a digest over target, visibility, what is replaced, and every
file's name, size and hash. Whatever changes voids it. Where the client can ask its user, it is asked as well.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import anyio.to_thread

from ...executors import states
from ...executors.errors import EnvironmentFault
from ...executors.paths import RunPaths
from ...trainer.bundles import SMALL, Item
from ..app import App, Asker, Progress, no_progress
from ..environment.environments import look_for_environment
from ..runs import life as runs
from ..runs.outputs import Output, find_output
from . import hub
from .bundle import CARD, BundleFile, stage
from .consent import agree, ask_user
from .destinations import Folder, HubRepo, parse
from .preparing import Prepared, PushRequest, account_for, prepare
from .results import CARD_SHOWN, FILES_SHOWN, PushFile, PushResult, Status

#: Variables that carry a token; a push run gets those that this server has, and no other run does.
_TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH")

#: A stopped push has nothing to save.
_GRACE_SECONDS = 30.0
_MAX_HOURS = 24.0


async def push(app: App, request: PushRequest, *, ask: Asker, progress: Progress = no_progress) -> PushResult:
    """Show what would be published, or start the run that publishes it.

    Raises:
        RunError: there is no such run, or it left no model (`no_output`).
        ArgumentError: the destination is none.
        PublishError: it may not be published there or needs a yes; nothing was sent.
        EnvironmentFault: the Hub can't be reached, and a push was asked for.
    """
    run = app.home.run(request.run_id)
    output = await anyio.to_thread.run_sync(find_output, run, "publish")
    target = parse(app, request.destination, private=request.visibility == "private")
    account = await account_for(app, target, request)
    if request.confirm is not None and not request.dry_run:
        former = await anyio.to_thread.run_sync(_former, app, request)
        if former is not None:
            return await _go_on(app, request, target, output, former, ask)
    prepared = await prepare(app, run, output, request, target, account, progress)
    if prepared.is_there:
        return _answer(prepared, "already", next_step=f"get_run(run_id={run.id!r}) shows the run that trained it.")
    if request.dry_run:
        await anyio.to_thread.run_sync(stage, run, prepared.digest, prepared.bundle)
        details = str(run.publish / prepared.digest)
        return _answer(prepared, "preview", next_step=_after_preview(prepared, account), details=details)
    await agree(app, prepared, ask)
    launch = await anyio.to_thread.run_sync(_launch, app, run, prepared)
    started = await runs.start_once(app, launch, lambda: _live(app, prepared.digest))
    return _answer(prepared, "already" if started.already else "started", push_run=started.run)


def _launch(app: App, run: RunPaths, prepared: Prepared) -> runs.Launch:
    request = prepared.request
    return _launch_of(
        app,
        {
            "run": run.id,
            "call": _call_record(request, prepared.digest),
            "model": request.destination,
            "target": prepared.target.record(),
            "files": [asdict(item) for item in stage(run, prepared.digest, prepared.bundle)],
            "removes": list(prepared.removes),
            "base_commit": prepared.base_commit,
            "replaces": prepared.replaces is not None,
            "content": prepared.content,
            "message": f"{prepared.output.kind.capitalize()} of Model Trainer run {run.id}",
        },
        prepared.digest,
    )


def _launch_of(app: App, request: dict[str, Any], digest: str) -> runs.Launch:
    try:
        environment = look_for_environment(app)
    except EnvironmentFault:
        environment = None
    on_hub = request["target"]["kind"] == "hub"
    return runs.Launch(
        kind="push",
        # The training environment lasts; the one that a server starts from may vanish under a run.
        python=environment.python if environment is not None and not environment.missing else Path(sys.executable),
        label="push",
        request=request,
        key=_key(digest),
        max_hours=_MAX_HOURS,
        grace_seconds=_GRACE_SECONDS,
        environment={name: os.environ[name] for name in _TOKEN_VARIABLES if on_hub and name in os.environ},
    )


def _call_record(request: PushRequest, digest: str) -> dict[str, Any]:
    """What call made this push: the same one goes on with it."""
    return {
        "run_id": request.run_id,
        "destination": request.destination,
        "visibility": request.visibility,
        "overwrite": request.overwrite,
        "confirm": digest,
    }


def _key(digest: str) -> str:
    return f"push-{digest}"


def _live(app: App, digest: str) -> RunPaths | None:
    """A run that is pushing exactly this now."""
    found = runs.find_by_key(app, _key(digest), "push")
    return found if found is not None and not states.is_over(states.read_state(found)) else None


def _former(app: App, request: PushRequest) -> RunPaths | None:
    """A run of the very push that is confirmed which lives, or can go on with what was agreed on.

    One that was stopped used its yes up; one whose files changed or are gone has nothing to go on with.
    """
    found = runs.find_by_key(app, _key(request.confirm or ""), "push")
    if found is None or runs.asked(found)["request"].get("call") != _call_record(request, request.confirm or ""):
        return None
    state = runs.settled_state(app, found)
    if not states.is_over(state):
        return found
    return found if state.status in ("failed", "lost") and _are_as_agreed(runs.asked(found)["request"]) else None


def _are_as_agreed(told: dict[str, Any]) -> bool:
    """Whether a push's files are there still; of big ones the size is looked at here, all bytes when they are sent."""
    for item in _items(told):
        path = Path(item.source)
        if not path.is_file() or path.stat().st_size != item.size:
            return False
        if item.size <= SMALL and hashlib.sha256(path.read_bytes()).hexdigest() != item.sha256:
            return False
    return True


def _items(told: dict[str, Any]) -> list[Item]:
    return [Item(**one) for one in told["files"]]


async def _go_on(
    app: App, request: PushRequest, target: HubRepo | Folder, output: Output, former: RunPaths, ask: Asker
) -> PushResult:
    """Answer with the push that runs, or start it again: the same request, of which a part may be there already.

    What was agreed on stands in the former run; its files are compared once more before anything is sent.
    """
    told: dict[str, Any] = runs.asked(former)["request"]
    digest = request.confirm or ""
    if states.is_over(states.read_state(former)):
        if isinstance(target, HubRepo) or told["replaces"]:
            question = f"Go on with putting run {request.run_id} to {request.destination} ({request.visibility})?"
            await ask_user(app, request, digest, question, ask)
        launch = replace(await anyio.to_thread.run_sync(_launch_of, app, told, digest), parent=former.id)
        started = await runs.start_once(app, launch, lambda: _live(app, digest))
    else:
        started = runs.Started(former, already=True)
    notes = [] if started.already else [f"It goes on with {former.id}; what is there already is not sent again."]
    status = "already" if started.already else "started"
    result = _result(request, target, output, status, digest, _items(told), told["removes"], started.run)
    return result.model_copy(update={"notes": notes})


def _answer(
    prepared: Prepared,
    status: Status,
    *,
    push_run: RunPaths | None = None,
    next_step: str = "",
    details: str | None = None,
) -> PushResult:
    bundle = prepared.bundle
    written = bundle.named(CARD)
    text = (written.content or b"").decode() if written is not None and status == "preview" else None
    if text is not None and len(text) > CARD_SHOWN:
        text = f"{text[:CARD_SHOWN]}\n[cut: the whole card lies in {details}]"
    result = _result(
        prepared.request,
        prepared.target,
        prepared.output,
        status,
        prepared.digest,
        bundle.files,
        prepared.removes,
        push_run,
    )
    only_here = {
        "left_out": list(bundle.left_out[:FILES_SHOWN]),
        "replaces": prepared.replaces,
        "details": details,
        "card": text,
        "notes": list(prepared.notes),
        "next_step": next_step or result.next_step,
    }
    return result.model_copy(update=only_here)


def _result(
    request: PushRequest,
    target: HubRepo | Folder,
    output: Output,
    status: Status,
    digest: str,
    files: Sequence[BundleFile | Item],
    removes: Sequence[str],
    push_run: RunPaths | None,
) -> PushResult:
    """What every answer says."""
    return PushResult(
        status=status,
        run_id=request.run_id,
        destination=request.destination,
        visibility="local" if isinstance(target, Folder) else request.visibility,
        confirm=digest,
        push_run_id=push_run.id if push_run is not None else None,
        kind="adapter" if output.kind == "adapter" else "model",
        files=[PushFile(path=one.path, size=one.size, sha256=one.sha256) for one in files[:FILES_SHOWN]],
        file_count=len(files),
        total_bytes=sum(one.size for one in files),
        removes=list(removes[:FILES_SHOWN]),
        remove_count=len(removes),
        next_step=_wait(push_run) if push_run is not None else "",
    )


def _wait(run: RunPaths) -> str:
    return f"get_run(run_id={run.id!r}, wait_seconds=45) waits until it is there and verified."


def _after_preview(prepared: Prepared, account: hub.Account | None) -> str:
    request = prepared.request
    if isinstance(prepared.target, Folder):
        if prepared.replaces is None:
            return f"{request.call()} writes it; nothing leaves this machine."
        return f"Show this to the user; after their yes, {request.call(confirm=prepared.digest)} replaces the folder."
    go = request.call(confirm=prepared.digest)
    if account is None and not hub.has_token():
        return f"{hub.LOGIN}. Then show this to the user; after their yes, {go} publishes it."
    return f"Show this to the user; after their yes, {go} publishes exactly this."
