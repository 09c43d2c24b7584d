"""The model card: what was trained from what, on what, how, what was measured, and what was not checked.

Every sentence is from a record of the run (`facts`); what no record says is said to be unknown, or not said at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .facts import Data, Facts

_SHOWN_DATA = 20

#: Measured names that tell something to whoever reads a card, with what they are.
_MEASURED = {
    "eval_loss": "loss",
    "eval_mean_token_accuracy": "token accuracy",
}


def write(facts: Facts, where: str, *, curve: str | None) -> str:
    """The card of a model that will be loaded from `where` (`owner/name`, or a folder's name); `curve`: its picture.

    Markdown behind YAML metadata that the Hub reads.
    """
    parts = [_title(facts, where), _load(facts, where), _measured(facts, curve), _data(facts), _training(facts)]
    return "\n\n".join([_metadata(facts), *parts, _licence(facts), _unchecked(facts)]) + "\n"


def _metadata(facts: Facts) -> str:
    from huggingface_hub import ModelCardData

    licence = facts.licence
    hub_data = sorted({one.name for one in facts.data if one.on_hub})
    data = ModelCardData(
        base_model=facts.base.name if facts.base.on_hub else None,
        base_model_relation=("adapter" if facts.kind == "adapter" else "finetune") if facts.base.on_hub else None,
        library_name="peft" if facts.kind == "adapter" else "transformers",
        pipeline_tag="text-generation",
        license=licence.id if licence else None,
        license_name=licence.name if licence else None,
        license_link=licence.link if licence else None,
        datasets=hub_data or None,
        tags=["model-trainer", "trl", facts.method, *(["lora"] if facts.kind == "adapter" else [])],
        ignore_metadata_errors=True,
    )
    text: str = data.to_yaml()  # pyright: ignore[reportUnknownMemberType]
    return f"---\n{text.strip()}\n---"


def _title(facts: Facts, where: str) -> str:
    what = f"{facts.peft} adapter for" if facts.kind == "adapter" else "Fine-tuned version of"
    return (
        f"# {_plain(where.rpartition('/')[2])}\n\n"
        f"{what} {_base(facts)}, made by {facts.method_title} (`{facts.method}`) on "
        f"{_count(sum(one.rows for one in facts.data if not one.held_out), 'row')} of data."
    )


def _base(facts: Facts) -> str:
    base = facts.base
    if not base.on_hub:
        return f"{_code(base.name)}, a local model that has no address"
    if base.commit is None:
        return f"[{base.name}](https://huggingface.co/{base.name}) (its commit was not recorded)"
    return f"[{base.name}](https://huggingface.co/{base.name}) at commit `{base.commit}`"


def _load(facts: Facts, where: str) -> str:
    if facts.kind == "adapter" and not facts.base.on_hub:
        lines = [
            "from peft import PeftModel; from transformers import AutoModelForCausalLM, AutoTokenizer",
            f"model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained({facts.base.name!r}), {where!r})",
            f"tokenizer = AutoTokenizer.from_pretrained({where!r})",
        ]
        note = f"\n\nThe first path is the folder of the base, {_code(facts.base.name)}, on your machine."
    else:
        cls = "AutoPeftModelForCausalLM" if facts.kind == "adapter" else "AutoModelForCausalLM"
        imports = (
            f"from peft import {cls}; from transformers import AutoTokenizer"
            if facts.kind == "adapter"
            else f"from transformers import {cls}, AutoTokenizer"
        )
        lines = [
            imports,
            f"model = {cls}.from_pretrained({where!r})",
            f"tokenizer = AutoTokenizer.from_pretrained({where!r})",
        ]
        note = ""
    return "## Load it\n\n```python\n" + "\n".join(lines) + "\n```" + note


def _measured(facts: Facts, curve: str | None) -> str:
    found = ["## What was measured"]
    before = facts.metrics.get("eval_loss_before")
    rows = [(label, facts.metrics[name], before if name == "eval_loss" else None) for name, label in _MEASURED.items()
            if name in facts.metrics]  # fmt: skip
    if rows:
        table = ["| on held-out rows | before | after |", "|---|---|---|"]
        table += [f"| {label} | {_number(former)} | {_number(after)} |" for label, after, former in rows]
        found += ["\n".join(table), f"Held out: {_plain(facts.held_out or 'not recorded')}."]
    else:
        found.append("Nothing on held-out rows: whether the model got better is not known.")
    if "train_loss" in facts.metrics:
        found.append(f"Mean training loss: {_number(facts.metrics['train_loss'])}.")
    if curve is not None:
        found.append(f"![Loss by step]({curve})")
    return "\n\n".join(found)


def _data(facts: Facts) -> str:
    lines = ["## Data", "", "| data | rows | format | SHA-256 of its files |", "|---|---|---|---|"]
    lines += [_data_row(one) for one in facts.data[:_SHOWN_DATA]]
    if len(facts.data) > _SHOWN_DATA:
        lines.append(f"| and {len(facts.data) - _SHOWN_DATA} more | | | |")
    if facts.dropped_rows:
        lines += [
            "",
            f"{_count(facts.dropped_rows, 'row')} were dropped: cut to `max_length`, nothing of them was left.",
        ]
    return "\n".join(lines)


def _data_row(one: Data) -> str:
    name = f"[{one.name}](https://huggingface.co/datasets/{one.name})" if one.on_hub else f"{_plain(one.name)} (local)"
    return f"| {name}{' (held out)' if one.held_out else ''} | {one.rows:,} | {one.format} | `{one.sha256}` |"


def _training(facts: Facts) -> str:
    return "\n".join(("## Training", "", *(f"- {line}" for line in _conditions(facts)), "", *_config(facts)))


def _conditions(facts: Facts) -> Iterator[str]:
    epochs = f"{facts.epochs:.3g} epoch{'' if facts.epochs == 1 else 's'}"
    yield f"{_count(facts.steps, 'step')}, {epochs}, {_time(facts.seconds)}, begun {facts.date}"
    if facts.resumed:
        yield f"stopped and resumed {_count(facts.resumed, 'time')}; time and curve are of all parts"
    memory = f"; {facts.memory}" if facts.memory else ""
    yield f"hardware: {_plain(facts.hardware or 'not recorded')}{memory}"
    yield ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    yield f"Model Trainer run `{facts.run_id}`, config digest `{facts.config_digest}`"


def _config(facts: Facts) -> Iterator[str]:
    yield "<details><summary>Config</summary>"
    yield ""
    yield "```yaml"
    yield facts.config.strip().replace("```", "` ` `")
    yield "```"
    yield ""
    yield "</details>"


def _licence(facts: Facts) -> str:
    if facts.licence is None:
        return (
            "## Licence\n\nThe base model's licence is not known here: none of its records names one. What was trained "
            "from it inherits it; find out before you pass this on."
        )
    name = _plain(facts.licence.name or facts.licence.id)
    link = f" ({facts.licence.link})" if facts.licence.link else ""
    return f"## Licence\n\n{name}{link}, inherited from the base model, according to {_plain(facts.licence.source)}."


def _unchecked(facts: Facts) -> str:
    better = (
        "whether its answers are better than the base's: a lower loss on held-out rows of the same data is no proof"
        if "eval_loss" in facts.metrics
        else "whether its answers are better than the base's"
    )
    points = (
        better,
        "how it does on other data, other tasks and public benchmarks, and whether the data overlap with those",
        "bias, safety, and what it makes up",
        "whether the data may be used for this, and whether they hold personal data",
    )
    return "## Not checked\n\n" + "\n".join(f"- {point}" for point in points)


def _plain(text: str) -> str:
    """Text that means nothing to Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", text.replace("\n", " "))


def _code(text: str) -> str:
    """Text as code, whatever is in it."""
    harmless = text.replace("`", "'")
    return f"`{harmless}`"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4g}"


def _time(seconds: float) -> str:
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 60:.1f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"
