"""What plan_training answers, and what is kept of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..configs.schema import Config
from ..result import Frozen, Result


class Reason(Frozen):
    text: str
    source: Annotated[str, Field(description="Where it comes from")]


class Memory(Frozen):
    """Peak of one training step, GiB by part."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    head: Annotated[float, Field(description="Output layer: tiles of logits, its gradient in the making")]
    overhead: Annotated[float, Field(description="Libraries, allocator gaps and safety margin")]
    needed: Annotated[float, Field(description="All of it: what must be free")]
    available: Annotated[float, Field(description="Free now")]
    phase: Annotated[str, Field(description="Part of the step in which the peak is")]


class Interval(Frozen):
    """Hours; never a point."""

    low: float
    high: float


class PlanOption(Frozen):
    label: Annotated[str, Field(description="Name of the option, for write_config(alternative=…)")]
    title: str
    config: Config
    memory: Memory
    hours: Interval
    effective_batch: Annotated[int, Field(description="Rows of data per optimizer step")]
    steps: Annotated[int, Field(description="Optimizer steps of the whole run")]
    tokens: Annotated[int, Field(description="Tokens trained on, without padding")]
    trained_parameters: int
    reasons: list[Reason]
    warnings: list[str] = []


class ModelChoice(Frozen):
    """A model that fits, where none was named."""

    name: str
    revision: str
    license: str
    parameters: int
    reason: str
    technique: str
    needed_gib: float
    hours: Interval
    gated: bool
    cached: Annotated[bool, Field(description="On this disk already")]


class PlanResult(Result):
    plan_id: Annotated[str | None, Field(description="For write_config; null when models are proposed")] = None
    data: Annotated[str, Field(description="The data in a line")]
    model: Annotated[str | None, Field(description="The model in a line")] = None
    hardware: str
    recommended: PlanOption | None = None
    alternatives: Annotated[list[PlanOption], Field(max_length=3)] = []
    models: Annotated[list[ModelChoice], Field(description="Three that fit, where no model was named")] = []
    warnings: list[str] = []

    def body(self) -> str:
        lines = [f"Plan {self.plan_id}" if self.plan_id else "No model named; these fit:"]
        lines += [f"Data: {self.data}"]
        lines += [f"Model: {self.model}"] if self.model else []
        lines += [f"Hardware: {self.hardware}"]
        lines += [f"Warning: {warning}" for warning in self.warnings[:8]]
        lines += [_choice(choice) for choice in self.models]
        if self.recommended is not None:
            options = [self.recommended, *self.alternatives]
            lines += _table(options)
            lines += _details(self.recommended)
            for option in self.alternatives:
                lines += [f"{option.label}: {warning}" for warning in option.warnings[:2]]
        return "\n".join(lines)


class TrainingPlan(Frozen):
    """What stands in plans/<id>.json."""

    version: int = 1
    id: str
    created: str
    data: str
    model: str
    hardware: str
    recommended: PlanOption
    alternatives: list[PlanOption] = []
    warnings: list[str] = []

    @property
    def config(self) -> Config:
        """The recommended option's config."""
        return self.recommended.config


def hours_text(hours: Interval) -> str:
    """`10 to 50 min`, `1.2 to 3.4 h` or `2.0 to 9.0 days`."""
    for limit, unit, scale in ((1.0, "min", 60.0), (48.0, "h", 1.0)):
        if hours.high <= limit:
            return f"{_short(hours.low * scale)} to {_short(hours.high * scale)} {unit}"
    return f"{_short(hours.low / 24)} to {_short(hours.high / 24)} days"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def _table(options: list[PlanOption]) -> list[str]:
    lines = ["option | batch x accumulation | length | memory needed of free | time | steps"]
    for number, option in enumerate(options):
        training, memory = option.config.training, option.memory
        batch = f"{training['per_device_train_batch_size']} x {training['gradient_accumulation_steps']}"
        packed = " packed" if training.get("packing") else ""
        mark = " (recommended)" if number == 0 else ""
        lines.append(
            f"{option.label}{mark} | {batch}{packed} | {training['max_length']} | "
            f"{memory.needed:.1f} of {memory.available:.1f} GiB | {hours_text(option.hours)} | {option.steps:,}"
        )
    return lines


def _details(option: PlanOption) -> list[str]:
    m = option.memory
    parts = (("weights", m.weights), ("gradients", m.gradients), ("optimizer", m.optimizer))
    parts += (("activations", m.activations), ("head", m.head), ("overhead", m.overhead))
    told = ", ".join(f"{name} {value:.2f}" for name, value in parts if value >= 0.005)
    lines = [f"{option.label}: {option.title}; {option.trained_parameters:,} trained parameters"]
    lines.append(f"Peak memory (GiB): {told}; reached in phase {m.phase}")
    keys = ", ".join(f"{name} {_value(value)}" for name, value in option.config.training.items())
    lines.append(f"Effective batch {option.effective_batch} rows, {option.tokens:,} tokens. training: {keys}")
    lines += [f"- {reason.text} [{reason.source}]" for reason in option.reasons[:10]]
    lines += [f"Warning: {warning}" for warning in option.warnings[:6]]
    return lines


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _choice(choice: ModelChoice) -> str:
    where = "; in your cache" if choice.cached else "; gated, access on request" if choice.gated else ""
    return (
        f"- {choice.name} @ {choice.revision[:12]}, licence {choice.license}, {choice.parameters / 1e9:.2f} billion "
        f"parameters: {choice.reason}. {choice.technique} needs {choice.needed_gib:.1f} GiB, "
        f"{hours_text(choice.hours)}{where}"
    )
