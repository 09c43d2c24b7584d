"""A run folder that a disk or a hand has damaged: it is told, hides no other run, and nothing about it is guessed."""

from __future__ import annotations

import pytest
from made_runs import SUCCEEDED, made_run

from model_trainer.executors import queueing, states
from model_trainer.executors.errors import RunError
from model_trainer.services.app import App
from model_trainer.services.runs import life as runs
from model_trainer.services.runs import listing, logs, metrics, view

pytestmark = pytest.mark.anyio

GOOD, BAD = "20260101-000001-sft-aaaaa", "20260101-000002-sft-bbbbb"
NO_ENDS = ["", "{", "[]", "{}", '{"outcome": 5}', '{"outcome": {}}', '{"outcome": {"failed": "x"}}']
NO_RECORDS = ["", "{", "[]", "null", "{}", '{"kind": 5}', '{"kind": "train", "request": []}', "\0" * 100]


@pytest.mark.parametrize("text", NO_RECORDS)
async def test_a_run_whose_record_is_damaged_is_named_and_the_others_are_listed(app: App, text: str) -> None:
    made_run(app, GOOD, SUCCEEDED)
    made_run(app, BAD, SUCCEEDED).run_json.write_text(text, encoding="utf-8")
    listed = await listing.list_runs(app, status=None, kind="all", limit=10, cursor=None)
    assert [line.run_id for line in listed.runs] == [GOOD]
    assert listed.damaged == [BAD]
    assert BAD in listed.text()
    with pytest.raises(RunError) as raised:
        await view.get(app, BAD)
    assert raised.value.code == "run_not_found"
    assert "damaged" in raised.value.message
    assert runs.find_by_key(app, "a key", "train") is None
    assert runs.find_same_config(app, "a digest") is None


@pytest.mark.parametrize("text", NO_ENDS)
async def test_a_run_whose_end_is_damaged_is_over_and_how_it_ended_is_lost(app: App, text: str) -> None:
    run = made_run(app, BAD, SUCCEEDED, rows=3, log="a line\n", output=True)
    run.exit_json.write_text(text, encoding="utf-8")
    assert states.read_state(run) == states.Lost(reason="unknown")
    seen = await view.get(app, BAD)
    assert seen.state == states.Lost(reason="unknown")
    assert seen.output is None
    assert run.exit_json.read_text(encoding="utf-8") == text, "nothing is written over what may still be mended"
    assert (await metrics.tail(app, BAD, cursor=None)).rows == 3
    assert (await logs.tail(app, BAD, cursor=None, lines=5, grep=None, attempt=None)).lines == ["a line"]
    assert queueing.predecessor(run.root, app.home.locks) != "succeeded"
    listed = await listing.list_runs(app, status="lost", kind="train", limit=10, cursor=None)
    assert [line.run_id for line in listed.runs] == [BAD]


async def test_a_history_of_rubbish_says_nothing_and_breaks_nothing(app: App) -> None:
    run = made_run(app, BAD, None)
    run.events.write_text('{"event": "queued"}\n{}\n[]\n{"event": 5}\nnot json\n', encoding="utf-8")
    assert (await view.get(app, BAD)).state == states.Lost(reason="supervisor_killed")
