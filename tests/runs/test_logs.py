"""Logs: the newest lines, what is new, and nothing in them that harms."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from model_trainer.executors.errors import ArgumentError
from model_trainer.executors.paths import RunPaths
from model_trainer.services.app import App
from model_trainer.services.result import TEXT_LIMIT
from model_trainer.services.runs import logs
from model_trainer.services.runs import view as run_view
from model_trainer.services.runs.logs import LogTail
from model_trainer.services.untrusted import MASK, mask_secrets, quote
from model_trainer.trainer import records

pytestmark = pytest.mark.anyio


@pytest.fixture
def run(app: App) -> RunPaths:
    paths = app.home.new_run("20260101-000000-sft-abcde")
    paths.attempt(1).root.mkdir(parents=True)
    asked = {"schema": 1, "id": paths.id, "kind": "train", "request": {}, "created": "2026-01-01T00:00:00Z"}
    records.write_json(paths.run_json, asked)
    return paths


def write(run: RunPaths, text: str | bytes) -> None:
    with open(run.attempt(1).log, "ab") as file:
        file.write(text.encode() if isinstance(text, str) else text)


async def tail(
    app: App,
    run: RunPaths,
    cursor: str | None = None,
    *,
    lines: int = 40,
    grep: str | None = None,
    attempt: int | None = None,
) -> LogTail:
    return await logs.tail(app, run.id, cursor=cursor, lines=lines, grep=grep, attempt=attempt)


async def test_the_newest_lines_come_first_and_then_only_what_is_new(app: App, run: RunPaths):
    write(run, "".join(f"line {i}\n" for i in range(1000)))
    first = await tail(app, run, lines=3)
    assert first.lines == ["line 997", "line 998", "line 999"]
    assert "the newest 3 lines" in first.note
    assert (await tail(app, run, first.cursor)).lines == []
    write(run, "line 1000\nhalf")
    new = await tail(app, run, first.cursor)
    assert new.lines == ["line 1000"]
    write(run, " a line\n")
    assert (await tail(app, run, new.cursor)).lines == ["half a line"]


async def test_more_new_lines_than_fit_are_paged_without_a_gap(app: App, run: RunPaths):
    write(run, "begin\n")
    cursor = (await tail(app, run)).cursor
    write(run, "".join(f"{i} {'x' * 200}\n" for i in range(100)))
    seen: list[str] = []
    for _ in range(20):
        page = await tail(app, run, cursor, lines=100)
        assert len(page.text()) <= TEXT_LIMIT
        seen += page.lines
        cursor = page.cursor
        if not page.more:
            break
        assert cursor in page.next_step
    assert [line.split()[0] for line in seen] == [str(i) for i in range(100)]


async def test_a_progress_bar_is_one_line_in_its_last_state(app: App, run: RunPaths):
    write(run, "  0%|\r 50%|#\r100%|##\nnext\n 10%|\r 20%|")
    assert (await tail(app, run)).lines == ["100%|##", "next", " 20%|"]


async def test_only_lines_with_the_text_are_shown(app: App, run: RunPaths):
    write(run, "one Error here\nfine\nanother \x1b[31mer\x1b[0mror\n")
    found = await tail(app, run, grep="error")
    assert found.lines == ["one Error here", "another error"]
    cursor = found.cursor
    write(run, "fine\nfine\nerror 3\n")
    assert (await tail(app, run, cursor, grep="error")).lines == ["error 3"]


async def test_a_masked_secret_is_not_found_by_searching_for_it(app: App, run: RunPaths):
    write(run, "token is hf_abcdefghijklmnopqrstuvwx\n")
    assert (await tail(app, run, grep="hf_abc")).lines == []
    assert (await tail(app, run)).lines == [f"token is {MASK}"]


async def test_hidden_characters_and_terminal_codes_are_gone_and_the_text_is_marked(app: App, run: RunPaths):
    write(run, "\x1b[1;31mred\x1b[0m \u202eevil\u200b\U000e0041\x00 \x1b]0;title\x07end\n")
    found = await tail(app, run)
    assert found.lines == ["red evil end"]
    assert found.untrusted
    assert "untrusted" in found.text()


@pytest.mark.parametrize("text", ["x" * 5_000_000, "x" * 5_000_000 + "\n" + "short\n", "\r".join(["50%"] * 900_000)])
async def test_a_line_of_megabytes_does_not_fill_the_answer_nor_stop_the_cursor(app: App, run: RunPaths, text: str):
    write(run, "begin\n")
    cursor = (await tail(app, run)).cursor
    write(run, text)
    assert len((await tail(app, run)).text()) < TEXT_LIMIT
    for _ in range(4):
        page = await tail(app, run, cursor)
        assert len(page.text()) < TEXT_LIMIT
        if not page.more:
            break
        assert page.cursor != cursor
        cursor = page.cursor
    else:
        pytest.fail("the cursor never came to the end")


async def test_a_run_without_a_log_says_so(app: App, run: RunPaths):
    found = await tail(app, run)
    assert found.lines == []
    assert "nothing was written" in found.text()


async def test_a_bad_cursor_or_attempt_is_refused_with_what_would_be_right(app: App, run: RunPaths):
    with pytest.raises(ArgumentError) as caught:
        await tail(app, run, "nonsense")
    assert run.id in caught.value.next_step
    with pytest.raises(ArgumentError, match="attempts are 1 to 1"):
        await tail(app, run, attempt=2)


async def test_a_cursor_of_a_replaced_log_starts_again(app: App, run: RunPaths, tmp_path: Path):
    write(run, "old\n" * 10)
    cursor = (await tail(app, run)).cursor
    (tmp_path / "keep").hardlink_to(run.attempt(1).log)  # so that the inode isn't reused
    run.attempt(1).log.unlink()
    write(run, "new\n")
    assert (await tail(app, run, cursor)).lines == ["new"]


async def test_a_cursor_behind_the_end_of_a_shortened_log_starts_again(app: App, run: RunPaths):
    write(run, "old\n" * 10)
    cursor = (await tail(app, run)).cursor
    os.truncate(run.attempt(1).log, 6)
    assert (await tail(app, run, cursor)).lines == ["old", "ol"]
    write(run, "d\nnew\n")
    assert (await tail(app, run, cursor)).lines == ["old", "old", "new"]


async def test_a_failed_runs_view_masks_secrets_in_its_log_and_its_reason(app: App, run: RunPaths):
    secret = "hf_" + "a1B2c3" * 5
    write(run, f"first\nlogin with {secret}\n")
    detail = f"401 for {secret} \x1b[31m"
    records.write_json(run.exit_json, {"outcome": {"failed": "auth", "detail": detail}, "exit_code": 1, "seconds": 1.0})
    view = await run_view.get(app, run.id)
    assert secret not in view.model_dump_json()
    assert secret not in view.text()
    assert "401 for" in view.text()
    assert view.log_tail is not None
    assert MASK in view.log_tail
    assert "\x1b" not in view.model_dump_json()


SECRETS = [
    "hf_" + "aB3" * 10,
    "sk-proj-" + "aB3" * 12,
    "ghp_" + "aB3" * 12,
    "AKIAIOSFODNN7EXAMPLE",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlLXBhcnQ",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("around", ["{}", "key {} used", '{{"a": "{}"}}', "https://host/?x={}&y=1", "({})"])
def test_a_token_is_masked_by_its_form(secret: str, around: str):
    masked = mask_secrets(around.format(secret))
    assert masked == around.format(MASK)


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        ("HF_TOKEN=abcdefgh12345678", "abcdefgh12345678"),
        ("export WANDB_API_KEY='0123456789abcdef0123456789abcdef01234567'", "0123456789abcdef"),
        ("machine api.wandb.ai login user password 0123456789abcdef0123456789abcdef01234567", "0123456789abcdef"),
        ('{"password": "hunter2222"}', "hunter2222"),
        ("password=12345678", "12345678"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "wJalrXUtnFEMI"),
        ("Authorization: Bearer abc.def-ghi_jkl", "abc.def"),
        ("'authorization': 'Basic dXNlcjpwYXNz'", "dXNlcjpwYXNz"),
        ("https://user:hunter22@host/path", "hunter22"),
    ],
)
def test_a_secret_is_masked_by_its_name(line: str, secret: str):
    masked = mask_secrets(line)
    assert secret not in masked
    assert MASK in masked


@pytest.mark.parametrize(
    "line",
    [
        "{'loss': 1.2, 'num_tokens': 12345.0, 'mean_token_accuracy': 0.7123, 'entropy': 1.1}",
        "tokenizer: Qwen/Qwen3-0.6B, eos_token: <|im_end|>, pad_token_id=151643, max_new_tokens=64",
        "revision=0123456789abcdef0123456789abcdef01234567",
        "token=None password: null",
        "Special tokens have been added: ['<tool>']",
        "File /home/user/sk-learn/hf_hub.py, line 12",
    ],
)
def test_what_training_logs_are_full_of_stays(line: str):
    assert mask_secrets(line) == line


def test_a_secret_is_masked_before_the_text_is_cut():
    assert "hf_" not in quote("x" * 90 + " hf_" + "a" * 40, 100)


@pytest.mark.parametrize(
    "piece",
    [
        "eyJ",
        "eyJ-",
        "eyJa.",
        "hf_",
        "sk-",
        "token",
        "token=",
        "secret_",
        "://a:",
        "bearer ",
        "password:",
        "a" * 7,
        "\x1b[",
    ],
)
def test_masking_takes_time_linear_in_the_text(piece: str):
    def seconds(size: int) -> float:
        text = piece * (size // len(piece))
        best = float("inf")
        for _ in range(3):
            began = time.perf_counter()
            quote(text, 1000)
            best = min(best, time.perf_counter() - began)
        return best

    # Twenty times the text: linear takes about 20 times as long, quadratic 400 times.
    assert seconds(1_000_000) / max(seconds(50_000), 1e-4) < 100
