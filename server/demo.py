"""`model-trainer demo`: the whole way on this machine, through the real server and the real client.

A tiny model with random weights learns to write the first line of a docstring from a signature. Needs a training
environment, but no GPU, no token and no internet. Data, model and bundle go to one folder, runs to the state folder.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import anyio
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.types import CallToolResult

from ..executors.errors import ArgumentError
from ..executors.paths import Home
from ..services.app import App
from ..services.environment.children import call_trainer
from ..services.environment.environments import find_environment
from ..services.settings import load_settings
from .demo_data import write_pairs

#: Rows of the demo's data, and the size of its model: chosen so that training takes about a minute on two cores.
ROWS = 3000
MODEL = {"vocab_size": 4096, "hidden_size": 192, "layers": 4}

#: What base and tuned model are asked at the end, in the form of the training data.
PROMPT = "def json.loads(s):\n"


def main(arguments: list[str]) -> int:
    """Run the demo; 0 if the model got better."""
    parser = argparse.ArgumentParser(prog="model-trainer demo", description=__doc__)
    parser.add_argument(
        "--folder", default="demo-output", help="where data, model and config go (default: %(default)s)"
    )
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of training data (default: %(default)s)")
    options = parser.parse_args(arguments)
    return anyio.run(_demo, Path(options.folder).absolute(), options.rows)


async def _demo(folder: Path, rows: int) -> int:
    started = time.monotonic()
    settings = load_settings()
    app = App(home=Home.open(settings.runs_dir), settings=settings, workspace=folder)
    environment = find_environment(app)
    _clear(folder)
    (folder / "data").mkdir()
    data = folder / "data" / "docstrings.jsonl"
    model = folder / "model"
    count = write_pairs(data, rows)
    _tell(f"data   {data}: {count} rows (signature → first line of its docstring, Python's standard library)")
    made = await call_trainer(
        app, environment.python, ["tiny"], {"folder": str(model), "texts": str(data), **MODEL}, seconds=180
    )
    _tell(f"model  {model}: Qwen3 architecture, {made['parameters'] / 1e6:.1f} million random weights, own tokenizer")
    # The human's environment decides where state and settings lie; the server must see the same.
    inherited = {
        name: value for name, value in os.environ.items() if name.startswith(("MODEL_TRAINER_", "XDG_", "HF_"))
    }
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "model_trainer.server.cli", "serve", "--workspace", str(folder)],
        env={**inherited, "PATH": os.environ.get("PATH", "")},
    )
    async with Client(stdio_client(server, errlog=sys.stderr)) as client:
        tools = await client.list_tools()
        _tell(f"server started over stdio: {len(tools.tools)} tools\n")
        return await _drive(client, model, folder, started)


def _clear(folder: Path) -> None:
    """Make an empty folder for the demo; only one that a demo made is emptied.

    Raises:
        ArgumentError: the folder holds somebody's files.
    """
    made_by_us = folder / ".model-trainer-demo"
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not made_by_us.is_file())):
        raise ArgumentError(
            "invalid_arguments",
            f"{folder} is there and no demo made it; the demo empties its folder.",
            next_step=f"model-trainer demo --folder {folder.with_name(folder.name + '-demo')}",
        )
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    made_by_us.touch()


async def _drive(client: Client, model: Path, folder: Path, started: float) -> int:
    """Plan, configure, train and measure, as an agent would."""
    await _call(client, "check_environment")
    await _call(client, "inspect_dataset", path="data/docstrings.jsonl", model=str(model))
    plan = await _call(client, "plan_training", dataset="data/docstrings.jsonl", model=str(model))
    config = await _call(
        client,
        "write_config",
        path="config.yaml",
        plan=plan["plan_id"],
        overrides={
            "training": {"num_train_epochs": 1, "learning_rate": 2e-3, "logging_steps": 2},
            "peft": None,
        },
    )
    launched = await _call(client, "launch_run", config=config["path"], again=True)
    run_id = launched["run_id"]
    await _watch(client, run_id, until=0.25)
    await _call(client, "stop_run", run_id=run_id, wait_seconds=40)
    resumed = await _call(client, "resume_run", run_id=run_id)
    view = await _watch(client, resumed["run_id"])
    await _call(client, "tail_metrics", run_id=view["run_id"])
    if view["state"]["status"] != "succeeded":
        _tell(f"\nThe run {view['state']['status']}. {view['next_step']}")
        return 1
    await _call(client, "plot_metrics", run_ids=[run_id, view["run_id"]])
    await _call(client, "sample_model", 9, run_id=view["run_id"], prompts=[PROMPT], max_new_tokens=24)
    pushed = await _call(client, "push_adapter", run_id=view["run_id"], destination="./published")
    await _watch(client, pushed["push_run_id"])
    before, after = view["metrics"]["eval_loss_before"], view["metrics"]["eval_loss"]
    _tell(
        f"\nHeld-out loss before {before:.3f}, after {after:.3f}, in {time.monotonic() - started:.0f} s in all.\n"
        f"Model with its card: {folder / 'published'}\n"
        f"Data, model and bundle: {folder}; the runs: {Path(view['folder']).parent}\n"
        f"Connect your agent: model-trainer connect claude   (or cursor, vscode, codex)"
    )
    return 0 if after < before else 1


async def _watch(client: Client, run_id: str, until: float = 1) -> dict[str, Any]:
    """Wait for the run's end, or for a part of its steps, showing its own words as they come."""
    live = sys.stdout.isatty()
    shown = ""

    async def show(progress: float, total: float | None, message: str | None) -> None:
        nonlocal shown
        if message is None or message == shown:
            return
        shown = message
        if live:
            sys.stdout.write(f"\r\x1b[K  … {message}")
            sys.stdout.flush()
        elif total is None or int(progress) % max(1, int(total) // 8) == 0:
            _tell(f"  … {message}")

    while True:
        wait = 40 if until == 1 else 1
        result = await client.call_tool("get_run", {"run_id": run_id, "wait_seconds": wait}, progress_callback=show)
        view = _structure(result)
        over = view["state"]["status"] in ("succeeded", "failed", "cancelled", "lost")
        progress: dict[str, Any] = view.get("progress") or {}
        far = progress["step"] >= until * progress["total_steps"] if progress.get("total_steps") else False
        if over or (until < 1 and far):
            if live and shown:
                sys.stdout.write("\r\x1b[K")
            _tell(f"get_run(run_id={run_id!r}, wait_seconds={wait})\n{_short(result, 3)}")
            return view


async def _call(client: Client, tool: str, lines: int = 2, **arguments: Any) -> dict[str, Any]:
    """Call a tool, show the call and the first lines of its answer, return the structure."""
    shown = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    _tell(f"{tool}({shown if len(shown) < 140 else shown[:137] + '…'})")
    result = await client.call_tool(tool, arguments)
    _tell(_short(result, lines))
    if result.is_error:
        raise SystemExit(1)
    return _structure(result)


def _structure(result: Any) -> dict[str, Any]:
    assert isinstance(result, CallToolResult)  # noqa: S101
    return result.structured_content or {}


def _short(result: Any, lines: int = 2) -> str:
    text = "".join(getattr(block, "text", "") for block in result.content)
    first = [line for line in text.splitlines() if line.strip()]
    kept = first if result.is_error else first[:lines]
    return "\n".join(f"  ← {line if len(line) <= 160 else line[:159] + '…'}" for line in kept)


def _tell(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
