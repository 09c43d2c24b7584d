"""Publishing by the real client to the loopback Hub: only with a yes, exactly what was shown, and verified there."""

from __future__ import annotations

from typing import Any

import pytest
from hub.fixtures import TOKEN
from hub.state import Hub
from pushes import Trained, agreed, ended, published, push, there, until_happened

from model_trainer.executors import states
from model_trainer.executors.errors import PublishError
from model_trainer.executors.paths import RunPaths
from model_trainer.services.app import App
from model_trainer.services.runs import listing, resuming, view
from model_trainer.services.runs.resuming import ResumeRequest
from model_trainer.services.settings import Settings

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def logged_in(online: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)


async def refused(app: App, run: RunPaths, destination: str = "ada/tiny", **more: Any) -> PublishError:
    with pytest.raises(PublishError) as raised:
        await push(app, run, destination, **more)
    return raised.value


def with_settings(app: App, **settings: Any) -> App:
    return App(app.home, Settings(**settings), app.workspace)


async def test_a_confirmed_push_puts_exactly_what_was_shown_into_a_private_repository(
    app: App, hub: Hub, trained: Trained
) -> None:
    run = await trained("adapter")
    preview = await push(app, run, dry_run=True)
    assert not hub.repos, "a preview makes nothing"
    pushed = await published(app, run)
    assert hub.repo("model", "ada/tiny").private
    assert there(hub) == {file.path: file.sha256 for file in preview.files}
    seen = await view.get(app, pushed.id)
    assert seen.kind == "push"
    assert seen.published is not None
    assert hub.repo("model", "ada/tiny").head.oid in seen.published
    assert "private" in seen.published
    listed = await listing.list_runs(app, status=None, kind="push", limit=10, cursor=None)
    assert [line.run_id for line in listed.runs] == [pushed.id]


async def test_public_only_when_told_so(app: App, hub: Hub, trained: Trained) -> None:
    run = await trained("model")
    await published(app, run, visibility="public")
    assert not hub.repo("model", "ada/tiny").private
    assert "model.safetensors" in there(hub)


async def test_without_a_yes_nothing_is_sent(app: App, hub: Hub, trained: Trained) -> None:
    run = await trained("adapter")
    error = await refused(app, run)
    assert error.code == "not_confirmed"
    assert f"push_adapter(run_id={run.id!r}, destination='ada/tiny', dry_run=True)" in error.next_step
    assert {request.method for request in hub.requests} == {"GET"}


async def test_a_yes_to_something_else_is_none(app: App, hub: Hub, trained: Trained) -> None:
    run = await trained("adapter")
    preview = await push(app, run, dry_run=True)
    assert (await refused(app, run, confirm=preview.confirm, visibility="public")).code == "not_confirmed"
    assert (await refused(app, run, "ada/other", confirm=preview.confirm)).code == "not_confirmed"
    template = run.output / "chat_template.jinja"
    template.write_text(template.read_text(encoding="utf-8") + " ", encoding="utf-8")
    error = await refused(app, run, confirm=preview.confirm)
    assert error.code == "not_confirmed"
    assert "dry_run=True" in error.next_step
    assert not hub.repos


async def test_a_big_file_that_changes_while_it_is_pushed_never_becomes_visible(
    app: App, hub: Hub, trained: Trained
) -> None:
    run = await trained("adapter")
    big = run.output / "model-00001-of-00001.safetensors"
    big.write_bytes(b"\0" * 17_000_000)
    # Keeps the push waiting before it sends, so that the change comes in between for sure.
    hub.faults.add("POST", "/api/repos/create", status=503, headers={"Retry-After": "1"})
    pushed = await agreed(app, run)
    await until_happened(hub, pushed)
    big.write_bytes(b"\1" * 17_000_000)
    state = await ended(app, pushed)
    assert isinstance(state, states.Failed)
    assert state.reason == "bad_data"
    assert big.name in state.detail
    assert there(hub) == {}


async def test_a_namespace_must_be_ones_own_or_be_named_in_the_settings(app: App, hub: Hub, trained: Trained) -> None:
    run = await trained("adapter")
    error = await refused(app, run, "acme/tiny", dry_run=True)
    assert error.code == "not_allowed"
    assert "publish_namespaces" in error.next_step
    assert "ada/tiny" in error.next_step
    allowed = with_settings(app, publish_namespaces=("acme",))
    await published(allowed, run, "acme/tiny")
    assert "adapter_model.safetensors" in there(hub, "acme/tiny")
    error = await refused(allowed, run, dry_run=True)
    assert error.code == "not_allowed"
    assert "acme" in error.message
    stranger = with_settings(app, publish_namespaces=("elsewhere",))
    error = await refused(stranger, run, "elsewhere/tiny", dry_run=True)
    assert "not a member of 'elsewhere'" in error.message


