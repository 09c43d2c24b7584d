"""Plan a fine-tuning: look at data, model and hardware, and decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
import anyio.to_thread

from ...executors.errors import ConfigError, EnvironmentFault
from ...executors.host import now
from ...trainer.contract import METHODS, available_methods
from ...trainer.scan_files import format_of
from ..app import App, Progress, no_progress
from ..configs import loading as configs
from ..configs.schema import Config, Dataset, EvalDataset, Model, Turns
from ..data.inspection import InspectRequest, InspectResult, inspect
from ..environment.environments import look_for_environment
from ..environment.hardware import Hardware, look_at_hardware
from .ask import Ask, Goal
from .data_checks import Data, check_data, method_for
from .machine import Machine, choose_machine
from .model_info import ModelInfo, check_method, read_model
from .propose import propose_models
from .recommend import recommend
from .results import PlanResult, TrainingPlan
from .store import mint_plan_id, save_plan

#: How long the look at the data may take before lengths are guessed instead.
_DATA_SECONDS = 38.0


@dataclass(frozen=True)
class PlanRequest:
    """What to plan for."""

    dataset: str
    """File, folder, glob or Hub id."""
    model: str | None = None
    revision: str | None = None
    method: str = "auto"
    goal: Goal = "balanced"
    gpus: int | None = None
    """0: the CPU; None: a GPU where there is one."""
    max_hours: float | None = None
    split: str | None = None
    columns: Mapping[str, str | list[str]] | None = None
    turns: Turns | None = None
    eval_dataset: str | None = None


async def plan(app: App, request: PlanRequest, *, progress: Progress = no_progress) -> PlanResult:
    """The plan, kept under its id; or three models that fit, where none is named.

    Raises:
        ArgumentError: a relative path without a workspace.
        DataError: the data can't be trained on as they are.
        ModelError: the model can't be used.
        ConfigError: no such method, or none of this version's fits the data.
        PlanError: nothing fits the hardware.
        LimitError: the data are still being read, as a run.
        EnvironmentFault: the Hub can't be reached.
    """
    _check_method_name(request)
    entry, eval_entry = _entries(app, request)
    model = None
    if request.model is not None:
        await progress(0, 3, f"reading {request.model}")
        model = await anyio.to_thread.run_sync(read_model, app, request.model, request.revision)
    await progress(1, 3, f"inspecting {request.dataset}")
    found = await _inspect(app, request, model, entry.path, progress)
    method = method_for(request.method, found, request.dataset)
    data = check_data(found, method, request.dataset)
    # What was looked at is what will be trained on: a Hub dataset moves on.
    entry = entry.model_copy(update={"revision": found.revision})
    if model is not None:
        check_method(model, method)
    if request.eval_dataset is not None:
        held_out = await inspect(
            app, replace(_inspection(request, None, request.eval_dataset), split=None), progress=progress
        )
        data = replace(data, eval_rows=check_data(held_out, method, request.eval_dataset).rows)
        eval_entry = eval_entry.model_copy(update={"revision": held_out.revision}) if eval_entry is not None else None
    await progress(2, 3, "planning")
    hardware = await anyio.to_thread.run_sync(look_at_hardware, app.home)
    warnings = list(data.warnings)
    quantization = await anyio.to_thread.run_sync(_quantization, app, warnings)
    machine = choose_machine(hardware, request.gpus)
    if not machine.known:
        warnings.append(f"{machine.name} is not in the table of GPUs: its speed, and so the time, is a wide guess")
    if len(hardware.gpus) > 1 and machine.kind == "gpu":
        warnings.append(f"one of {len(hardware.gpus)} GPUs is planned for; this version trains on one")

    def ask(info: ModelInfo) -> Ask:
        return Ask(
            model=info,
            machine=machine,
            rows=data.rows,
            lengths=data.lengths,
            dataset=entry,
            method=method,
            goal=request.goal,
            max_hours=request.max_hours,
            eval_dataset=eval_entry,
            eval_rows=data.eval_rows,
            quantization=quantization,
            disk_free_gib=hardware.disk_free_gib,
        )

    if model is None:
        line = _hardware_line(hardware, machine)
        return await anyio.to_thread.run_sync(propose_models, ask, request.dataset, data.line, line, warnings)
    return await anyio.to_thread.run_sync(_keep, app, ask(model), data, _hardware_line(hardware, machine), warnings)


def _keep(app: App, ask: Ask, data: Data, hardware: str, warnings: list[str]) -> PlanResult:
    model = ask.model
    warnings = [*warnings, *model.warnings]
    if data.conversational and model.chat_template is False:
        warnings.append("the rows are chats and the tokenizer has no chat template: give one as model.chat_template")
    options = recommend(ask)
    kept = TrainingPlan(
        id=mint_plan_id(),
        created=now(),
        data=data.line,
        model=_model_line(model),
        hardware=hardware,
        recommended=options[0],
        alternatives=options[1:],
        warnings=warnings,
    )
    save_plan(app.home, kept)
    return PlanResult(
        plan_id=kept.id,
        data=kept.data,
        model=kept.model,
        hardware=hardware,
        recommended=kept.recommended,
        alternatives=kept.alternatives,
        warnings=warnings,
        next_step=f"write_config(path='config.yaml', plan={kept.id!r}) writes the recommended one; alternative= takes "
        "another.",
    )


def _check_method_name(request: PlanRequest) -> None:
    if request.method == "auto":
        return
    known = METHODS.get(request.method)
    trained = ", ".join(available_methods())
    if known is None:
        raise ConfigError(
            "unknown_method",
            f"There is no method {request.method[:60]!r}; methods are {', '.join(METHODS)}, and this version trains "
            f"{trained}.",
            next_step=f"plan_training(dataset={request.dataset!r}) finds the method from the data.",
        )
    if known.module is None:
        raise ConfigError(
            "method_unavailable",
            f"{known.name} ({known.title}) is not in this version yet; it trains {trained}.",
            next_step=f"plan_training(dataset={request.dataset!r}, method={available_methods()[0]!r})",
        )


def _entries(app: App, request: PlanRequest) -> tuple[Dataset, EvalDataset | None]:
    """The config's entries, with absolute paths."""
    columns = dict(request.columns) if request.columns is not None else None
    held_out = None
    if request.eval_dataset is not None:
        held_out = EvalDataset(path=request.eval_dataset, columns=columns, turns=request.turns)
    draft = Config(
        model=Model(name="none/none"),
        datasets=[Dataset(path=request.dataset, split=request.split, columns=columns, turns=request.turns)],
        eval_dataset=held_out,
    )
    absolute = configs.absolute_config(draft, _base(app, request))
    return absolute.datasets[0], absolute.eval_dataset


