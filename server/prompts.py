"""The guided workflows as MCP prompts: text files of the `prompts` package with `{{placeholders}}`."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mcp.server.mcpserver.prompts import Prompt
from mcp.server.mcpserver.prompts.base import PromptArgument

from .. import prompts as texts
from ..executors.errors import ArgumentError, ConfigError
from ..trainer.contract import METHODS, available_methods

if TYPE_CHECKING:
    from .app import ModelTrainerServer

#: An argument is a name, a path or a sentence.
_LONGEST = 2000
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
#: Methods that learn from preferences or rewards.
_ALIGNING = ("dpo", "kto", "orpo", "cpo", "reward", "grpo", "rloo", "ppo")


@dataclass(frozen=True)
class Argument:
    """One argument of a prompt; `otherwise` stands in the text where it isn't given, None makes it required."""

    name: str
    description: str
    otherwise: str | None = None
    choices: tuple[str, ...] | Literal["run_ids"] = ()


@dataclass(frozen=True)
class Workflow:
    """One prompt; its text is `<name>.md`."""

    name: str
    title: str
    description: str
    arguments: tuple[Argument, ...]


_MODEL = Argument("model", "Hub id or folder of the model", "none named yet; plan_training proposes some that fit")
_RUN = Argument("run_id", "The run", choices="run_ids")

WORKFLOWS: dict[str, Workflow] = {
    workflow.name: workflow
    for workflow in (
        Workflow(
            "fine_tune",
            "Fine-tune a model",
            "From data to a running fine-tuning, step by step, with the user's yes where it matters.",
            (
                Argument("data", "File, folder, glob or Hub id of the training data"),
                _MODEL,
                Argument("goal", "What the model should be better at", "not said; ask if the data leave it open"),
                Argument("method", "Training method", "sft", tuple(available_methods())),
            ),
        ),
        Workflow(
            "align",
            "Align a model",
            "Preference and reward training: what this version can prepare, and what it can't train yet.",
            (
                Argument("data", "File, folder, glob or Hub id of the preference or prompt data"),
                _MODEL,
                Argument("method", "Alignment method", "the one that fits the data", _ALIGNING),
            ),
        ),
        Workflow(
            "diagnose_run",
            "Find out what is wrong with a run",
            "Reads a run's state, curve and config, and names the likely cause and the next step.",
            (_RUN, Argument("symptom", "What the user noticed", "none named", ())),
        ),
        Workflow(
            "publish",
            "Publish a result",
            "What to check before a model is published, and what this version leaves to the user.",
            (_RUN, Argument("target", "Where it should be published, as namespace/name", "not named yet")),
        ),
    )
}


def register(server: ModelTrainerServer) -> None:
    """Add the prompts to the server."""
    for workflow in WORKFLOWS.values():
        server.add_prompt(
            Prompt(
                name=workflow.name,
                title=workflow.title,
                description=workflow.description,
                arguments=[
                    PromptArgument(name=one.name, description=one.description, required=one.otherwise is None)
                    for one in workflow.arguments
                ],
                fn=_renderer(workflow),
                context_kwarg=None,
            )
        )


def check(name: str, arguments: Mapping[str, str]) -> None:
    """Refuse what can't be rendered.

    Raises:
        ArgumentError: there is no such prompt, or its arguments don't fit.
        ConfigError: the method is none that we know.
    """
    workflow = WORKFLOWS.get(name)
    if workflow is None:
        raise ArgumentError(
            "invalid_arguments",
            f"There is no prompt {name[:80]!r}{_nearest(name, WORKFLOWS)}.",
            next_step=f"The prompts are {', '.join(WORKFLOWS)}.",
        )
    known = {one.name: one for one in workflow.arguments}
    problems = [f"{given[:80]!r} is unknown{_nearest(given, known)}" for given in arguments if given not in known]
    problems += [
        f"{one.name!r} is required" for one in known.values() if one.otherwise is None and not arguments.get(one.name)
    ]
    problems += [
        f"{given!r} is longer than {_LONGEST} characters"
        for given, value in arguments.items()
        if given in known and len(value) > _LONGEST
    ]
    if problems:
        raise ArgumentError(
            "invalid_arguments",
            f"{name}: {'; '.join(problems[:5])}.",
            next_step=f"Get the prompt {name} again; it takes {', '.join(known)}.",
        )
    method = arguments.get("method")
    if method and method not in METHODS:
        raise ConfigError(
            "unknown_method",
            f"There is no method {method[:80]!r}{_nearest(method, METHODS)}.",
            next_step=f"Get the prompt {name} again with one of {', '.join(METHODS)}.",
        )


def choices(name: str, argument: str) -> Sequence[str]:
    """What an argument of a prompt can be completed to; `run_ids` stands for all runs."""
    workflow = WORKFLOWS.get(name)
    found = next((one for one in workflow.arguments if one.name == argument), None) if workflow else None
    return found.choices if found is not None else ()


def text_of(name: str) -> str:
    """A prompt's text file as it is."""
    return Path(texts.__file__).with_name(f"{name}.md").read_text(encoding="utf-8")


def render(workflow: Workflow, arguments: Mapping[str, str]) -> str:
    """The text with the arguments in place; what stands in an argument is never replaced itself."""
    values = {one.name: arguments.get(one.name) or one.otherwise or "" for one in workflow.arguments}
    return _PLACEHOLDER.sub(lambda match: values[match.group(1)], text_of(workflow.name))


def _renderer(workflow: Workflow) -> Callable[..., Awaitable[str]]:
    async def rendered(**arguments: str) -> str:
        return render(workflow, arguments)

    return rendered


def _nearest(given: str, valid: Mapping[str, object]) -> str:
    near = get_close_matches(given, list(valid), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""
