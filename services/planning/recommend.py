"""The recommended plan and its alternatives: pure decisions over a model, a machine and the data's numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

from ...executors.errors import PlanError
from ..configs.schema import Config, EvalDataset, Model, Resources
from .ask import SMALL, Ask, learning_rate
from .explain import explain, warn
from .machine import gpus_with
from .memory import GIB
from .results import Interval, Memory, PlanOption
from .variants import Job, Variant, Worked, longest_that_fits, variants_for, work_out

#: How often a run is shortened until it ends within max_hours.
_SHORTENINGS = 8

_ORDERS: dict[str, tuple[str, ...]] = {
    "quality": ("full", "lora", "full-bf16", "lora-bf16", "qlora"),
    "balanced": ("lora", "lora-bf16", "qlora", "full", "full-bf16"),
    "balanced small": ("full", "lora", "full-bf16", "lora-bf16", "qlora"),
}


def recommend(ask: Ask) -> list[PlanOption]:
    """Options that fit, the recommended one first, at most four.

    Raises:
        PlanError: `nothing_fits`, with what is missing and what would fit.
    """
    worked = work_out_all(ask)
    fitting = [one for one in worked if one.fits]
    if not fitting:
        raise _nothing_fits(ask, worked)
    if ask.machine.kind == "cpu" and ask.goal != "memory":
        # bfloat16 and nf4 are slow on a CPU; they are for what doesn't fit otherwise.
        fitting = [one for one in fitting if one.variant.dtype == "float32"] or fitting
    fitting.sort(key=lambda one: _rank(ask, one))
    return [_option(ask, one, first=number == 0) for number, one in enumerate(fitting[:4])]


def _rank(ask: Ask, worked: Worked) -> tuple[float, ...]:
    """Smaller is better."""
    late = float(ask.max_hours is not None and worked.hours.high > ask.max_hours)
    if ask.goal == "memory":
        return late, worked.needed_gib
    if ask.goal == "speed":
        return late, worked.hours.high
    small = ask.goal == "balanced" and ask.model.parameters <= SMALL
    order = _ORDERS["balanced small" if small else ask.goal]
    return late, float(order.index(worked.variant.label))


def work_out_all(ask: Ask) -> list[Worked]:
    """Each variant on the machine, fitting or not."""
    found: list[Worked] = []
    job, lean = job_of(ask), ask.goal == "memory"
    for variant in variants_for(ask.machine, quantization=ask.quantization):
        worked = work_out(ask.model, variant, ask.machine, job, lean=lean)
        for _ in range(_SHORTENINGS):
            if ask.max_hours is None or worked.hours.high <= ask.max_hours:
                break
            shorter = _shortened(job, worked, ask.max_hours)
            if shorter.epochs >= worked.epochs:
                break
            worked = work_out(ask.model, variant, ask.machine, shorter, lean=lean)
        found.append(worked)
    return found


def job_of(ask: Ask) -> Job:
    """Rows to train on, rows held out, and epochs."""
    held_out = ask.eval_rows or 0
    fraction = eval_fraction(ask.rows) if ask.eval_dataset is None else None
    if fraction is not None:
        held_out = max(1, round(ask.rows * fraction))
    rows = ask.rows - (held_out if fraction is not None else 0)
    return Job(rows=rows, eval_rows=held_out, lengths=ask.lengths, epochs=epochs_for(ask.rows))


def epochs_for(rows: int) -> float:
    """How often to go over the data: small data more often."""
    return 3.0 if rows <= 1000 else 2.0 if rows <= 10_000 else 1.0


def eval_fraction(rows: int) -> float | None:
    """The part to hold out: 10 % of little data, at most 2,000 rows of much; None where too few would be left."""
    if rows < 50:
        return None
    return 0.1 if rows < 1000 else round(min(0.05, 2000 / rows), 4) or 0.0001


def _shortened(job: Job, worked: Worked, max_hours: float) -> Job:
    """The job with fewer epochs, so that it ends in time; starting and evaluating don't shrink with it."""
    epochs = math.floor(worked.epochs * max_hours / worked.hours.high * 0.97 * 100) / 100
    return replace(job, epochs=max(0.05, epochs))