def _base(app: App, request: PlanRequest) -> Path:
    """The folder that relative paths count from; refuses them where there is none."""
    if app.workspace is not None:
        return app.workspace
    for path in (request.dataset, request.eval_dataset):
        if path is not None and not (configs.is_hub_id(path) and format_of(path) is None):
            app.resolve(path)
    return Path("/")


async def _inspect(
    app: App, request: PlanRequest, model: ModelInfo | None, path: str, progress: Progress
) -> InspectResult:
    """What the data are, with token lengths where the model's tokenizer tells them in time."""
    name = model.name if model is not None else None
    with anyio.move_on_after(_DATA_SECONDS):
        return await inspect(app, _inspection(request, name, path), progress=progress)
    return await inspect(app, _inspection(request, None, path), progress=progress)


def _inspection(request: PlanRequest, model: str | None, path: str) -> InspectRequest:
    columns = dict(request.columns) if request.columns is not None else None
    return InspectRequest(path=path, split=request.split, model=model, columns=columns, turns=request.turns)


def _quantization(app: App, warnings: list[str]) -> bool:
    """Whether QLoRA may be planned; says what the training environment lacks."""
    try:
        environment = look_for_environment(app)
    except EnvironmentFault as error:
        warnings.append(error.message)
        return True
    if environment is None:
        warnings.append("no training environment is installed yet: `model-trainer setup` makes one")
        return True
    if environment.missing:
        warnings.append(f"the training environment lacks {', '.join(environment.missing)}: `model-trainer setup`")
    return "bitsandbytes" in environment.versions


def _model_line(model: ModelInfo) -> str:
    at = f" @ {model.revision[:12]}" if model.revision else ""
    told = f"{model.name}{at}, {model.shape.family}, {model.parameters / 1e6:,.1f} million parameters"
    counted = "counted in the weights" if model.parameters_from == "weights" else "counted from config.json"
    where = {"folder": "a folder", "cache": "in the local cache", "hub": "on the Hub, not downloaded yet"}[model.source]
    return f"{told} ({counted}), licence {model.license or 'not stated'}, {where}"


def _hardware_line(hardware: Hardware, machine: Machine) -> str:
    line = f"{machine.name}, {machine.free_gib:.1f} of {machine.total_gib:.1f} GiB {machine.memory} free"
    return f"{line}; {hardware.disk_free_gib:.0f} GiB of disk free"
