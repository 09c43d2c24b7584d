"""How long a run takes, as an interval: a roofline of arithmetic, memory traffic and kernel launches.

Never fitted to the runs it was compared with: -11 to +9 % against current LoRA and full fine-tunings on L40S and A100,
-28 to +32 % on older quantized ones. On a CPU it is a range of what cores were seen to do.
"""

from __future__ import annotations

from dataclasses import dataclass

from .machine import Machine
from .memory import Step, trainable_parameters

#: Arithmetic per token and block parameter, without attention scores: (plain, with checkpointing). Lower and upper
#: ends of what was counted.
_FLOPS = {"full": ((6.0, 6.0), (7.0, 7.7)), "lora": ((4.0, 4.0), (4.9, 5.7)), "qlora": ((4.8, 5.2), (5.7, 5.9))}

#: Bytes of elementwise traffic per token, block and hidden number: (plain, with checkpointing).
_TRAFFIC = {"full": (455, 635), "lora": (890, 1230), "qlora": (890, 1020)}

#: Kernels per block and step, and seconds that launching one takes: at least, and where Python is slow (published runs
#: of small steps took that much).
_KERNELS = {"full": (110, 180), "lora": (220, 316), "qlora": (220, 316)}
_LAUNCH_SECONDS = (5e-6, 15e-6)

#: Shares of the peaks that real kernels reach.
_ARITHMETIC, _BANDWIDTH = 0.75, 0.8

#: What the interval adds around the roofline on a GPU.
_GPU_SPREAD = (0.75, 1.4)

#: Seconds from the start to the first step: imports, loading, tokenizing.
_START_SECONDS = (10.0, 90.0)


@dataclass(frozen=True)
class Hours:
    """An interval."""

    low: float
    high: float


def estimate_hours(
    step: Step, machine: Machine, *, tokens: float, updates: int, evaluated: float, spread: tuple[float, float]
) -> Hours:
    """Time of a whole run on `machine`.

    `step` is one micro-batch as in training, `tokens` all tokens that pass through (padding included), `updates` the
    optimizer steps, `evaluated` the tokens of all evaluations, `spread` what the token counts may be off by.
    """
    load = step.shape.parameters * step.weight_bytes / 1e9
    ends: list[float] = []
    for end in (0, 1):
        # The fast end of the machine makes the low end of the interval.
        flops, bandwidth = machine.flops[1 - end], machine.bandwidth[1 - end]
        per_token = _seconds_per_token(step, machine, flops, bandwidth, end)
        # An evaluation is a forward pass: about a third.
        work = per_token * (tokens + evaluated / 3) * spread[end]
        work += updates * _update_seconds(step, machine, bandwidth)
        if machine.kind == "gpu":
            work *= _GPU_SPREAD[end]
        ends.append((work + _START_SECONDS[end] + load * (0.3, 3.0)[end]) / 3600)
    return Hours(low=ends[0], high=ends[1])


def _seconds_per_token(step: Step, machine: Machine, flops: float, bandwidth: float, end: int) -> float:
    shape, again = step.shape, int(step.checkpointing)
    # On a CPU adapters were no faster than training everything.
    technique = "full" if machine.kind == "cpu" else step.technique
    factor = _FLOPS[technique][again][end]
    blocks = shape.layers * shape.linear_weights
    head = shape.vocab * shape.hidden * (6 if step.technique == "full" else 4)
    attention = shape.layers * 2 * step.length * shape.query * (3.5 + again)
    arithmetic = factor * blocks + head + attention
    if machine.kind == "cpu":
        return arithmetic / flops
    traffic = _TRAFFIC[step.technique][again] * shape.hidden * shape.layers * (2 if step.weight_bytes == 4 else 1)
    seconds = arithmetic / (_ARITHMETIC * flops) + traffic / (_BANDWIDTH * bandwidth)
    launches = shape.layers * _KERNELS[step.technique][again] * _LAUNCH_SECONDS[end]
    return max(seconds, launches / (step.batch * step.length))


def _update_seconds(step: Step, machine: Machine, bandwidth: float) -> float:
    """The optimizer reads weight, gradient and two moments and writes three of them back."""
    width = step.weight_bytes if step.technique == "full" else 4
    share = _BANDWIDTH if machine.kind == "gpu" else 1.0
    return 7 * width * trainable_parameters(step) / (share * bandwidth)
