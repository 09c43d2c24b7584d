"""What the tests of the Hub upload."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.contents_made import WEIGHTS


@pytest.fixture
def folder(workspace: Path) -> Path:
    """A model's folder: 2 MB of weights and a few bytes of text, some in a folder of its own."""
    files = {"config.json": b"{}\n", "notes/read.txt": "gr\u00fc\u00dfe\n".encode(), "model.safetensors": WEIGHTS}
    for name, data in files.items():
        path = workspace / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    return workspace
