"""Each tool, each way in which it can fail: the code, the words, the way on, and nothing lost."""

from __future__ import annotations

import re
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

import pytest
from mcp.types import TextContent
from server_processes import WAYS, client_of

from model_trainer.executors.errors import all_codes
from model_trainer.server.app import ModelTrainerServer
from model_trainer.services.result import TEXT_LIMIT
from model_trainer.tools import TOOLS

from .place import Place
from .row import Row
from .table import ROWS

#: Codes without a row, each with its reason.
NO_ROW = {
    "internal": "a defect of ours: tests/server/test_error_boundary.py makes one",
    "declined": "it takes a user who says no: tests/publishing/test_consent.py has them",
}

#: A next step names a tool, a command for a shell, or the variable that moves the state folder.
NAMES_A_WAY_ON = re.compile(
    "|".join([*(spec.name for spec in TOOLS), "[Cc]all the tool again", "`", "MODEL_TRAINER_STATE"])
)


@pytest.mark.anyio
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_a_failure_says_what_is_wrong_and_what_comes_next_and_loses_nothing(
    row: Row, place: Place, servers: dict[str, ModelTrainerServer], broken: Path
) -> None:
    place.names["broken"] = str(broken)
    row.set_up(place)
    before = place.contents()
    # All ways of connecting in turn: which one a row meets doesn't matter, that each is met does.
    way = WAYS[ROWS.index(row) % len(WAYS)]
    async with client_of(servers[row.server], way) as client:
        result = await client.call_tool(row.tool, place.asked(row.arguments))
    structure = result.structured_content
    assert result.is_error, structure
    assert structure is not None
    assert (structure["code"], structure.keys()) == (row.code, {"code", "message", "next_step"}), structure
    assert place.told(row.says) in structure["message"]
    assert place.told(row.then) in structure["next_step"]
    assert NAMES_A_WAY_ON.search(structure["next_step"]), structure
    [content] = result.content
    assert isinstance(content, TextContent)
    assert content.text == f"{row.code}: {structure['message']}\nNext: {structure['next_step']}"
    assert len(content.text) <= TEXT_LIMIT
    after = place.contents()
    assert {name: after.get(name) for name in before} == before
    new = [name for name in after if name not in before and not any(fnmatch(name, f"{one}/*") for one in row.makes)]
    assert not new


def test_every_code_of_the_error_tree_has_a_row_or_a_reason() -> None:
    with_row = {row.code for row in ROWS}
    assert with_row | NO_ROW.keys() == all_codes()
    assert not with_row & NO_ROW.keys(), "a reason is out of date"


def test_every_tool_has_rows_and_no_two_are_the_same() -> None:
    assert {spec.name for spec in TOOLS} <= {row.tool for row in ROWS}
    assert not [name for name, count in Counter(row.name for row in ROWS).items() if count > 1]
