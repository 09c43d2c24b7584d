"""Which Python trains, and what is said when it can't."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from environments_made import make_environment

from model_trainer.executors.errors import EnvironmentFault, StateError
from model_trainer.executors.paths import Home
from model_trainer.services.app import App
from model_trainer.services.environment import checking
from model_trainer.services.environment.environments import REQUIRED, find_environment, look_for_environment
from model_trainer.services.settings import Settings

COMPLETE = dict.fromkeys(map(str, REQUIRED), "1.0")


def test_an_environment_without_trl_is_incomplete_and_the_package_is_named(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = make_environment(tmp_path / "env", {name: "1.0" for name in REQUIRED if name != "trl"})
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", str(python))
    with pytest.raises(EnvironmentFault) as caught:
        find_environment(app)
    assert caught.value.code == "environment_incomplete"
    assert "lacks trl" in caught.value.message
    assert str(python) in caught.value.message
    assert "model-trainer setup" in caught.value.next_step


def test_the_report_gives_the_command_that_gets_what_is_missing(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = make_environment(tmp_path / "an env", {name: "1.0" for name in REQUIRED if name != "trl"})
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", str(python))
    monkeypatch.setenv("PATH", str(tmp_path))
    report = checking.look(app)
    missing = next(item for item in report.missing if item.required)
    assert not report.ready
    assert missing.what == "trl"
    assert missing.command.startswith(f"'{python}' -m pip install 'trl")
    assert "<2" in missing.command
    assert missing.command in report.next_step
    assert missing.command in report.text()


def test_a_python_that_is_not_there_is_said_and_not_skipped(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", "/nowhere/bin/python")
    with pytest.raises(EnvironmentFault) as caught:
        find_environment(app)
    assert caught.value.code == "environment_incomplete"
    assert "/nowhere/bin/python (MODEL_TRAINER_PYTHON)" in caught.value.message
    report = checking.look(app)
    assert not report.ready
    assert "/nowhere/bin/python" in (report.environments[0].problem or "")


def test_a_program_that_is_no_python_is_said(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", "/bin/false")
    with pytest.raises(EnvironmentFault) as caught:
        find_environment(app)
    assert caught.value.code == "environment_incomplete"


def test_the_setting_counts_before_the_variable(app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = make_environment(tmp_path / "chosen", COMPLETE)
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", "/nowhere/bin/python")
    found = find_environment(App(home=app.home, settings=Settings(python=chosen), workspace=None))
    assert (found.python, found.source) == (chosen, "settings")


def test_what_setup_made_is_found_under_its_unchanging_name(app: App) -> None:
    make_environment(app.home.envs / "0123abcd", COMPLETE)
    (app.home.envs / "default").symlink_to("0123abcd")
    found = find_environment(app)
    assert found.source == "setup"
    assert found.python == app.home.envs / "0123abcd" / "bin" / "python"
    report = checking.look(app)
    assert report.ready
    assert [one.python for one in report.environments] == [str(found.python)]


def test_a_set_up_environment_that_was_deleted_is_said_and_not_skipped(app: App) -> None:
    (app.home.envs / "default").symlink_to("gone")
    with pytest.raises(EnvironmentFault) as caught:
        look_for_environment(app)
    assert caught.value.code == "environment_incomplete"


def test_environments_of_other_profiles_are_listed_too(app: App) -> None:
    for name, link in (("0123abcd", "default"), ("4567cdef", "extra")):
        make_environment(app.home.envs / name, COMPLETE)
        (app.home.envs / link).symlink_to(name)
    assert [one.profile for one in checking.look(app).environments] == ["default", "extra"]


def test_the_state_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    os.chown(foreign, 12345, 12345)
    monkeypatch.setenv("MODEL_TRAINER_STATE", str(foreign))
    with pytest.raises(StateError) as caught:
        Home.open()
    assert caught.value.code == "foreign_state"
    assert "12345" in caught.value.message
    assert "MODEL_TRAINER_STATE" in caught.value.next_step


def test_a_state_folder_that_is_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MODEL_TRAINER_STATE", str(tmp_path / "file"))
    with pytest.raises(StateError) as caught:
        Home.open()
    assert caught.value.code == "state_unwritable"


def test_the_report_keeps_its_ceiling_with_many_settings(app: App) -> None:
    many = Settings(inherit_env=tuple(f"VARIABLE_{number}" for number in range(500)))
    report = checking.look(App(home=app.home, settings=many, workspace=None))
    assert len(report.text()) <= 6000
    assert "490 more" in report.text()
