"""The demo keeps its hands off folders that it didn't make."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_trainer.server import cli


def test_a_folder_with_somebodys_files_is_refused_and_kept(
    tmp_path: Path, fork_python: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", str(fork_python))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work", encoding="utf-8")
    assert cli.main(["demo", "--folder", str(mine)]) == 1
    assert (mine / "thesis.txt").read_text(encoding="utf-8") == "years of work"
    said = capfd.readouterr().err
    assert "no demo made it" in said
    assert "mine-demo" in said


def test_the_demo_goes_the_whole_way_and_may_be_run_again(
    tmp_path: Path, fork_python: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", str(fork_python))
    (tmp_path / "demo" / "leftover").mkdir(parents=True)
    (tmp_path / "demo" / ".model-trainer-demo").touch()
    assert cli.main(["demo", "--folder", str(tmp_path / "demo"), "--rows", "1500"]) == 0
    said = capfd.readouterr().out
    for step in (
        "inspect_dataset",
        "plan_training",
        "write_config",
        "launch_run",
        "stop_run",
        "resume_run",
        "push_adapter",
    ):
        assert f"{step}(" in said
    assert "Held-out loss before" in said
    assert not (tmp_path / "demo" / "leftover").exists()
    card = (tmp_path / "demo" / "published" / "README.md").read_text(encoding="utf-8")
    assert "## What was measured" in card
