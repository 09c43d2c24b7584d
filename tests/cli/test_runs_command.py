"""`model-trainer runs`: what a person sees and types to get room back."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from made_runs import CANCELLED, SUCCEEDED, failed, made_run, make_checkpoint

from model_trainer.server import cli
from model_trainer.services.app import App

GOOD, BAD, LIVE = (f"20260101-00000{number}-sft-aaaaa" for number in range(3))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "model_trainer.server.cli", "runs", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def three(app: App) -> App:
    """A run that succeeded, one that failed, one that can't be seen from here; the first two with a checkpoint."""
    for number, outcome in ((GOOD, SUCCEEDED), (BAD, failed("oom_gpu"))):
        made = made_run(app, number, outcome, output=outcome == SUCCEEDED)
        weights = make_checkpoint(made, 3) / "more.safetensors"
        weights.touch()
        os.truncate(weights, 2_000_000)
    made_run(app, LIVE, None, here=False)
    return app


@pytest.mark.parametrize("arguments", [["--help"], ["list", "--help"], ["prune", "--help"], ["restart", "--help"]])
def test_every_verb_explains_itself(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 0
    assert "model-trainer runs" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["remove"],
        ["prune", "--older-than", "-1"],
        ["prune", "--older-than", "soon"],
        ["prune", "--status", "running"],
        ["prune", "--keep", "-1"],
        ["prune", "--what", "output"],
        ["list", "--status", "done"],
    ],
)
def test_wrong_usage_is_told_with_code_2(arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: model-trainer runs" in done.stderr


def test_runs_are_listed_with_what_they_take_and_what_is_free(three: App) -> None:
    made_run(three, "20260101-000009-sft-zzzzz", CANCELLED).run_json.write_text("{", encoding="utf-8")
    done = run("list")
    assert done.returncode == 0, done.stderr
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["run", "status", "kind", "disk", "model"]
    assert [row.split()[0] for row in rows[:3]] == [LIVE, BAD, GOOD]
    assert re.match(rf"{BAD}  failed: oom_gpu +sft +2\.0 MB +/m$", rows[1])
    assert "Can't be read, damaged or of a newer version: 20260101-000009-sft-zzzzz" in done.stdout
    assert re.search(rf"All runs take 4\.\d MB; [\d.]+ [MG]B are free in {three.home.runs}$", done.stdout.strip())
    only = run("list", "--status", "failed", "--all").stdout
    assert BAD in only
    assert GOOD not in only


def test_pruning_ends_with_the_command_that_does_it(three: App) -> None:
    options = ["--older-than", "0.5", "--status", "failed", "--status", "succeeded", "--keep", "1"]
    shown = run("prune", *options)
    assert shown.returncode == 0, shown.stderr
    assert re.search(rf"^{BAD}  failed +\d+ days ago  checkpoints +2\.0 MB$", shown.stdout, re.MULTILINE)
    assert "4.0 MB of 2 runs would go." in shown.stdout
    assert "What stays: their output, metrics, logs and records." in shown.stdout
    assert f"  can't be seen from here: {LIVE}" in shown.stdout
    last = shown.stdout.splitlines()[-1]
    program, *arguments = shlex.split(last)
    assert (program, arguments[:2]) == ("model-trainer", ["runs", "prune"])
    assert arguments[2:-1] == [*options, "--confirm"]
    done = run(*arguments[1:])
    assert done.returncode == 0, done.stderr
    assert f"{GOOD}  2.0 MB removed" in done.stdout
    assert "4.0 MB of 2 runs removed." in done.stdout
    assert [made.checkpoints.exists() for made in map(three.home.new_run, (GOOD, BAD))] == [False, False]
    assert three.home.new_run(GOOD).output.is_dir()
    again = run(*arguments[1:])
    assert again.returncode == 1
    assert again.stderr.splitlines()[0].startswith("error: What would be removed is not what ")
    assert again.stderr.splitlines()[2].startswith("next:  `model-trainer runs prune` with the same options")
    assert "Nothing would go." in run("prune").stdout


def test_a_whole_run_is_named_and_goes(three: App, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs", "prune", GOOD, "--what", "run"]) == 0
    said = capsys.readouterr().out
    assert "the whole run" in said
    assert "What stays: nothing of them." in said
    assert BAD not in said
    assert cli.main(shlex.split(said.splitlines()[-1])[1:]) == 0
    assert not three.home.new_run(GOOD).root.exists()
    assert cli.main(["runs", "prune", GOOD]) == 1
    assert f"There is no run '{GOOD}'" in capsys.readouterr().err


def test_what_could_not_be_removed_ends_with_code_1(three: App, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["runs", "prune", GOOD, "--what", "run"])
    command = shlex.split(capsys.readouterr().out.splitlines()[-1])[1:]
    # The hidden name is taken, by something that the janitor does not know.
    (three.home.runs / f".{GOOD}").write_text("mine", encoding="utf-8")
    assert cli.main(command) == 1
    said = capsys.readouterr()
    assert f"could not be removed: {GOOD}" in said.err
    assert "0 B of 0 runs removed." in said.out


def test_without_runs_that_wait_a_restart_does_nothing(three: App, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs", "restart"]) == 0
    assert capsys.readouterr().out == "No run waits for a restart.\n"
    assert three.home.new_run(LIVE).root.exists()


def test_the_command_line_names_it() -> None:
    command = [sys.executable, "-m", "model_trainer.server.cli", "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path.cwd()).stdout
    assert "model-trainer runs prune" in said
