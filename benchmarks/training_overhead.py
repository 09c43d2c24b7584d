"""What being supervised costs: one job supervised, by the same trainer started bare, and by `trl sft`.

All start in turn, in an order that rotates, and a ratio is the median over the rounds. The bare trainer is started
twice a round: where two equal things differ by more than the goal leaves room for, the machine is too busy to say, and
`goal_met` is null. Wall time counts from the start of the process (for a supervised run: from the request) to its end,
imports included.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from model_trainer.executors.paths import Home, RunPaths
from model_trainer.server.demo_data import write_pairs
from model_trainer.services.app import App
from model_trainer.services.configs import loading as configs
from model_trainer.services.configs.schema import Config
from model_trainer.services.environment.children import child_environment
from model_trainer.services.runs import life as runs
from model_trainer.services.settings import Settings
from model_trainer.trainer.contract import SNAPSHOT_PACKAGE

ROUNDS = 3
STEPS = 100
ROWS = 600
#: A supervised run may take this much of a bare one.
GOAL = 1.03

TRAINER = (sys.executable, "-m", f"{SNAPSHOT_PACKAGE}.trainer")
TRAINING = {
    "max_steps": STEPS,
    "per_device_train_batch_size": 8,
    "max_length": 128,
    "learning_rate": 1e-3,
    "logging_steps": 1,
    "gradient_checkpointing": False,
}
LORA = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"}


def run() -> dict[str, Any]:
    """Seconds and ratios of the three."""
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MODEL_TRAINER_STATE"] = f"{folder}/state"
        os.environ["HF_HOME"] = f"{folder}/hf"
        app = App(home=Home.open(), settings=Settings(), workspace=None)
        model, config = prepare(app, Path(folder))
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in ("supervised", "bare", "control", "trl")}
        for number in range(ROUNDS + 1):
            where = Path(folder) / str(number)
            ways = {
                "supervised": partial(start_supervised, app, config),
                "bare": partial(start_bare, app, config, where / "bare"),
                "control": partial(start_bare, app, config, where / "control"),
                "trl": partial(start_trl, app, model, where),
            }
            names = [*found][number % 4 :] + [*found][: number % 4]
            measured = {name: ways[name]() for name in names}
            if number:  # the first round fills caches: bytecode, files, the tokenized rows
                for name, seconds in measured.items():
                    found[name].append(seconds)
    ratio = middle(ratios(found["supervised"], found["bare"]))
    control = ratios(found["control"], found["bare"])
    noise = max(abs(one - 1) for one in control)
    return {
        "rounds": ROUNDS,
        "steps": STEPS,
        **{f"{name}_s": [round(seconds, 2) for seconds, _ in one] for name, one in found.items()},
        "supervised_to_bare": ratio,
        "bare_to_bare": control,
        "goal": GOAL,
        "goal_met": ratio <= GOAL if noise <= GOAL - 1 else None,
        "supervised_to_trl_sft": middle(ratios(found["supervised"], found["trl"])),
        "training_only_to_trl_sft": middle(ratios(found["supervised"], found["trl"], 1)),
    }


def ratios(ours: list[tuple[float, float]], others: list[tuple[float, float]], which: int = 0) -> list[float]:
    """Each round's ratio of wall times (0) or of the training loops' own times (1)."""
    return [round(one[which] / other[which], 3) for one, other in zip(ours, others, strict=True)]


def middle(values: list[float]) -> float:
    """The median."""
    return round(statistics.median(values), 3)


def prepare(app: App, folder: Path) -> tuple[Path, Config]:
    """A tiny model, rows in a folder of their own (as `trl sft` reads them), and the config of the job."""
    rows, model = folder / "rows" / "train.jsonl", folder / "model"
    rows.parent.mkdir()
    write_pairs(rows, limit=ROWS)
    asked = {"folder": str(model), "texts": str(rows), "vocab_size": 2048, "hidden_size": 128, "layers": 4}
    subprocess.run(
        [*TRAINER, "tiny"],
        input=json.dumps(asked).encode(),
        env=child_environment(app),
        check=True,
        capture_output=True,
    )
    config = {
        "method": "sft",
        "model": {"name": str(model), "dtype": "float32"},
        "datasets": [{"path": str(rows)}],
        "eval_dataset": None,
        "peft": {"type": "lora", **LORA},
        "training": TRAINING,
    }
    return model, Config.model_validate(config)


def start_supervised(app: App, config: Config) -> tuple[float, float]:
    """Wall and training seconds of a run under its supervisor."""
    launch = runs.Launch(
        kind="train",
        python=Path(sys.executable),
        label="sft",
        request={"method": "sft"},
        config_text=configs.dump_config(config),
    )
    began = time.perf_counter()
    run: RunPaths = anyio.run(partial(runs.start, app, launch))
    while not run.exit_json.exists():
        time.sleep(0.01)
    seconds = time.perf_counter() - began
    record = json.loads(run.exit_json.read_text(encoding="utf-8"))
    assert record["outcome"] == {"succeeded": "planned_end"}, record
    return seconds, training_seconds(run.attempt(1).metrics)


def start_bare(app: App, config: Config, folder: Path) -> tuple[float, float]:
    """The same of the trainer as a plain child, in a run folder made by hand."""
    attempt = folder / "attempts" / "1"
    attempt.mkdir(parents=True)
    (attempt / "config.yaml").write_text(configs.dump_config(config), encoding="utf-8")
    seconds = timed([*TRAINER, "train", str(attempt)], app, attempt / "log")
    return seconds, training_seconds(attempt / "metrics.jsonl")


def start_trl(app: App, model: Path, folder: Path) -> tuple[float, float]:
    """The same of `trl sft` with the same arguments."""
    output = folder / "trl"
    output.mkdir(parents=True)
    training = {**TRAINING, "gradient_checkpointing": "false"}
    options = {
        "model_name_or_path": model,
        "dataset_name": model.parent / "rows",
        "output_dir": output / "output",
        "dtype": "float32",
        "lora_r": LORA["r"],
        "lora_alpha": LORA["lora_alpha"],
        "lora_target_modules": LORA["target_modules"],
        "use_cpu": "true",
        "bf16": "false",
        "report_to": "none",
        **training,
    }
    command = [str(Path(sys.executable).with_name("trl")), "sft", "--use_peft"]
    command += [part for name, value in options.items() for part in (f"--{name}", str(value))]
    seconds = timed(command, app, output / "log")
    said = re.findall(r"'train_runtime': '?([0-9.]+)", (output / "log").read_text(encoding="utf-8"))
    return seconds, float(said[-1])


def timed(command: list[str], app: App, log: Path) -> float:
    """Wall seconds of a child that must succeed."""
    began = time.perf_counter()
    with open(log, "wb") as output:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=log.parent,
            env=child_environment(app),
            check=False,
        )
    seconds = time.perf_counter() - began
    assert done.returncode == 0, log.read_text(encoding="utf-8")[-3000:]
    return seconds


def training_seconds(metrics: Path) -> float:
    """The training loop's own time, as transformers measures it."""
    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    return next(row["train_runtime"] for row in reversed(rows) if "train_runtime" in row)
