"""The human's settings file: what applies is told, what can't be is refused with what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_trainer.executors.errors import StateError
from model_trainer.services.settings import (
    Settings,
    describe_settings,
    inherited_environment,
    load_settings,
    settings_path,
)

DOCS = Path(__file__).parents[2] / "docs" / "settings.md"


def write_settings(text: str) -> Path:
    path = settings_path()
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_without_a_file_the_defaults_apply() -> None:
    assert load_settings() == Settings()


def test_what_the_file_says_applies_and_is_told(tmp_path: Path) -> None:
    write_settings(f'runs_dir = "{tmp_path}"\ninherit_env = ["HF_TOKEN"]\nmax_spend_per_run = 5\n')
    described = {setting.name: setting for setting in describe_settings(load_settings())}
    assert described["runs_dir"].value == f'"{tmp_path}"'
    assert described["inherit_env"].value == '["HF_TOKEN"]'
    assert described["runs_dir"].changed
    assert not described["python"].changed
    assert described["python"].value == "not set"


def test_a_home_folder_may_be_written_as_tilde(clean_machine: Path) -> None:
    write_settings('runs_dir = "~/runs"\n')
    assert load_settings().runs_dir == clean_machine / "runs"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('run_dir = "/tmp"', "did you mean 'runs_dir'"),
        ("python = \n", "line 1"),
        ('runs_dir = "runs"', "absolute path"),
        ("allow_user_code = 1", "allow_user_code"),
        ('allow_user_code = "yes"', "allow_user_code"),
        ("max_spend_per_run = true", "boolean"),
        ("max_spend_per_run = nan", "max_spend_per_run"),
        ("max_spend_per_day = -1", "max_spend_per_day"),
        ('inherit_env = "HF_TOKEN"', "inherit_env"),
        ("runs_dir = 5", "runs_dir"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_with_file_and_place(text: str, says: str) -> None:
    path = write_settings(text)
    with pytest.raises(StateError) as caught:
        load_settings()
    assert caught.value.code == "invalid_settings"
    assert says in caught.value.message
    assert str(path) in caught.value.message
    assert str(path) in caught.value.next_step


def test_a_token_written_into_inherit_env_is_refused_and_not_repeated() -> None:
    write_settings('inherit_env = ["HF_TOKEN=hf_notARealTokenAtAll"]')
    with pytest.raises(StateError) as caught:
        load_settings()
    assert "notARealTokenAtAll" not in caught.value.message


def test_a_file_in_another_encoding_is_refused() -> None:
    path = settings_path()
    path.parent.mkdir(parents=True)
    path.write_bytes('runs_dir = "/täg"'.encode("latin-1"))
    with pytest.raises(StateError, match=r"settings\.toml"):
        load_settings()


def test_runs_inherit_names_that_are_allowed_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "HF_TOKEN" not in inherited_environment(Settings())
    allowed = inherited_environment(Settings(inherit_env=("HF_TOKEN",)))
    assert allowed["HF_TOKEN"] == "x"
    assert allowed["HF_ENDPOINT"] == "http://127.0.0.1:9"
    assert "AWS_SECRET_ACCESS_KEY" not in allowed


def test_the_documentation_names_every_setting_and_no_other() -> None:
    named = {line.split("`")[1] for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| `")}
    assert named == set(Settings.model_fields)
