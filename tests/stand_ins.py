"""A stand-in for a complete training environment: a shell script that answers as one, in milliseconds, without torch.

For tests of what happens around training. What it says of its keys are the names and kinds that we ourselves check.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from model_trainer.services.configs.bounds import PEFT, TRAINING, Bound
from model_trainer.services.environment.environments import REQUIRED
from model_trainer.trainer.contract import METHODS

VERSIONS = {**dict.fromkeys(REQUIRED, "1.0"), "bitsandbytes": "1.0", "python": "3.11.7"}

#: Each is a command of the trainer, or `versions`; `$4` is the attempt's folder where there is one.
SUCCEEDS = """printf '{"outcome": "succeeded", "ended_by": "planned_end", "steps": 1}' > "$4/result.json" """
INSPECTS = f'exec "{sys.executable}" "$@"'
LENGTHS = {
    "tokens": {"sample": 4, "mean": 20.0, "p50": 20, "p95": 24, "p99": 25, "max": 25},
    "examples": [{"text": "[masked]a[/masked] b", "tokens": 2, "trained": 1}],
    "masked_by_cut": 0,
    "masked_rows": 0,
    "cut_rows": 0,
    "max_length": 1024,
    "embedding_rows": 150,
    "max_token_id": 149,
}
SAID = {"text": "an answer", "tokens": 2, "ended": True}


def says(answer: object) -> str:
    """The script's line that answers a question with this JSON."""
    text = json.dumps(answer).replace("'", "'\\''")
    return f"cat > /dev/null; printf '%s\\n' '{text}'"


def keys() -> dict[str, Any]:
    """What `probe` answers."""
    others = {"packing": "bool", "save_only_model": "bool", "load_best_model_at_end": "bool", "optim": "str"}
    others |= {"lr_scheduler_type": "str", "eval_strategy": "str", "save_strategy": "str"}
    training = _entries(TRAINING) | {name: {"types": [kind]} for name, kind in others.items()}
    classes = {method.config_class: training for method in METHODS.values()}
    lora = _entries(PEFT) | {"target_modules": {"types": ["str", "list"]}, "use_dora": {"types": ["bool"]}}
    return {"training": classes, "peft": {"lora": lora}, "versions": VERSIONS}


def training_python(folder: Path, name: str = "python", **answers: str) -> Path:
    """The environment's Python; `answers` are shell commands in place of what it does on `train`, `sample`, …"""
    does = {
        "versions": f"echo '{json.dumps(VERSIONS)}'",
        "probe": says(keys()),
        "inspect": INSPECTS,
        "preview": says(LENGTHS),
        "train": SUCCEEDS,
        "sample": "exit 3",
        **answers,
    }
    commands = "\n".join(f"{command}) {body};;" for command, body in does.items() if command != "versions")
    path = folder / name
    path.write_text(
        f'#!/bin/sh\nif [ "$1" = -E ]; then {does["versions"]}; exit; fi\ncase "$3" in\n{commands}\nesac\n',
        encoding="utf-8",
    )
    path.chmod(0o755)
    return path


def _entries(bounds: dict[str, Bound]) -> dict[str, dict[str, Any]]:
    return {
        name: {"types": (["int"] if bound.whole else ["float"]) + (["none"] if bound.nullable else [])}
        for name, bound in bounds.items()
    }
