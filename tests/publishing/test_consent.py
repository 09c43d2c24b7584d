"""The yes in the client's own dialogue, in both protocol eras, through the real server."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from typing import Any

import anyio.to_thread
import pytest
from hub.fixtures import TOKEN
from hub.state import Hub
from mcp.types import ElicitRequestParams, ElicitResult
from pushes import Trained, ended, push
from server_processes import WAYS, client_of

from model_trainer.executors.errors import PublishError
from model_trainer.server.app import build_server
from model_trainer.services.app import App
from model_trainer.services.runs import life as runs
from model_trainer.services.settings import Settings

pytestmark = pytest.mark.anyio

YES = ElicitResult(action="accept", content={"yes": True})


class User:
    """A person at a client with dialogues: gives these answers in turn, remembers the questions."""

    def __init__(self, *answers: ElicitResult) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, context: object, params: ElicitRequestParams) -> ElicitResult:
        self.asked.append(params.message)
        return self._answers.pop(0)


@pytest.fixture(autouse=True)
def logged_in(online: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)


async def call(app: App, way: str, user: User | None, **arguments: Any) -> dict[str, Any]:
    """What push_adapter answers to a client of this user; one without dialogues where there is none."""
    async with client_of(build_server(app), way, elicitation_callback=user) as client:
        result = await client.call_tool("push_adapter", arguments)
    assert result.structured_content is not None
    return result.structured_content


@pytest.mark.parametrize("way", WAYS)
async def test_a_yes_in_the_dialogue_starts_the_push_and_the_question_says_what_to(
    app: App, hub: Hub, trained: Trained, way: str
) -> None:
    run = await trained("adapter")
    user = User(YES)
    answer = await call(app, way, user, run_id=run.id, destination="ada/tiny")
    assert answer["status"] == "started", answer
    [question] = user.asked
    for told in ("ada/tiny", "private", run.id, "README.md", f"{answer['file_count']} files"):
        assert told in question
    assert (await ended(app, app.home.run(answer["push_run_id"]))).status == "succeeded"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "no",
    [
        ElicitResult(action="decline"),
        ElicitResult(action="cancel"),
        ElicitResult(action="accept", content={"yes": False}),
        ElicitResult(action="accept"),
    ],
    ids=["decline", "cancel", "accepted without a tick", "accepted empty"],
)
async def test_anything_but_a_yes_publishes_nothing_even_with_the_digest(
    app: App, hub: Hub, trained: Trained, way: str, no: ElicitResult
) -> None:
    run = await trained("adapter")
    preview = await push(app, run, dry_run=True)
    user = User(no)
    answer = await call(app, way, user, run_id=run.id, destination="ada/tiny", confirm=preview.confirm)
    assert answer["code"] == "declined"
    assert len(user.asked) == 1
    assert not hub.repos


@pytest.mark.parametrize("way", WAYS)
async def test_a_wrong_digest_is_refused_before_anybody_is_asked(
    app: App, hub: Hub, trained: Trained, way: str
) -> None:
    run = await trained("adapter")
    user = User(YES)
    answer = await call(app, way, user, run_id=run.id, destination="ada/tiny", confirm="0123456789abcdef")
    assert answer["code"] == "not_confirmed"
    assert not user.asked
    assert not hub.repos


async def test_what_changes_while_the_user_thinks_is_asked_again(app: App, hub: Hub, trained: Trained) -> None:
    run = await trained("adapter")
    template = run.output / "chat_template.jinja"

    class Slow(User):
        async def __call__(self, context: object, params: ElicitRequestParams) -> ElicitResult:
            if not self.asked:
                template.write_text(template.read_text(encoding="utf-8") + " ", encoding="utf-8")
            return await super().__call__(context, params)

    user = Slow(YES, ElicitResult(action="decline"))
    answer = await call(app, "ours-modern", user, run_id=run.id, destination="ada/tiny")
    assert answer["code"] == "declined"
    assert len(user.asked) == 2
    assert not hub.repos


async def test_settings_may_want_a_dialogue_where_a_digest_would_do(app: App, hub: Hub, trained: Trained) -> None:
    run = await trained("adapter")
    strict = App(app.home, Settings(confirm_in_client=True), app.workspace)
    preview = await push(strict, run, dry_run=True)
    with pytest.raises(PublishError) as raised:
        await push(strict, run, confirm=preview.confirm)
    assert raised.value.code == "not_confirmed"
    assert "confirm_in_client" in raised.value.message
    assert "model-trainer call push_adapter" in raised.value.next_step
    assert not hub.repos
    answer = await call(strict, "ours-modern", User(YES), run_id=run.id, destination="ada/tiny")
    assert answer["status"] == "started"
    assert (await ended(app, app.home.run(answer["push_run_id"]))).status == "succeeded"


@pytest.mark.parametrize("way", WAYS)
async def test_a_preview_and_a_local_folder_ask_nobody(app: App, trained: Trained, way: str) -> None:
    run = await trained("adapter")
    user = User()
    answer = await call(app, way, user, run_id=run.id, destination="ada/tiny", dry_run=True)
    assert answer["status"] == "preview"
    answer = await call(app, way, user, run_id=run.id, destination="./bundle")
    assert answer["status"] == "started"
    assert (await ended(app, app.home.run(answer["push_run_id"]))).status == "succeeded"


@pytest.mark.parametrize(("said", "code", "shown"), [("n", 1, "declined"), ("y", 0, '"status": "started"')])
async def test_a_person_at_a_terminal_is_asked_there(
    app: App, hub: Hub, trained: Trained, said: str, code: int, shown: str
) -> None:
    run = await trained("adapter")
    asked = json.dumps({"run_id": run.id, "destination": "ada/tiny"})
    command = [sys.executable, "-m", "model_trainer.server.cli", "call", "push_adapter", "--json", asked]
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:  # noqa: ASYNC220
        os.close(theirs)
        screen = await anyio.to_thread.run_sync(converse, ours, b"[y/N]", f"{said}\n".encode())
    assert process.returncode == code
    assert "ada/tiny, private" in screen
    assert shown in screen
    if said == "n":
        assert not hub.repos
    else:
        [pushed] = [one for one in runs.all_runs(app) if runs.asked(one)["kind"] == "push"]
        assert (await ended(app, pushed)).status == "succeeded"


def converse(terminal: int, prompt: bytes, answer: bytes) -> str:
    """Answer once when the prompt comes; everything that was on the screen."""
    seen, answered = b"", False
    while True:
        readable, _, _ = select.select([terminal], [], [], 60)
        assert readable, seen
        try:
            data = os.read(terminal, 65536)
        except OSError:  # the other side is closed
            data = b""
        if not data:
            os.close(terminal)
            return seen.decode(errors="replace")
        seen += data
        if prompt in seen and not answered:
            os.write(terminal, answer)
            answered = True
