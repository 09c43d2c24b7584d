"""A small world for fuzzing: data good and bad, configs, runs in every state, and the names of all of them.

Nothing in it trains: the training environment is a stand-in that answers in milliseconds.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from made_runs import CANCELLED, SUCCEEDED, failed, made_run
from planning_toys import model_folder
from stand_ins import SAID, training_python

from model_trainer.server.app import build_server
from model_trainer.services.app import App
from model_trainer.services.runs import life

from .pipe_server import PipeServer

CONFIG = """\
# What we train, and why.
method: sft
model: {name: model, dtype: float32}
datasets: [{path: pairs.jsonl}]
eval_dataset: {fraction: 0.1}
peft: {type: lora, r: 8}
training: {max_steps: 3, learning_rate: 1e-3}
"""

#: Answers `sample` with as many answers as there are prompts.
SAMPLE = f"""\
import json, sys
one = {{"prompt_tokens": 3, "base": {SAID!r}, "tuned": {SAID!r}}}
asked = json.load(sys.stdin)
print(json.dumps({{"chat": asked["chat"], "device": "cpu", "answers": [one] * len(asked["prompts"])}}))
"""

#: matplotlib takes a second to draw; in its place this draws nothing, at once.
MATPLOTLIB = """\
class Anything:
    def __init__(self, *_, **__): pass
    def __getattr__(self, name): return self
    def __call__(self, *_, **__): return self
    def __iter__(self): return iter([self])
    def __rtruediv__(self, other): return 1.0

class Figure(Anything):
    def savefig(self, path, **_): open(path, "wb").write(b"PNG")

