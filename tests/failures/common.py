"""Rows that every tool has: they are made from the table of tools, so a new tool has them too."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from model_trainer.tools import TOOLS
from model_trainer.tools.spec import ToolSpec

from .row import Row

#: Servers whose start failed (`conftest.py`): the code that every tool answers with, and words of the answer.
BROKEN = {
    "foreign_state": ("belongs to user 12345", "Set MODEL_TRAINER_STATE to a folder of your own"),
    "state_unwritable": ("$broken/a-file can't be used", "set MODEL_TRAINER_STATE"),
    "invalid_settings": ("'cpu_slot' is no setting; did you mean 'cpu_slots'?", "Ask the human to correct $broken"),
}


def common_rows() -> Iterator[Row]:
    """Wrong arguments, and a server that could not open its state folder."""
    for spec in TOOLS:
        name, needed = spec.name, _needed(spec)
        again = f"Correct this and call {name} again; it takes "
        unknown = {**needed, "no_such_argument": 1}
        yield Row(name, "an unknown argument", unknown, "invalid_arguments", "'no_such_argument' is unknown", again)
        for argument in list(_parameters(spec))[:1]:
            wrong = {**needed, argument: {"a": [1]}}
            yield Row(name, "a wrong type", wrong, "invalid_arguments", f"'{argument}' is wrong", again)
        for argument in needed:
            less = {other: value for other, value in needed.items() if other != argument}
            yield Row(name, f"no {argument}", less, "invalid_arguments", f"'{argument}' is required", again)
        for code, (says, then) in BROKEN.items():
            yield Row(name, f"a server with {code}", needed, code, says, then, server=code)


def _parameters(spec: ToolSpec) -> dict[str, inspect.Parameter]:
    parameters = dict(inspect.signature(spec.function).parameters)
    del parameters["ctx"]
    return parameters


def _needed(spec: ToolSpec) -> dict[str, Any]:
    """The arguments that must be given, with any value of their kind."""
    return {
        name: ["x"] if "list[" in str(parameter.annotation).partition("FieldInfo")[0] else "x"
        for name, parameter in _parameters(spec).items()
        if parameter.default is inspect.Parameter.empty
    }
