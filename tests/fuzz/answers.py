"""What every answer must be, whatever was asked."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from model_trainer.executors.errors import all_codes
from model_trainer.services.result import TEXT_LIMIT

#: Characters of an answer's structure as JSON: the largest that the tools' own limits add up to is a plan with four
#: options. No reader of a context window should meet more, but for what it sent itself.
STRUCTURE_LIMIT = 40_000
#: How often an answer may repeat what was sent: in each of a plan's four options, and around them.
_ECHOES = 8

_PATH = re.compile(r"(?<![\w./:~*-])/[\w.+@~-]+(?:/[\w.+@~-]+)+")
#: Paths that stand in texts for any path.
_EXAMPLES = ("/absolute/path",)


def check(answer: dict[str, Any], sent: str, root: Path) -> dict[str, Any]:
    """Assert that an answer is a result or a typed error within bounds; returns its structure.

    `sent` is what was asked, as text; a path in the answer must lie beside or below one in it, or below `root`.
    """
    if "error" in answer:
        structure: dict[str, Any] = answer["error"]["data"]
        text: str = answer["error"]["message"]
    else:
        structure = answer["result"]["structuredContent"]
        text = "".join(part["text"] for part in answer["result"]["content"] if part["type"] == "text")
    assert len(text) <= TEXT_LIMIT, f"{len(text)} characters"
    if "error" in answer or answer["result"].get("isError"):
        assert set(structure) == {"code", "message", "next_step"}, structure
        assert all(isinstance(value, str) and value.strip() for value in structure.values()), structure
        assert structure["code"] in all_codes() - {"internal"}, structure
        assert text == f"{structure['code']}: {structure['message']}\nNext: {structure['next_step']}"
    else:
        assert structure["next_step"].strip()
        assert text.endswith(f"\nNext: {structure['next_step']}")
    shown = json.dumps(structure, ensure_ascii=False)
    assert len(shown) <= STRUCTURE_LIMIT + _ECHOES * len(sent), f"{len(shown)} characters"
    assert "Traceback (most recent call last)" not in shown
    assert 'File "' not in shown
    known = (str(root), *_EXAMPLES, *(text.rpartition("/")[0] or text for text in re.findall(r'"(/[^"]*)"', sent)))
    # A path may be cut short where it is shown: then it is a known one's beginning.
    foreign = {path for path in _PATH.findall(text + shown) if not any(_agree(path, one) for one in known)}
    assert not foreign, f"{foreign} in {structure}"
    return structure


def _agree(path: str, known: str) -> bool:
    return path.startswith(known) or known.startswith(path)
