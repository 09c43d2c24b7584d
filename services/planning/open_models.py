"""Well-known open models for when none is named: id, revision, licence, dimensions, and why one would take it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .model_cache import find_snapshot
from .model_info import ModelInfo
from .shapes import shape_of


@dataclass(frozen=True)
class OpenModel:
    """A row of the table."""

    info: ModelInfo
    reason: str
    gated: bool
    cached: bool
    """On this disk already."""


def open_models() -> list[OpenModel]:
    """The table, smallest first, with what of it is here."""
    return [_model(row) for row in _table()["models"]]


def table_date() -> str:
    """When the table was made: newer models exist."""
    return str(_table()["date"])


def _model(row: dict[str, Any]) -> OpenModel:
    shape = shape_of(row["config"])
    snapshot = find_snapshot(row["id"], row["revision"])
    return OpenModel(
        info=ModelInfo(
            name=row["id"],
            source="cache" if snapshot is not None else "hub",
            revision=row["revision"],
            shape=shape,
            parameters=shape.parameters,
            parameters_from="config",
            stored_dtype="BF16",
            license=row["license"],
            chat_template=True,
        ),
        reason=row["reason"],
        gated=row["gated"],
        cached=snapshot is not None and any(snapshot.folder.glob("*.safetensors")),
    )


@cache
def _table() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("open_models.json").read_text(encoding="utf-8"))
