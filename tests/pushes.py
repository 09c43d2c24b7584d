"""What tests of publishing share: the calls, and the answers to their questions."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from hub.state import Hub

from model_trainer.executors import states
from model_trainer.executors.paths import RunPaths
from model_trainer.services.app import App
from model_trainer.services.publishing import pushing
from model_trainer.services.publishing.pushing import PushRequest
from model_trainer.services.publishing.results import PushResult
from model_trainer.services.runs import life as runs

#: Lays a succeeded run that left an `adapter` or a `model` into the test's state folder.
Trained = Callable[[str], Awaitable[RunPaths]]


async def no_dialogue(key: str, question: str) -> bool | None:
    """A client that can't ask its user."""
    return None


async def push(app: App, run: RunPaths, destination: str = "ada/tiny", **more: Any) -> PushResult:
    """push_adapter from a client without a dialogue."""
    return await pushing.push(app, PushRequest(run.id, destination, **more), ask=no_dialogue)


async def agreed(app: App, run: RunPaths, destination: str = "ada/tiny", **more: Any) -> RunPaths:
    """The run that pushes, after a preview and a yes to it."""
    preview = await push(app, run, destination, dry_run=True, **more)
    started = await push(app, run, destination, confirm=preview.confirm, **more)
    assert started.status == "started"
    assert started.push_run_id is not None
    return app.home.run(started.push_run_id)


async def ended(app: App, run: RunPaths) -> states.RunState:
    """How the push ended."""
    state = await runs.wait(app, run, seconds=90)
    assert states.is_over(state), (state, run.latest_attempt().log.read_text(encoding="utf-8"))
    return state


async def until_happened(hub: Hub, run: RunPaths) -> None:
    """Wait until the faults on order have happened to a push that lives."""
    with anyio.fail_after(60):
        while hub.faults.pending:
            assert not states.is_over(states.read_state(run)), run.latest_attempt().log.read_text(encoding="utf-8")
            await anyio.sleep(0.01)


async def published(app: App, run: RunPaths, destination: str = "ada/tiny", **more: Any) -> RunPaths:
    """The run that pushed, once it has succeeded."""
    pushed = await agreed(app, run, destination, **more)
    state = await ended(app, pushed)
    assert state == states.Succeeded(ended_by="planned_end"), pushed.latest_attempt().log.read_text(encoding="utf-8")
    return pushed


def there(hub: Hub, repo: str = "ada/tiny") -> dict[str, str]:
    """Names and SHA-256 of what a repository holds, the Hub's own file left out."""
    files = hub.repo("model", repo).files
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items() if name != ".gitattributes"}
