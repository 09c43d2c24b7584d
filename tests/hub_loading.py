"""A process that asks the Hub for models and data in all the ways in which we do, and prints what comes of each.

It gets a list on stdin: `how` (plan, scan, model, data), `name`, `revision`, `token` of each; and prints a list of the
codes and reasons, None where it loads. The client reads its endpoint when it is imported: hence a process of its own.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from model_trainer.executors.errors import ModelTrainerError
from model_trainer.services.planning import model_hub
from model_trainer.trainer import data, models, scan_hub
from model_trainer.trainer.failures import explain
from model_trainer.trainer.scan_files import DataFileError

TOKEN = Path(os.environ["HF_HOME"]) / "token"


def load(how: str, name: str, revision: str | None) -> None:
    match how:
        case "plan":
            model_hub.look_up(name, revision)
        case "scan":
            scan_hub.fetch(name, revision, None, lambda _done, _total, _what: None)
        case "model":
            models.load_tokenizer({"name": name, "revision": revision})
        case _:
            data.load({"method": "sft", "datasets": [{"path": name, "revision": revision}]}, seed=0)


def ask(asked: dict[str, Any]) -> str | None:
    TOKEN.write_text(asked["token"] or "", encoding="utf-8")
    try:
        load(asked["how"], asked["name"], asked["revision"])
    except (ModelTrainerError, DataFileError) as error:
        return error.code
    except Exception as error:  # noqa: BLE001 - what the trainer does with any
        return explain(error).reason
    return None


if __name__ == "__main__":
    TOKEN.parent.mkdir(exist_ok=True)
    json.dump([ask(asked) for asked in json.load(sys.stdin)], sys.stdout)
