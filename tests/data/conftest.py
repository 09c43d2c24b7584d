"""What tests of data need: files with exact contents, and the scan itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from data_toys import Scan, Write

from model_trainer.trainer import scan


@pytest.fixture
def write(workspace: Path) -> Write:
    """Write rows as JSONL, or text, or bytes, under a name in the workspace."""

    def writer(name: str, content: bytes | str | list[Any]) -> Path:
        path = workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list):
            content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return writer


@pytest.fixture
def found() -> Scan:
    """What the scan finds at a path."""

    def scanned(path: Path | str, **asked: Any) -> dict[str, Any]:
        return scan.inspect({"path": str(path), **asked}, lambda *_: None)[0]

    return scanned
