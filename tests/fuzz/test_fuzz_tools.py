"""Whatever a client sends to a tool, it gets a result or a typed error, and the server goes on.

`FUZZ_CASES=2000 pytest tests/fuzz` (`make fuzz`) tries more; what is tried is the same each time.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from model_trainer.server.schema import Schema
from model_trainer.services.app import App
from model_trainer.tools import TOOLS

from .answers import check
from .arguments import arguments_of, rubbish
from .world import World, world

CASES = int(os.environ.get("FUZZ_CASES", "200"))
NAMES = [spec.name for spec in TOOLS]
SAME_EACH_TIME = settings(
    max_examples=CASES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)


def ask(there: World, params: Any, *, modern: bool) -> dict[str, Any]:
    """Call a tool, and check what any answer must be."""
    answer = there.server.ask("tools/call", params, modern=modern)
    check(answer, json.dumps(params, ensure_ascii=False), there.root)
    return answer


def schemas(there: World, which: str = "inputSchema") -> dict[str, Schema]:
    """The tools' schemas as a client gets them."""
    return {tool["name"]: tool[which] for tool in there.server.ask("tools/list", {})["result"]["tools"]}


@pytest.mark.parametrize("name", NAMES)
def test_arguments_that_fit_a_tool_s_own_schema_get_a_result_or_a_typed_error(
    name: str, app: App, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world(app, workspace, monkeypatch) as there:
        known = schemas(there)
        promised = Draft202012Validator(schemas(there, "outputSchema")[name])

        @SAME_EACH_TIME
        @given(arguments_of(name, known[name], there.pools), st.booleans())
        def every(arguments: dict[str, Any], modern: bool) -> None:
            result = ask(there, {"name": name, "arguments": arguments}, modern=modern)["result"]
            if not result.get("isError"):
                promised.validate(result["structuredContent"])

        every()
        assert there.is_whole()
        assert schemas(there) == known


def test_rubbish_in_place_of_arguments_gets_a_typed_error(
    app: App, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world(app, workspace, monkeypatch) as there:
        known = schemas(there)
        calls = st.sampled_from(NAMES).flatmap(
            lambda name: st.fixed_dictionaries({"name": st.just(name), "arguments": rubbish(known[name], there.pools)})
        )

        @SAME_EACH_TIME
        @given(calls | rubbish({"properties": {"name": {}, "arguments": {}, "_meta": {}}}, there.pools), st.booleans())
        def every(params: Any, modern: bool) -> None:
            ask(there, params, modern=modern)

        every()
        assert there.is_whole()
        assert schemas(there) == known
