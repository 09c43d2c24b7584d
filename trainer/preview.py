"""How a model would see rows: token lengths, and examples with their loss mask, from the trainer that trains.

Asked on stdin: `{"model": {…}, "method": "sft", "sample": file of the scan}`. TRL's own trainer prepares the rows, over
a model of the same class and vocabulary that is one layer thin, on the CPU; nothing is trained and no weights are read.
"""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path
from typing import Any, cast

from .answers import answer, read_request

_EXAMPLES = 2
_EXAMPLE_LIMIT = 600
_SPAN_LIMIT = 240

#: Sizes by the names that model configs give them; only those that a config has are set.
_THIN = {
    "num_hidden_layers": 1,
    "hidden_size": 16,
    "intermediate_size": 16,
    "moe_intermediate_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "num_experts": 2,
    "num_local_experts": 2,
    "num_experts_per_tok": 1,
    "n_layer": 1,
    "n_embd": 16,
    "n_head": 2,
    "n_inner": 16,
}


def main(_arguments: list[str]) -> int:
    """Answer lengths, examples and what is wrong; `{"problem": code, "detail": …}` where nothing can be rendered."""
    asked = read_request()
    rows = json.loads(Path(asked["sample"]).read_text(encoding="utf-8"))["rows"]
    answer(preview(asked["model"], rows))
    return 0


def preview(model: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Token lengths of all rows, two examples, and the counts of what a training would stumble over."""
    import torch
    from datasets import Dataset
    from trl import SFTConfig

    from . import models, sft

    torch.set_num_threads(1)
    usual = SFTConfig.max_length
    tokenizer = models.load_tokenizer(model)
    if tokenizer.eos_token is None:
        return {"problem": "no_eos_token"}
    if tokenizer.chat_template is None and any(isinstance(value, list) for row in rows[:1] for value in row.values()):
        return {"problem": "no_chat_template"}
    thin, embeddings = _thin_model(model, len(tokenizer))
    config: dict[str, Any] = {
        "method": "sft",
        "model": {**model, "dtype": "float32"},
        "peft": None,
        "quantization": None,
        "eval_dataset": None,
        # Lengths are measured before anything is cut.
        "training": {"max_length": None},
        "resources": {"gpus": 0},
        "tracking": {"report_to": "none"},
    }
    with tempfile.TemporaryDirectory() as folder:
        arguments = sft.make_arguments(config, Path(folder))
        trainer = sft.make_trainer(config, thin, tokenizer, arguments, Dataset.from_list(rows), None)
        prepared = cast("Dataset", trainer.train_dataset)
        ids, labels = prepared["input_ids"], prepared["labels"]
        lengths = sorted(len(row) for row in ids)
        longest_id = max((max(row, default=0) for row in ids), default=0)
        picked = [trainer.data_collator([prepared[index]]) for index in _pick(len(prepared))]
    return {
        "tokens": {
            "sample": len(lengths),
            "mean": round(sum(lengths) / len(lengths), 1),
            **{f"p{q}": lengths[min(len(lengths) - 1, len(lengths) * q // 100)] for q in (50, 95, 99)},
            "max": lengths[-1],
        },
        "examples": [_example(tokenizer, one["input_ids"][0].tolist(), one["labels"][0].tolist()) for one in picked],
        "masked_rows": sum(all(label == -100 for label in row) for row in labels),
        "max_length": usual,
        "cut_rows": sum(len(row) > usual for row in labels) if usual else 0,
        "masked_by_cut": sum(all(label == -100 for label in row[:usual]) for row in labels),
        "max_token_id": longest_id,
        "embedding_rows": embeddings,
    }


def _pick(count: int) -> list[int]:
    """The first row and the one in the middle."""
    return sorted({0, count // 2})[:_EXAMPLES]


def _thin_model(model: dict[str, Any], tokens: int) -> tuple[Any, int | None]:
    """A model of the same class with one thin layer, and how many rows the real embedding has."""
    from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

    real = AutoConfig.from_pretrained(model["name"], revision=model.get("revision"), trust_remote_code=False)
    real = real.get_text_config()
    embeddings = getattr(real, "vocab_size", None)
    vocabulary = max(embeddings or 0, tokens)
    thin = copy.deepcopy(real)
    for name, value in _THIN.items():
        if getattr(thin, name, None) is not None:
            setattr(thin, name, value)
    if getattr(thin, "layer_types", None):
        thin.layer_types = thin.layer_types[:1]
    if hasattr(thin, "quantization_config"):
        del thin.quantization_config
    thin.vocab_size = vocabulary
    try:
        return AutoModelForCausalLM.from_config(thin, trust_remote_code=False, attn_implementation="sdpa"), embeddings
    except Exception:
        # A class whose sizes go by other names: how rows are rendered hangs on the tokenizer, not on the layers.
        plain = LlamaConfig(vocab_size=vocabulary, hidden_size=16, intermediate_size=16, num_hidden_layers=1)
        plain.num_attention_heads = plain.num_key_value_heads = 2
        plain.head_dim = 8
        return AutoModelForCausalLM.from_config(plain), embeddings


def _example(tokenizer: Any, ids: list[int], labels: list[int]) -> dict[str, Any]:
    """One row as text, what is not trained on between `[masked]` and `[/masked]`."""
    spans: list[tuple[bool, list[int]]] = []
    for token, label in zip(ids, labels, strict=True):
        trained = label != -100
        if not spans or spans[-1][0] != trained:
            spans.append((trained, []))
        spans[-1][1].append(token)
    parts: list[str] = []
    for trained, span in spans:
        text = tokenizer.decode(span, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if len(text) > _SPAN_LIMIT:
            text = f"{text[: _SPAN_LIMIT // 2]} … {text[-_SPAN_LIMIT // 2 :]}"
        parts.append(text if trained else f"[masked]{text}[/masked]")
    text = "".join(parts)
    return {
        "text": text if len(text) <= _EXAMPLE_LIMIT else text[: _EXAMPLE_LIMIT - 1] + "…",
        "tokens": len(ids),
        "trained": sum(label != -100 for label in labels),
    }