async def test_without_a_token_a_push_says_how_to_log_in(
    app: App, hub: Hub, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await trained("adapter")
    monkeypatch.delenv("HF_TOKEN")
    error = await refused(app, run)
    assert error.code == "not_logged_in"
    assert "hf auth login" in error.next_step
    assert "dry_run=True" in error.next_step
    # A digest given before the login counts after it.
    preview = await push(app, run, dry_run=True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    started = await push(app, run, confirm=preview.confirm)
    assert started.status == "started"
    assert started.push_run_id is not None
    assert (await ended(app, app.home.run(started.push_run_id))).status == "succeeded"


async def test_a_token_that_the_hub_refuses_or_that_may_only_read_is_told(
    app: App, hub: Hub, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await trained("adapter")
    monkeypatch.setenv("HF_TOKEN", "hf_expired_long_ago")
    error = await refused(app, run, dry_run=True)
    assert error.code == "not_logged_in"
    assert "401" in error.message
    assert "hf_expired" not in error.message + error.next_step
    hub.add_user("bob", token="hf_bob_may_read", role="read")
    monkeypatch.setenv("HF_TOKEN", "hf_bob_may_read")
    error = await refused(app, run, "bob/tiny", dry_run=True)
    assert error.code == "not_allowed"
    assert "only read" in error.message


async def test_the_same_push_again_is_the_same_push(app: App, hub: Hub, trained: Trained) -> None:
    run = await trained("adapter")
    preview = await push(app, run, dry_run=True)
    first = await push(app, run, confirm=preview.confirm)
    second = await push(app, run, confirm=preview.confirm)
    assert first.push_run_id is not None
    await ended(app, app.home.run(first.push_run_id))
    third = await push(app, run, confirm=preview.confirm)
    assert (second.status, third.status) == ("already", "already")
    # The second came while the first ran, or after it: either way nothing new began.
    assert second.push_run_id in (first.push_run_id, None)
    assert len(hub.requests.matching("POST", "/commit/")) == 1
    assert "holds exactly" in third.text()


async def test_an_existing_repository_is_never_written_over_without_its_name(
    app: App, hub: Hub, trained: Trained
) -> None:
    run = await trained("adapter")
    old = {"config.json": b"{}", "model.safetensors": b"old", "notes.md": b"mine", "README.md": b"old card"}
    before = hub.add_repo("model", "ada/tiny", old, private=True).head.oid
    error = await refused(app, run, dry_run=True)
    assert error.code == "destination_taken"
    assert "overwrite='ada/tiny'" in error.next_step
    assert (await refused(app, run, dry_run=True, overwrite="ada/tinny")).code == "destination_taken"
    preview = await push(app, run, dry_run=True, overwrite="ada/tiny")
    assert preview.replaces is not None
    assert before[:10] in preview.replaces
    # A former model's files that would be loaded in place of ours go; what isn't ours stays.
    assert preview.removes == ["config.json", "model.safetensors"]
    await published(app, run, overwrite="ada/tiny")
    repo = hub.repo("model", "ada/tiny")
    assert there(hub).keys() == {file.path for file in preview.files} | {"notes.md"}
    assert repo.at(before).files["model.safetensors"].read() == b"old", "the history keeps the former model"


async def test_a_repository_that_changes_after_the_yes_is_left_alone(app: App, hub: Hub, trained: Trained) -> None:
    run = await trained("adapter")
    repo = hub.add_repo("model", "ada/tiny", {"notes.md": b"mine"}, private=True)
    preview = await push(app, run, dry_run=True, overwrite="ada/tiny")
    others = repo.commit({"notes.md": b"newer"}).oid
    error = await refused(app, run, confirm=preview.confirm, overwrite="ada/tiny")
    assert error.code == "not_confirmed"
    assert repo.head.oid == others


async def test_a_repository_that_changes_while_it_is_pushed_to_is_left_alone(
    app: App, hub: Hub, trained: Trained
) -> None:
    run = await trained("adapter")
    repo = hub.add_repo("model", "ada/tiny", {"notes.md": b"mine"}, private=True)
    hub.faults.add("POST", "/commit/", status=503, headers={"Retry-After": "1"})
    pushed = await agreed(app, run, overwrite="ada/tiny")
    await until_happened(hub, pushed)
    others = repo.commit({"notes.md": b"newer"}).oid
    state = await ended(app, pushed)
    assert isinstance(state, states.Failed)
    assert state.reason == "guard"
    assert "notes.md" in state.detail
    assert repo.head.oid == others
    shown = await view.get(app, pushed.id)
    assert "dry_run=True" in shown.next_step


async def test_an_existing_repository_keeps_its_visibility(app: App, hub: Hub, trained: Trained) -> None:
    run = await trained("adapter")
    hub.add_repo("model", "ada/tiny", {"notes.md": b"mine"}, private=False)
    error = await refused(app, run, dry_run=True, overwrite="ada/tiny")
    assert error.code == "destination_taken"
    assert "public" in error.message
    assert "visibility='public'" in error.next_step
    # An empty one has nothing to lose, but is as visible as a full one.
    hub.add_repo("model", "ada/empty", private=False)
    assert (await refused(app, run, "ada/empty", dry_run=True)).code == "destination_taken"
    # What became public after the yes is left alone.
    mine = hub.add_repo("model", "ada/mine", private=True)
    hub.faults.add("GET", "/tree/", status=503, headers={"Retry-After": "1"})
    pushed = await agreed(app, run, "ada/mine")
    await until_happened(hub, pushed)
    mine.private = False
    state = await ended(app, pushed)
    assert isinstance(state, states.Failed)
    assert state.reason == "guard"
    assert "public" in state.detail


async def test_a_name_that_leads_to_another_repository_is_not_followed(app: App, hub: Hub, trained: Trained) -> None:
    run = await trained("adapter")
    other = hub.add_repo("model", "acme/moved", {"notes.md": b"theirs"}, private=True)
    hub.repos["model", "ada/tiny"] = other
    error = await refused(app, run, dry_run=True, overwrite="ada/tiny")
    assert error.code == "destination_taken"
    assert "acme/moved" in error.message
    assert hub.repos["model", "acme/moved"].head.title != "Upload"
    # It moves after the yes: the push itself looks once more.
    del hub.repos["model", "ada/tiny"]
    hub.faults.add("POST", "/api/repos/create", status=503, headers={"Retry-After": "1"})
    pushed = await agreed(app, run)
    await until_happened(hub, pushed)
    hub.repos["model", "ada/tiny"] = other
    state = await ended(app, pushed)
    assert isinstance(state, states.Failed)
    assert state.reason == "guard"
    assert there(hub, "acme/moved").keys() == {"notes.md"}


async def test_a_yes_counts_for_one_push(app: App, hub: Hub, trained: Trained) -> None:
    run = await trained("adapter")
    preview = await push(app, run, dry_run=True)
    await published(app, run)
    del hub.repos["model", "ada/tiny"]
    error = await refused(app, run, confirm=preview.confirm)
    assert error.code == "not_confirmed"
    assert not hub.repos
    await published(app, run)
    assert "adapter_model.safetensors" in there(hub)


async def test_a_small_file_that_changes_before_the_commit_goes_out_as_agreed(
    app: App, hub: Hub, trained: Trained
) -> None:
    run = await trained("adapter")
    preview = await push(app, run, dry_run=True)
    hub.faults.add("POST", "/commit/", status=503, headers={"Retry-After": "1"})
    pushed = await agreed(app, run)
    await until_happened(hub, pushed)
    (run.output / "chat_template.jinja").write_text("nobody agreed on this", encoding="utf-8")
    assert (await ended(app, pushed)).status == "succeeded"
    assert there(hub) == {file.path: file.sha256 for file in preview.files}
    assert not hub.received("nobody agreed on this")


async def test_a_former_models_leftovers_make_it_not_already_there(app: App, hub: Hub, trained: Trained) -> None:
    run = await trained("adapter")
    await published(app, run)
    hub.repo("model", "ada/tiny").commit({"model.safetensors": b"another model", "vocab.json": b"{}"})
    assert (await refused(app, run, dry_run=True)).code == "destination_taken"
    preview = await push(app, run, dry_run=True, overwrite="ada/tiny")
    assert preview.removes == ["model.safetensors", "vocab.json"]
    await published(app, run, overwrite="ada/tiny")
    assert there(hub) == {file.path: file.sha256 for file in preview.files}


async def test_only_training_runs_are_resumed_and_a_push_says_how_it_goes_on(app: App, trained: Trained) -> None:
    run = await trained("adapter")
    pushed = await published(app, run)
    with pytest.raises(Exception, match="only training runs") as raised:
        await resuming.resume(app, ResumeRequest(pushed.id))
    assert pushed.id in raised.value.next_step  # type: ignore[attr-defined]
