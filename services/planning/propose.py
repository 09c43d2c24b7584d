"""Three models that fit, where none is named: the largest that trains in reasonable time, and two smaller ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...executors.errors import PlanError
from .ask import Ask
from .model_info import ModelInfo
from .open_models import OpenModel, open_models, table_date
from .recommend import recommend
from .results import ModelChoice, PlanOption, PlanResult

#: Hours that a first fine-tuning may take where nobody set a limit.
_HOURS = {"gpu": 24.0, "cpu": 12.0}
#: How much larger a proposed model is than the next one.
_APART = 1.5


@dataclass(frozen=True)
class _Fit:
    model: OpenModel
    option: PlanOption


def propose_models(
    ask: Callable[[ModelInfo], Ask], dataset: str, data: str, hardware: str, warnings: list[str]
) -> PlanResult:
    """The proposal, as a result without a plan.

    Raises:
        PlanError: `nothing_fits`: not even the smallest model of the table does.
    """
    fits: list[_Fit] = []
    refused: PlanError | None = None
    for model in open_models():
        try:
            fits.append(_Fit(model, recommend(ask(model.info))[0]))
        except PlanError as error:
            refused = refused or error
    if not fits:
        raise refused or PlanError("nothing_fits", "The table of models is empty.", next_step="Name a model.")
    asked = ask(fits[0].model.info)
    limit = asked.max_hours or _HOURS[asked.machine.kind]
    quick = [fit for fit in fits if fit.option.hours.high <= limit]
    if len(quick) < 3:
        few = f"only {len(quick)}" if quick else "none"
        warnings = [*warnings, f"{few} of the table's models surely trains within {limit:g} hours here"]
    chosen = _pick(quick)
    chosen += [fit for fit in fits if fit not in chosen and not fit.model.gated][: 3 - len(chosen)]
    first = chosen[0].model.info
    return PlanResult(
        data=data,
        hardware=hardware,
        models=[_choice(fit) for fit in chosen],
        warnings=[*warnings, f"the table of models is of {table_date()}: newer ones exist, check the licence"],
        next_step=f"plan_training(dataset={dataset!r}, model={first.name!r}, revision={first.revision!r})",
    )


def _pick(fits: list[_Fit]) -> list[_Fit]:
    """The largest open one and two clearly smaller ones; gated ones only where nothing else is left."""
    ordered = sorted(fits, key=lambda fit: (fit.model.gated, -fit.model.info.parameters))
    chosen: list[_Fit] = []
    for fit in ordered:
        if all(_far(fit, other) for other in chosen) and len(chosen) < 3:
            chosen.append(fit)
    chosen += [fit for fit in ordered if fit not in chosen][: 3 - len(chosen)]
    return chosen


def _far(one: _Fit, other: _Fit) -> bool:
    sizes = sorted((one.model.info.parameters, other.model.info.parameters))
    return sizes[1] >= _APART * sizes[0]


def _choice(fit: _Fit) -> ModelChoice:
    info, option = fit.model.info, fit.option
    return ModelChoice(
        name=info.name,
        revision=info.revision or "main",
        license=info.license or "not stated",
        parameters=info.parameters,
        reason=fit.model.reason,
        technique=option.label,
        needed_gib=option.memory.needed,
        hours=option.hours,
        gated=fit.model.gated,
        cached=fit.model.cached,
    )
