"""A local folder as destination: the same bundle, whole or not at all, and nobody's files lost."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from publishing_card import lines_that_load
from pushes import Trained, published, push

from model_trainer.executors.errors import ArgumentError, PublishError
from model_trainer.services.app import App
from model_trainer.services.runs import view
from model_trainer.trainer.bundles import Item
from model_trainer.trainer.failures import Failure
from model_trainer.trainer.push import Stopping, to_folder

pytestmark = pytest.mark.anyio


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


async def test_the_folder_gets_exactly_the_bundle_without_a_token(app: App, trained: Trained, workspace: Path) -> None:
    run = await trained("adapter")
    preview = await push(app, run, "./bundle", dry_run=True)
    assert preview.visibility == "local"
    pushed = await published(app, run, "./bundle")
    assert hashes(workspace / "bundle") == {file.path: file.sha256 for file in preview.files}
    assert str(workspace / "bundle") in ((await view.get(app, pushed.id)).published or "")
    again = await push(app, run, "./bundle")
    assert again.status == "already"
    assert [path.name for path in workspace.iterdir() if path.name.startswith(("bundle", ".bundle"))] == ["bundle"]


async def test_somebodys_folder_is_only_replaced_by_name_and_a_yes_and_is_then_kept_beside(
    app: App, trained: Trained, workspace: Path
) -> None:
    run = await trained("adapter")
    (workspace / "mine").mkdir()
    (workspace / "mine" / "thesis.txt").write_text("years of work", encoding="utf-8")
    for wrong in (None, "./other"):
        with pytest.raises(PublishError) as raised:
            await push(app, run, "./mine", overwrite=wrong)
        assert raised.value.code == "destination_taken"
        assert "overwrite='./mine'" in raised.value.next_step
    with pytest.raises(PublishError) as raised:
        await push(app, run, "./mine", overwrite="./mine")
    assert raised.value.code == "not_confirmed"
    for number in ("", "1"):
        await published(app, run, "./mine", overwrite="./mine")
        kept = workspace / f"mine.bak{number}"
        assert kept.is_dir()
        (workspace / "mine" / "more.txt").write_text("more work", encoding="utf-8")
    assert (workspace / "mine.bak" / "thesis.txt").read_text(encoding="utf-8") == "years of work"
    assert (workspace / "mine.bak1" / "more.txt").read_text(encoding="utf-8") == "more work"


def test_where_the_new_folder_cant_take_its_place_the_former_is_put_back(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = workspace / "README.md"
    source.write_text("card", encoding="utf-8")
    item = Item("README.md", str(source), 4, hashlib.sha256(b"card").hexdigest())
    target = workspace / "bundle"
    target.mkdir()
    (target / "mine.txt").write_text("mine", encoding="utf-8")

    class Watched(Stopping):
        """The moment before the two renames: somebody takes the half-made copy away."""

        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if name == "held" and value:
                (workspace / ".bundle.x.tmp").rename(workspace / "taken")

    with pytest.raises(FileNotFoundError):
        to_folder([item], target, replaces=True, name="x", say=lambda *_: None, stopping=Watched())
    assert (target / "mine.txt").read_text(encoding="utf-8") == "mine"
    assert not (workspace / "bundle.bak").exists()


def test_a_folder_that_appears_after_the_yes_is_left_alone_and_nothing_half_made_stays(workspace: Path) -> None:
    source = workspace / "README.md"
    source.write_text("card", encoding="utf-8")
    item = Item("README.md", str(source), 4, hashlib.sha256(b"card").hexdigest())
    (workspace / "bundle").mkdir()
    (workspace / "bundle" / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(Failure) as raised:
        to_folder([item], workspace / "bundle", replaces=False, name="x", say=lambda *_: None, stopping=Stopping())
    assert raised.value.reason == "guard"
    assert sorted(path.name for path in workspace.iterdir()) == ["README.md", "bundle"]
    assert (workspace / "bundle" / "mine.txt").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    "where", ["state", "file", "/", "~nobody-of-that-name/x", "./", "../workspace", "parent of the state", "~"]
)
async def test_places_where_no_bundle_belongs_are_refused(
    app: App, trained: Trained, workspace: Path, where: str
) -> None:
    run = await trained("adapter")
    (workspace / "file").write_text("mine", encoding="utf-8")
    named = {"state": str(app.home.root / "x"), "file": "./file", "parent of the state": str(app.home.root.parent)}
    destination = named.get(where, where)
    with pytest.raises(ArgumentError) as raised:
        await push(app, run, destination, dry_run=True, overwrite=destination)
    assert destination in raised.value.message
    assert "push_adapter(" in raised.value.next_step or "Call" in raised.value.next_step


async def test_the_cards_three_lines_load_the_bundle_as_trained(
    app: App, trained: Trained, workspace: Path, tiny_model: Path
) -> None:
    ask = (
        "\nimport torch, json\nids = tokenizer('def f(x):', return_tensors='pt').input_ids\n"
        "print(json.dumps(model(input_ids=ids).logits[0, -1, :8].tolist()))\n"
    )
    program = ""
    for kind in ("adapter", "model"):
        run = await trained(kind)
        await published(app, run, f"./{kind}-bundle")
        lines = lines_that_load((workspace / f"{kind}-bundle" / "README.md").read_text(encoding="utf-8"))
        assert len(lines) == 3
        # The base was a local folder: the card gives its name, the reader puts the path there.
        theirs = "\n".join(lines).replace(f"'{tiny_model.name}'", repr(str(tiny_model)))
        ours = "\n".join((await view.get(app, run.id)).load)
        program += theirs.replace(f"'{kind}-bundle'", f"'./{kind}-bundle'") + ask + ours + ask
    done = await anyio.run_process(
        [sys.executable, "-c", program],
        cwd=str(workspace),
        env=dict(os.environ),
        check=True,
        stderr=subprocess.DEVNULL,
    )
    adapter, trained_adapter, model, trained_model = map(json.loads, done.stdout.decode().splitlines()[-4:])
    assert adapter == trained_adapter
    assert model == trained_model
    assert adapter != model
