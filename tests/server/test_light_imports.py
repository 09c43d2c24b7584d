"""The server stays light: after every tool was called, what trains is not loaded in its process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from server_processes import Child

from model_trainer.tools import TOOLS

HEAVY = {"torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes", "pandas", "pyarrow", "numpy"}

#: Costly modules that a start has no use for; the tool that needs one loads it.
LAZY = {"huggingface_hub", "psutil", "pynvml", "tokenizers", "yaml", "requests"}

SERVER = """
import sys
from mcp.server.mcpserver import Context
from model_trainer.server.stdio import serve
from model_trainer.tools import TOOLS
from model_trainer.tools.spec import ToolSpec
from server_toys import Told

async def loaded(ctx: Context) -> Told:
    "Top-level modules of this process."
    return Told(told=" ".join(sorted({name.partition(".")[0] for name in sys.modules})), next_step="none")

serve(None, (*TOOLS, ToolSpec(loaded, "Loaded")))
"""


def call(child: Child, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    child.request("tools/call", {"name": name, "arguments": arguments})
    while "id" not in (answer := child.receive()):
        pass
    return answer["result"]


def loaded(child: Child) -> set[str]:
    return set(call(child, "loaded", {})["structuredContent"]["told"].split())


def test_after_each_tool_was_called_nothing_that_trains_is_loaded(
    fork_python: Path, pairs: Path, tiny_model: Path, tmp_path: Path
) -> None:
    config = tmp_path / "run.yaml"
    arguments: dict[str, dict[str, Any]] = {
        "check_environment": {},
        "inspect_dataset": {"path": str(pairs), "model": str(tiny_model), "method": "sft"},
        "plan_training": {"dataset": str(pairs), "model": str(tiny_model)},
        "write_config": {"path": str(config), "overrides": {"training": {"max_steps": 1}}},
        "launch_run": {"config": str(config)},
        "get_run": {"wait_seconds": 45},
        "list_runs": {},
        "tail_metrics": {},
        "tail_logs": {},
        "plot_metrics": {},
        "sample_model": {"prompts": ["def f():"], "max_new_tokens": 2},
        "stop_run": {},
        "resume_run": {"max_steps": 2},
        "push_adapter": {"destination": "/nowhere/x", "dry_run": True},
    }
    assert set(arguments) == {spec.name for spec in TOOLS}
    with Child(SERVER, environment={"MODEL_TRAINER_PYTHON": str(fork_python)}) as child:
        child.handshake()
        for name, given in arguments.items():
            result = call(child, name, given)
            assert not result.get("isError"), json.dumps(result["structuredContent"])
            assert not loaded(child) & HEAVY, f"loaded after {name}"
            answer: dict[str, Any] = result.get("structuredContent") or {}
            if name == "plan_training":
                arguments["write_config"]["plan"] = answer["plan_id"]
            if name == "launch_run":
                for other in (
                    "get_run",
                    "tail_metrics",
                    "tail_logs",
                    "sample_model",
                    "stop_run",
                    "resume_run",
                    "push_adapter",
                ):
                    arguments[other]["run_id"] = answer["run_id"]
                arguments["plot_metrics"]["run_ids"] = [answer["run_id"]]
            if name == "resume_run":
                call(child, "get_run", {"run_id": answer["run_id"], "wait_seconds": 45})


@pytest.mark.parametrize("modern", [False, True])
def test_listing_the_tools_loads_nothing_that_only_some_of_them_need(modern: bool) -> None:
    with Child(SERVER) as child:
        if not modern:
            child.handshake()
        child.ask("tools/list", modern=modern)
        child.handshake()
        assert not loaded(child) & (HEAVY | LAZY)
