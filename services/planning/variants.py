"""The ways to train a model on a machine, each worked out: batch, length, memory, time, whether it fits."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from .lengths import Lengths, choose_max_length
from .machine import Machine
from .memory import GIB, Peak, Step, Technique, estimate_peak
from .model_info import ModelInfo
from .timing import Hours, estimate_hours

#: Padding beyond this share of a batch is worth packing away.
_PACKING_FROM = 0.25
#: Fewer packed rows than this would leave too few optimizer steps.
_PACKED_ROWS_FROM = 64
_LARGEST_BATCH = 64
#: Tokens of a micro-batch beyond which larger ones are no faster.
_BUSY_TOKENS = {"gpu": 8192, "cpu": 1024}
#: Times this close are no difference.
_ALIKE = 1.04


@dataclass(frozen=True)
class Variant:
    """A way to train."""

    label: str
    title: str
    technique: Technique
    dtype: str
    """Of the weights in memory."""
    bf16: bool = False
    fp16: bool = False
    """Autocast."""

    @property
    def weight_bytes(self) -> int:
        return 4 if self.dtype == "float32" else 2


def variants_for(machine: Machine, *, quantization: bool) -> list[Variant]:
    """What can be tried on `machine`; `quantization` says that bitsandbytes may be used."""
    if machine.kind == "cpu":
        found = [
            Variant("full", "all weights, in float32", "full", "float32"),
            Variant("lora", "LoRA adapters on float32 weights", "lora", "float32"),
            Variant("lora-bf16", "LoRA adapters on bfloat16 weights", "lora", "bfloat16", bf16=True),
        ]
        dtype = "bfloat16"
    elif machine.bfloat16:
        found = [
            Variant("full", "all weights, in float32 with bfloat16 autocast", "full", "float32", bf16=True),
            Variant("full-bf16", "all weights, in bfloat16 throughout", "full", "bfloat16", bf16=True),
            Variant("lora", "LoRA adapters on bfloat16 weights", "lora", "bfloat16", bf16=True),
        ]
        dtype = "bfloat16"
    else:
        found = [
            Variant("full", "all weights, in float32 with float16 autocast", "full", "float32", fp16=True),
            Variant("lora", "LoRA adapters on float16 weights", "lora", "float16", fp16=True),
        ]
        dtype = "float16"
    if quantization:
        title = "QLoRA: adapters on 4-bit (nf4) weights"
        found.append(Variant("qlora", title, "qlora", dtype, bf16=dtype == "bfloat16", fp16=dtype == "float16"))
    return found


@dataclass(frozen=True)
class Job:
    """What is to be trained on, and for how long."""

    rows: int
    """Rows that are trained on, without those held out."""
    eval_rows: int
    lengths: Lengths
    epochs: float


@dataclass(frozen=True)
class Worked:
    """A variant with everything decided."""

    variant: Variant
    step: Step
    peak: Peak
    needed_gib: float
    fits: bool
    hours: Hours
    max_length: int
    packing: bool
    padding: float
    """Share of padding in a batch of unpacked rows."""
    accumulation: int
    rows_per_update: int
    updates: int
    eval_every: int
    tokens: int
    """Trained on over the whole run."""
    epochs: float


def work_out(model: ModelInfo, variant: Variant, machine: Machine, job: Job, *, lean: bool = False) -> Worked:
    """The fastest form of `variant` that fits; the leanest one where none does, or where `lean`."""
    forms = [
        _form(model, variant, machine, job, batch, checkpointing=checkpointing)
        for checkpointing in (False, True)
        for batch in _batches(model, job)
    ]
    fitting = [form for form in forms if form.fits]
    if fitting and not lean:
        # The roofline doesn't see what larger batches spare; where it sees no difference they are faster, up to a size.
        enough = _BUSY_TOKENS[machine.kind]
        fastest = min(form.hours.high for form in fitting)
        alike = [form for form in fitting if form.hours.high <= _ALIKE * fastest]
        return max(
            alike,
            key=lambda form: (
                min(enough, form.step.batch * form.max_length),
                not form.step.checkpointing,
                -form.needed_gib,
            ),
        )
    return min(forms, key=lambda form: form.needed_gib)


def rows_per_update(rows: int) -> int:
    """How many rows an optimizer step should see: more data, larger batches."""
    return next(size for limit, size in ((500, 8), (5000, 16), (50_000, 32), (math.inf, 64)) if rows < limit)


def longest_that_fits(model: ModelInfo, variant: Variant, machine: Machine, length: int) -> int | None:
    """The longest max_length of at most `length` with which a batch of one row fits; None where not even 64 does."""
    for tried in range(length // 64 * 64, 0, -64):
        step = _step(model, variant, batch=1, length=tried, checkpointing=True, accumulation=2, padded=False)
        if machine.needed_gib(estimate_peak(step).total / GIB) <= machine.free_gib:
            return tried
    return None


def _batches(model: ModelInfo, job: Job) -> Iterable[int]:
    packing, _, max_length = _packing(model, job)
    wanted = _sequences_per_update(job, max_length, packing=packing)
    batch = 1
    while batch <= min(wanted, _LARGEST_BATCH):
        yield batch
        batch *= 2


def _packing(model: ModelInfo, job: Job) -> tuple[bool, float, int]:
    """Whether to pack, the padding that it saves, and the length that rows are cut at or packed to."""
    max_length = choose_max_length(job.lengths, model.shape.positions)
    padding = job.lengths.padding(min(8, rows_per_update(job.rows)), max_length)
    packed_rows = job.rows * job.lengths.mean_cut(max_length) / max_length
    packs = model.shape.rotary and padding > _PACKING_FROM and packed_rows >= _PACKED_ROWS_FROM
    return packs, padding, max_length


def _sequences_per_update(job: Job, max_length: int, *, packing: bool) -> int:
    wanted = rows_per_update(job.rows)
    if not packing:
        return wanted
    return max(1, round(wanted * job.lengths.mean_cut(max_length) / max_length))


def _form(model: ModelInfo, variant: Variant, machine: Machine, job: Job, batch: int, *, checkpointing: bool) -> Worked:
    packing, padding, max_length = _packing(model, job)
    accumulation = -(-_sequences_per_update(job, max_length, packing=packing) // batch)
    mean = job.lengths.mean_cut(max_length)
    sequences = math.ceil(job.rows * mean / max_length) if packing else job.rows
    width = float(max_length) if packing else job.lengths.longest_of(batch, max_length)
    # Packed rows and rows of different length both bring a mask, and with it dearer attention.
    step = _step(
        model,
        variant,
        batch=batch,
        length=max_length,
        checkpointing=checkpointing,
        accumulation=accumulation,
        padded=packing or batch > 1,
    )
    peak = estimate_peak(step)
    needed = machine.needed_gib(peak.total / GIB)
    updates = max(1, math.ceil(math.ceil(sequences / (batch * accumulation)) * job.epochs))
    eval_every = max(1, math.ceil(updates / 5))
    evaluations = (math.ceil(updates / eval_every) + 1) if job.eval_rows else 0
    typical = _step(
        model, variant, batch=batch, length=max(1, round(width)), checkpointing=checkpointing, accumulation=accumulation
    )
    hours = estimate_hours(
        typical,
        machine,
        tokens=sequences * width * job.epochs,
        updates=updates,
        evaluated=job.eval_rows * job.lengths.longest_of(8, max_length) * evaluations,
        spread=(0.95, 1.1) if job.lengths.measured else (0.5, 2.0),
    )
    return Worked(
        variant=variant,
        step=step,
        peak=peak,
        needed_gib=needed,
        fits=needed <= machine.free_gib,
        hours=hours,
        max_length=max_length,
        packing=packing,
        padding=padding,
        accumulation=accumulation,
        rows_per_update=max(1, round(batch * accumulation * (max_length / mean if packing else 1))),
        updates=updates,
        eval_every=eval_every,
        tokens=round(job.rows * mean * job.epochs),
        epochs=job.epochs,
    )


def _step(
    model: ModelInfo,
    variant: Variant,
    *,
    batch: int,
    length: int,
    checkpointing: bool,
    accumulation: int,
    padded: bool = False,
) -> Step:
    return Step(
        shape=model.shape,
        technique=variant.technique,
        batch=batch,
        length=length,
        weight_bytes=variant.weight_bytes,
        autocast=variant.bf16 or variant.fp16,
        checkpointing=checkpointing,
        accumulation=accumulation,
        padded=padded,
        extra_parameters=model.extra_parameters,
    )
