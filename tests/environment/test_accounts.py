"""Accounts: that a token is there is said, the token never."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_trainer.services.app import App
from model_trainer.services.environment import checking
from model_trainer.services.environment.accounts import look_at_accounts
from model_trainer.services.settings import Settings

SECRET = "hf_" + "notARealToken" * 3


def test_an_empty_machine_is_logged_in_nowhere_and_is_told_how() -> None:
    face, wandb = look_at_accounts(Settings())
    assert not face.logged_in
    assert not wandb.logged_in
    assert "hf auth login" in (face.note or "")


def test_a_token_file_is_found_where_hf_home_says_and_reaches_runs(clean_machine: Path) -> None:
    token = clean_machine / "hf" / "token"
    token.parent.mkdir()
    token.write_text(SECRET, encoding="utf-8")
    face, _ = look_at_accounts(Settings())
    assert face.logged_in
    assert face.where == str(token)
    assert face.reaches_runs


def test_without_hf_home_the_token_file_lies_in_the_cache(clean_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HOME")
    token = clean_machine / "cache" / "huggingface" / "token"
    token.parent.mkdir(parents=True)
    token.write_text(SECRET, encoding="utf-8")
    assert look_at_accounts(Settings())[0].where == str(token)


def test_a_token_in_the_environment_reaches_runs_only_if_the_human_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    kept = look_at_accounts(Settings())[0]
    assert kept.logged_in
    assert not kept.reaches_runs
    assert "inherit_env" in (kept.note or "")
    passed = look_at_accounts(Settings(inherit_env=("HF_TOKEN",)))[0]
    assert passed.reaches_runs


def test_an_empty_token_file_is_no_login(clean_machine: Path) -> None:
    (clean_machine / "hf").mkdir()
    (clean_machine / "hf" / "token").touch()
    assert not look_at_accounts(Settings())[0].logged_in


def test_wandb_is_found_in_the_netrc(clean_machine: Path) -> None:
    (clean_machine / ".netrc").write_text(
        f"machine api.wandb.ai\n  login user\n  password {SECRET}\n", encoding="utf-8"
    )
    wandb = look_at_accounts(Settings())[1]
    assert wandb.logged_in
    assert wandb.where == str(clean_machine / ".netrc")


def test_a_netrc_for_other_hosts_is_no_login(clean_machine: Path) -> None:
    (clean_machine / ".netrc").write_text("machine example.org login me password x\n", encoding="utf-8")
    assert not look_at_accounts(Settings())[1].logged_in


def test_no_token_stands_anywhere_in_the_report(app: App, clean_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    (clean_machine / "hf").mkdir()
    (clean_machine / "hf" / "token").write_text(SECRET, encoding="utf-8")
    report = checking.look(app)
    assert SECRET not in report.text()
    assert SECRET not in report.model_dump_json()
