"""Numbers that can't be meant: the range of each numeric key of `training` and `peft` that people write.

The ranges are wide on purpose. They catch signs, swapped digits and units; what trains well is planning's business.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .text import Document


@dataclass(frozen=True)
class Bound:
    """The values a key may have; `open_low` and `open_high` leave the end itself out."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False
    whole: bool = False
    nullable: bool = False
    also: float | None = None
    """One value outside the range with a meaning of its own (max_steps: -1)."""

    def admits(self, value: float) -> bool:
        """Whether `value` lies within."""
        if value == self.also:
            return True
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        low = f"above {self.low:g}" if self.open_low else f"from {self.low:g}"
        high = f"below {self.high:,g}" if self.open_high else f"to {self.high:,g}"
        extra = f", or {self.also:g}" if self.also is not None else ""
        return f"{kind} {low} {high}{extra}{' or null' if self.nullable else ''}"


def _count(low: int, high: int, *, nullable: bool = False, also: float | None = None) -> Bound:
    return Bound(low, high, whole=True, nullable=nullable, also=also)


_EVERY = Bound(0, 1e9, open_low=True)
_SHARE = Bound(0, 1, open_high=True)

TRAINING: dict[str, Bound] = {
    "learning_rate": Bound(0, 1, open_low=True),
    "num_train_epochs": Bound(0, 10_000, open_low=True),
    "max_steps": _count(1, 10**9, also=-1),
    "per_device_train_batch_size": _count(1, 65_536),
    "per_device_eval_batch_size": _count(1, 65_536),
    "gradient_accumulation_steps": _count(1, 100_000),
    "eval_accumulation_steps": _count(1, 100_000, nullable=True),
    "max_length": _count(8, 10**7, nullable=True),
    "warmup_steps": Bound(0, 1e9),
    "weight_decay": Bound(0, 1),
    "adam_beta1": _SHARE,
    "adam_beta2": _SHARE,
    "adam_epsilon": Bound(0, 1, open_low=True),
    "max_grad_norm": Bound(0, 1e6),
    "label_smoothing_factor": _SHARE,
    "neftune_noise_alpha": Bound(0, 1000, nullable=True),
    "logging_steps": _EVERY,
    "eval_steps": Bound(0, 1e9, open_low=True, nullable=True),
    "save_steps": _EVERY,
    "eval_delay": Bound(0, 1e9),
    "save_total_limit": _count(1, 10_000, nullable=True),
    "seed": _count(0, 2**32 - 1),
    "data_seed": _count(0, 2**32 - 1, nullable=True),
    "dataloader_num_workers": _count(0, 256),
    "dataloader_prefetch_factor": _count(1, 1000, nullable=True),
    "torch_empty_cache_steps": _count(1, 10**9, nullable=True),
    "ddp_timeout": _count(1, 10**6),
}

PEFT: dict[str, Bound] = {
    "r": _count(1, 8192),
    "lora_alpha": Bound(0, 65_536, open_low=True),
    "lora_dropout": _SHARE,
}


def check_numbers(document: Document, section: str, values: Mapping[str, Any], bounds: Mapping[str, Bound]) -> None:
    """Refuse numbers out of range, and booleans and text in their place.

    Raises:
        ConfigError: `invalid_config`, naming the range and, for a number in quotes, the number.
    """
    for name, bound in bounds.items():
        if name not in values:
            continue
        value, key = values[name], (section, name)
        if value is None and bound.nullable:
            continue
        if isinstance(value, str) and (number := _number(value)) is not None:
            message = f"{value!r:.40} is text; write the number without quotes: {number:g}"
            document.refuse("invalid_config", key, message, document.correct(key, number))
        if isinstance(value, bool) or not isinstance(value, int | float):
            document.refuse("invalid_config", key, f"{_shown(value)} is not {bound}")
        if bound.whole and not float(value).is_integer():
            document.refuse("invalid_config", key, f"{value:g} is not {bound}")
        if bound.whole and isinstance(value, float):
            message = f"write {int(value)}, without a decimal point"
            document.refuse("invalid_config", key, message, document.correct(key, int(value)))
        if not bound.admits(value):
            document.refuse("invalid_config", key, f"{value:g} is out of range; it is {bound}")


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _shown(value: object) -> str:
    """A short form of a value of the wrong kind."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value!r:.40}" if isinstance(value, str | int | float) else f"a {type(value).__name__}"
