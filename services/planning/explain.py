"""Why a plan is as it is, and what may disappoint: for people, each with its source."""

from __future__ import annotations

import math

from ...trainer.contract import METHODS
from .ask import SMALL, Ask, learning_rate
from .memory import GIB
from .results import Reason
from .shapes import TRACED_FAMILIES
from .variants import Worked

_MEMORY_SOURCE = "closed form fitted to traces of TRL 1.16's step"
_CPU_SOURCE = "closed form of the tensors; a CPU was seen to take 1.3 to 2.2 times that"
_OURS = "our rule of thumb"


def explain(ask: Ask, worked: Worked) -> list[Reason]:
    """Why the option is as it is, the main reason first."""
    variant, machine = worked.variant, ask.machine
    free = f"{machine.free_gib:.1f} GiB of {machine.memory} free"
    found = [Reason(text=f"{variant.label}: {_why(ask, worked)}", source=_OURS)]
    memory_source = _MEMORY_SOURCE if machine.kind == "gpu" else _CPU_SOURCE
    found.append(Reason(text=f"needs {worked.needed_gib:.1f} GiB, {free}", source=memory_source))
    rate = learning_rate(ask.method, variant.technique, ask.model.parameters)
    if variant.technique == "full":
        small = "; more than 2e-05 because the model is small" if rate > METHODS[ask.method].learning_rates[0] else ""
        found.append(Reason(text=f"learning rate {rate:g} for all weights{small}", source=_OURS))
    else:
        text = f"learning rate {rate:g}, about ten times that of full fine-tuning; r 16 on all linear layers"
        found.append(Reason(text=text, source="TRL documentation, PEFT integration"))
    if worked.packing:
        text = f"packing: {worked.padding:.0%} of a batch would be padding"
        found.append(Reason(text=text, source="1.7 to 2.6 times the tokens per second, measured on TRL 1.16"))
    if not worked.step.checkpointing:
        text = "no gradient checkpointing: the activations fit, and a step then recomputes nothing"
        found.append(Reason(text=text, source=memory_source))
    kind = f"99th percentile of {ask.lengths.sample:,} rows" if ask.lengths.measured else "a guess from the file's size"
    found.append(Reason(text=f"max_length {worked.max_length} from {kind}", source="token lengths"))
    found.append(Reason(text=f"{_epochs(worked.epochs)} for {ask.rows:,} rows", source=_OURS))
    return found


def _why(ask: Ask, worked: Worked) -> str:
    match worked.variant.label:
        case "full" if ask.model.parameters <= SMALL:
            return f"{ask.model.parameters / 1e6:.1f} million parameters are few: training all is cheap and learns most"
        case "full":
            return "learns most, and takes most memory and disk"
        case "full-bf16":
            return "half the memory of float32 weights; small updates are lost in rounding"
        case "lora":
            return "close to full fine-tuning on data of this size, for a fraction of the memory; small checkpoints"
        case "lora-bf16":
            return "half the memory of float32 weights"
        case _:
            return "least memory; slower, and a little less exact than LoRA"


def warn(ask: Ask, worked: Worked, *, wanted: float) -> list[str]:
    """What may disappoint; `wanted` are the epochs that the data deserve."""
    found: list[str] = []
    machine, shape = ask.machine, ask.model.shape
    if machine.kind == "cpu" and worked.hours.high > 3:
        found.append("this takes hours on a CPU; a smaller model, fewer rows or a GPU are the ways out")
    if worked.epochs < wanted:
        left = f"max_hours {ask.max_hours:g} allows {_epochs(worked.epochs)}; the data deserve {wanted:g}"
        found.append(
            left if worked.hours.high <= (ask.max_hours or math.inf) else f"{left}, and even that may not end in time"
        )
    if worked.updates < 30:
        found.append(f"only {worked.updates} optimizer steps: a run this short learns little")
    if worked.variant.label == "full-bf16":
        found.append("weights in bfloat16 throughout lose small updates; prefer full where it fits")
    over = 1 - ask.lengths.mean_cut(worked.max_length) / ask.lengths.mean
    if over > 0.02:
        found.append(f"rows are cut at {worked.max_length} tokens: about {over:.0%} of all tokens are lost")
    if shape.family not in TRACED_FAMILIES:
        found.append(f"the memory of {shape.family} models was not compared with traces: treat it as a guess")
    checkpoints = 2 * (12 if worked.variant.technique == "full" else 0) * ask.model.parameters / GIB
    if checkpoints > ask.disk_free_gib:
        found.append(f"two checkpoints take {checkpoints:.0f} GiB, and {ask.disk_free_gib:.0f} GiB of disk are free")
    return found


def _epochs(count: float) -> str:
    return "1 epoch" if count == 1 else f"{count:g} epochs"