def _option(ask: Ask, worked: Worked, *, first: bool) -> PlanOption:
    job = job_of(ask)
    parts, margin = worked.peak.parts, worked.needed_gib - worked.peak.total / GIB
    return PlanOption(
        label=worked.variant.label,
        title=worked.variant.title,
        config=_config(ask, worked, held_out=job.eval_rows > 0),
        memory=Memory(
            weights=_gib(parts.weights),
            gradients=_gib(parts.gradients),
            optimizer=_gib(parts.optimizer),
            activations=_gib(parts.activations),
            head=_gib(parts.head),
            overhead=round(margin, 3),
            needed=round(worked.needed_gib, 3),
            available=ask.machine.free_gib,
            phase=worked.peak.phase,
        ),
        hours=Interval(low=round(worked.hours.low, 4), high=round(worked.hours.high, 4)),
        effective_batch=worked.rows_per_update,
        steps=worked.updates,
        tokens=worked.tokens,
        trained_parameters=worked.peak.trained,
        reasons=explain(ask, worked) if first else explain(ask, worked)[:1],
        warnings=warn(ask, worked, wanted=job.epochs),
    )


def _config(ask: Ask, worked: Worked, *, held_out: bool) -> Config:
    variant, model = worked.variant, ask.model
    training: dict[str, Any] = {
        "learning_rate": learning_rate(ask.method, variant.technique, model.parameters),
        "num_train_epochs": int(worked.epochs) if worked.epochs.is_integer() else worked.epochs,
        "per_device_train_batch_size": worked.step.batch,
        "gradient_accumulation_steps": worked.accumulation,
        "max_length": worked.max_length,
        "packing": worked.packing,
        "gradient_checkpointing": worked.step.checkpointing,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.05,
        "logging_steps": max(1, min(10, worked.updates // 20)),
        "save_strategy": "steps",
        "save_steps": worked.eval_every,
    }
    if ask.machine.kind == "gpu" and variant.dtype == "float32":
        training["bf16" if variant.bf16 else "fp16"] = True
    if held_out:
        training |= {
            "eval_strategy": "steps",
            "eval_steps": worked.eval_every,
            "per_device_eval_batch_size": worked.step.batch,
        }
    peft = None
    if variant.technique != "full":
        peft = {"type": "lora", "r": worked.step.rank, "lora_alpha": 32, "target_modules": "all-linear"}
    fraction = eval_fraction(ask.rows)
    held = ask.eval_dataset or (EvalDataset(fraction=fraction) if fraction is not None else None)
    # Twice the interval's end: a deadline catches a hung run, not a slow one.
    deadline = ask.max_hours or min(720.0, max(1.0, math.ceil(2 * worked.hours.high)))
    return Config.model_validate(
        {
            "method": ask.method,
            "model": Model(name=model.name, revision=model.revision, dtype=_dtype(variant)).model_dump(),
            "datasets": [ask.dataset.model_dump()],
            "eval_dataset": held.model_dump() if held is not None else None,
            "peft": peft,
            "quantization": "nf4" if variant.technique == "qlora" else None,
            "training": training,
            "resources": Resources(gpus=int(ask.machine.kind == "gpu"), max_hours=deadline).model_dump(),
        }
    )


def _dtype(variant: Variant) -> Literal["bfloat16", "float32", "float16"]:
    return "float32" if variant.dtype == "float32" else "float16" if variant.dtype == "float16" else "bfloat16"


def _nothing_fits(ask: Ask, worked: list[Worked]) -> PlanError:
    least = min(worked, key=lambda one: one.needed_gib)
    machine = ask.machine
    message = (
        f"{ask.model.name} ({ask.model.parameters / 1e9:.2f} billion parameters) fits in no way: the leanest, "
        f"{least.variant.label} with batch {least.step.batch} and length {least.max_length}, needs "
        f"{least.needed_gib:.1f} GiB of {machine.memory}, and {machine.free_gib:.1f} of {machine.total_gib:.1f} GiB "
        f"are free on {machine.name}."
    )
    would: list[str] = []
    if least.needed_gib <= machine.total_gib:
        would.append("it would fit if nothing else used that memory")
    shorter = longest_that_fits(ask.model, least.variant, machine, least.max_length)
    if shorter is not None:
        would.append(f"rows of at most {shorter} tokens would fit")
    peak = least.peak.total / GIB
    cards = gpus_with(peak * 1.11 + 0.5)
    if cards:
        would.append("a GPU would do: " + ", ".join(f"{name} ({gib:.0f} GiB)" for name, gib in cards[:3]))
    if would:
        told = "; ".join(would)
        message += f" {told[0].upper()}{told[1:]}."
    return PlanError(
        "nothing_fits",
        message,
        next_step=f"plan_training(dataset={ask.dataset.path!r}) without model proposes three that fit here.",
    )


def _gib(size: float) -> float:
    return round(size / GIB, 3)
