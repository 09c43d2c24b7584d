"""Parameter counts by closed forms, compared with transformers' own models built without memory."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from planning_toys import LLAMA, LLAMA_PARAMETERS, known

from model_trainer.services.planning.open_models import open_models, table_date
from model_trainer.services.planning.shapes import FAMILIES, UnknownShapeError, shape_of

SMALL: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 300,
    "max_position_embeddings": 64,
}
UNTIED, TIED = {"tie_word_embeddings": False}, {"tie_word_embeddings": True}
GPT2 = {"n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 64, "vocab_size": 300}
T5 = {"d_model": 48, "d_ff": 80, "d_kv": 8, "num_heads": 4, "num_layers": 2, "num_decoder_layers": 3, "vocab_size": 300}

CONFIGS: list[dict[str, Any]] = [
    {"model_type": "llama", **SMALL, **TIED},
    {"model_type": "llama", **SMALL, **UNTIED, "attention_bias": True, "mlp_bias": True},
    {"model_type": "mistral", **SMALL, **UNTIED},
    {"model_type": "qwen2", **SMALL, "head_dim": 12, **TIED},
    {"model_type": "qwen3", **SMALL, **TIED},
    {"model_type": "qwen3", **SMALL, **UNTIED, "attention_bias": True},
    {"model_type": "phi3", **SMALL, "head_dim": 12, **UNTIED, "pad_token_id": 0},
    {"model_type": "gemma", **SMALL, **TIED},
    {"model_type": "gemma2", **SMALL, **TIED},
    {"model_type": "gemma3_text", **SMALL, **TIED},
    {"model_type": "gpt2", **GPT2},
    {"model_type": "gpt2", **GPT2, "n_inner": 100},
    {"model_type": "bert", **SMALL},
    {"model_type": "roberta", **SMALL, "type_vocab_size": 1, "max_position_embeddings": 66},
    {"model_type": "t5", **T5},
    {"model_type": "t5", **T5, "feed_forward_proj": "gated-gelu", **UNTIED},
]

COUNT = """
import json, sys, torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM
kinds = {"bert": AutoModelForMaskedLM, "roberta": AutoModelForMaskedLM, "t5": AutoModelForSeq2SeqLM}
counts = []
for given in json.load(sys.stdin):
    config = AutoConfig.for_model(**given)
    with torch.device("meta"):
        model = kinds.get(given["model_type"], AutoModelForCausalLM).from_config(config)
    counts.append(sum(p.numel() for p in model.parameters()))
print(json.dumps(counts))
"""


def test_closed_forms_count_what_transformers_builds() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COUNT], input=json.dumps(CONFIGS), capture_output=True, text=True, check=True
    )
    built = json.loads(done.stdout.splitlines()[-1])
    counted = [shape_of(config).parameters for config in CONFIGS]
    named = [config["model_type"] for config in CONFIGS]
    assert list(zip(named, counted, strict=True)) == list(zip(named, built, strict=True))
    assert set(named) == set(FAMILIES)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("SmolLM2-135M-Instruct", 134_515_008),
        ("Qwen3-0.6B", 596_049_920),
        ("Qwen3-8B", 8_190_735_360),
        ("Qwen2.5-7B-Instruct", 7_615_616_512),
        ("Llama-3.2-1B-Instruct", 1_235_814_400),
    ],
)
def test_the_table_has_the_parameters_that_are_published(name: str, parameters: int) -> None:
    assert known(name).parameters == parameters


def test_the_table_is_dated_pinned_and_sorted_by_size() -> None:
    models = open_models()
    assert len(table_date()) == 10
    assert len(models) == 12
    sizes = [model.info.parameters for model in models]
    assert sizes == sorted(sizes)
    for model in models:
        assert len(model.info.revision or "") == 40
        assert model.info.license
        assert model.gated == model.info.name.startswith("meta-llama/")


def test_missing_and_absurd_numbers_are_refused() -> None:
    assert shape_of(LLAMA).parameters == LLAMA_PARAMETERS
    for name, value in {
        "hidden_size": None,
        "vocab_size": 0,
        "num_hidden_layers": 2.5,
        "intermediate_size": 10**12,
    }.items():
        with pytest.raises(UnknownShapeError, match=name):
            shape_of({**LLAMA, name: value})
