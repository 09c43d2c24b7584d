"""What a plan is asked for: everything that a recommendation depends on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ...trainer.contract import METHODS
from ..configs.schema import Dataset, EvalDataset
from .lengths import Lengths
from .machine import Machine
from .memory import Technique
from .model_info import ModelInfo

Goal = Literal["balanced", "quality", "speed", "memory"]

#: Up to this many parameters, training all of them is cheap, and adapters save little.
SMALL = 150_000_000


@dataclass(frozen=True)
class Ask:
    """Everything that a plan depends on."""

    model: ModelInfo
    machine: Machine
    rows: int
    lengths: Lengths
    dataset: Dataset
    method: str = "sft"
    goal: Goal = "balanced"
    max_hours: float | None = None
    eval_dataset: EvalDataset | None = None
    """Given by the caller; else a part of the data is held out."""
    eval_rows: int | None = None
    quantization: bool = True
    chats: bool = False
    disk_free_gib: float = math.inf


def learning_rate(method: str, technique: Technique, parameters: int) -> float:
    """The method's rate; full fine-tuning of models below a billion parameters takes more, up to ten times."""
    full, lora = METHODS[method].learning_rates
    if technique != "full":
        return lora
    rate = full * min(10.0, max(1.0, math.sqrt(1e9 / parameters)))
    return float(f"{rate:.1e}")