rcParams = Line2D = MaxNLocator = Anything()
"""

#: Paths that nobody should give.
ODD = [
    *(
        "",
        ".",
        "..",
        "~",
        "~no-such-user/data.jsonl",
        "/",
        "/dev/zero",
        "/proc/self/environ",
        "a\0b.jsonl",
        "\u202e.yaml",
    ),
    *("../workspace/pairs.jsonl", "*.jsonl", "**/*.jsonl", "[", "folder/*", "x" * 300 + ".jsonl"),
    *("y/" * 3000 + "x.yaml", "z/" * 1900 + "x.jsonl"),
]


@dataclass
class World:
    """Where fuzzing happens."""

    app: App
    server: PipeServer
    root: Path
    """Everything that the server may name lies below it."""
    sentinels: dict[Path, bytes]
    pools: dict[str, list[str]]
    """Real strings, by what `tool.argument` has to contain for them to be likely; the first pool that fits is taken."""

    def is_whole(self) -> bool:
        """Whether what no call may touch is as it was."""
        return all(path.read_bytes() == content for path, content in self.sentinels.items())


@contextmanager
def world(app: App, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[World]:
    """The world with a server in it, until the block ends."""
    tools = workspace.parent / "stand-ins"
    tools.mkdir()
    (tools / "sample.py").write_text(SAMPLE, encoding="utf-8")
    python = training_python(
        tools,
        # Without site-packages Python starts in half the time; what the Hub says is not for fuzzing anyway.
        inspect=f'exec "{sys.executable}" -S "$@"',
        sample=f'exec "{sys.executable}" -I -S "{tools}/sample.py"',
    )
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", str(python))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    _draw_nothing(tools, monkeypatch)
    # Runs of the stand-in end in 0.1 s: looking for that every 0.2 s would be most of the time that fuzzing takes.
    monkeypatch.setattr(life, "_LOOK_SECONDS", 0.01)
    files = _files(workspace)
    runs = _runs(app, workspace, python)
    server = PipeServer(build_server(app))
    try:
        plan = server.ask(
            "tools/call", {"name": "plan_training", "arguments": {"dataset": "pairs.jsonl", "model": "model"}}
        )
        plan_id: str = plan["result"]["structuredContent"]["plan_id"]
        sentinels = [path for path in workspace.rglob("*") if path.is_file() and path.suffix not in (".yaml", ".bak")]
        pools = _pools(workspace, files, runs, plan_id)
        yield World(app, server, workspace.parent, {path: path.read_bytes() for path in sentinels}, pools)
    finally:
        server.close()


def _draw_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = folder / "matplotlib"
    package.mkdir()
    (package / "__init__.py").write_text(MATPLOTLIB, encoding="utf-8")
    for name in ("figure", "lines", "ticker"):
        (package / f"{name}.py").write_text("from . import *\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder))


def _files(workspace: Path) -> list[str]:
    def rows(name: str, rows: list[Any]) -> None:
        path = workspace / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    rows("pairs.jsonl", [{"prompt": f"What is {n}?", "completion": f" It is {n}."} for n in range(60)])
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    rows("chats.jsonl", [{"messages": turns, "n": n} for n in range(60)])
    foreign = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]
    rows("sharegpt.jsonl", [{"conversations": foreign} for _ in range(60)])
    rows("preferences.jsonl", [{"prompt": "p", "chosen": "a", "rejected": "b"}] * 60)
    rows("folder/train.jsonl", [{"text": f"text {n}"} for n in range(60)])
    rows("folder/test.jsonl", [{"text": f"other {n}"} for n in range(20)])
    (workspace / "broken.jsonl").write_bytes(b'{"text": "whole"}\n{"text": "cut\n\xff\xfe\x00\n[]\n')
    (workspace / "empty.jsonl").touch()
    (workspace / "table.csv").write_text("question;answer\n" + "what?;that\n" * 60, encoding="utf-8")
    (workspace / "notes.txt").write_text("Nobody may touch this.\n", encoding="utf-8")
    (workspace / "config.yaml").write_text(CONFIG, encoding="utf-8")
    (workspace / "broken.yaml").write_text("method: [sft\n", encoding="utf-8")
    (workspace / "no-config.yaml").write_bytes(b"\x00\xff")
    (workspace / "loop.jsonl").symlink_to("loop.jsonl")
    (workspace / "odd").mkdir()
    (workspace / "odd" / os.fsdecode(b"caf\xe9.jsonl")).write_text("{}\n", encoding="utf-8")
    model_folder(workspace / "model")
    model_folder(workspace / "pickled", pytorch_model__bin=b"x")
    (workspace / "no-model").mkdir()
    return sorted(path.relative_to(workspace).as_posix() for path in workspace.iterdir())


def _runs(app: App, workspace: Path, python: Path) -> list[str]:
    config = CONFIG.replace("name: model", f"name: {workspace}/model").replace("pairs", f"{workspace}/pairs")
    good = made_run(app, "20260101-000001-sft-aaaaa", SUCCEEDED, config=config, python=python, rows=40, output=True)
    made_run(app, "20260101-000002-sft-bbbbb", failed(detail="\x1b[31mTraceback hf_" + "a" * 30), log="a\n" * 999)
    made_run(app, "20260101-000003-sft-ccccc", CANCELLED, config=config, checkpoint=4, rows=9, parent=good.id)
    made_run(app, "20260101-000004-sft-ddddd", None, config=config)
    made_run(app, "20260101-000005-sft-eeeee", None, here=False)
    bare = made_run(app, "20260101-000006-sft-fffff", SUCCEEDED)
    bare.attempt(1).metrics.write_text('{"step": 1, "loss": NaN, "at": "x"}\n{"loss": 1}\nnot json\n', encoding="utf-8")
    for number, (name, text) in enumerate({"run.json": "{}", "exit.json": "{", "result.json": "[]"}.items()):
        run = made_run(app, f"20260101-00001{number}-sft-bad{number}", SUCCEEDED, output=True)
        (run.attempt(1).result if name == "result.json" else run.root / name).write_text(text, encoding="utf-8")
    return sorted(path.name for path in app.home.runs.iterdir())


def _pools(workspace: Path, files: list[str], runs: list[str], plan: str) -> dict[str, list[str]]:
    good = ["pairs.jsonl", "chats.jsonl", "folder", "table.csv"]
    paths = [*good, *files, *(str(workspace / name) for name in files), *ODD, "org/name", "new.yaml"]
    ids = [*runs * 4, "20260101-000000-sft-zzzzz", "../x", "a/b", ".", "\ud83d\ude00"]
    cursors = ["0-0", "1-ffffffffffffffffffffff", "-1--1", "x-y", "0x1-0x1", *runs]
    names = ["prompt", "completion", "messages", "text", "conversations", "from", "value", "question", "answer"]
    names += ["role", "content", "user", "assistant", "human", "gpt", "x" * 9000]
    overrides = ["training", "training.learning_rate", "training.max_steps", "peft", "peft.r", "model", "model.name"]
    overrides += ["datasets.0.path", "eval_dataset", "resources.gpus", "method", "version", "a..b", "."]
    return {
        "write_config.path": [*["new.yaml"] * 12, "config.yaml", "deep/er/new.yml", "other.yaml", *ODD, *files],
        "path": paths,
        "dataset": paths,
        "launch_run.config": [*["config.yaml"] * 12, *paths],
        "base": [*["config.yaml"] * 12, *paths],
        "model": [*["model"] * 12, *paths],
        "write_config.plan": [*[plan] * 4, "plan-20260101-zzzzzz", "plan-../x"],
        "run_id": ids,
        "write_config.run": ids,
        "after": ids,
        "push_adapter.destination": [*["ada/tiny", "./bundle", "./folder"] * 4, str(workspace), *ODD, *files],
        "overwrite": ["ada/tiny", "./folder", *ODD],
        "confirm": ["0123456789abcdef0123456789abcdef"],
        "alternative": ["full", "lora", "qlora", "full-bf16"],
        "cursor": cursors,
        "split": ["train", "test", "validation"],
        "method": ["sft", *["auto"] * 3, "dpo", "sfft"],
        "plot_metrics.metrics": ["loss", "eval_loss", "lr"],
        "columns": names,
        "turns": names,
        "overrides": overrides,
        "": [*paths, *ids, *cursors, *names, "sft", "auto", "train", "test", "main", "loss", "eval_loss"],
    }
