"""Models, tokenizers and adapters as the config names them; code from repositories is never run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedTokenizerBase

from .failures import Failure

#: `peft.type` to PEFT's own config class.
PEFT_TYPES: dict[str, type[PeftConfig]] = {"lora": LoraConfig}


def load_tokenizer(model: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """The model's tokenizer, with the config's chat template where one is given."""
    tokenizer = AutoTokenizer.from_pretrained(model["name"], revision=model.get("revision"), trust_remote_code=False)
    if model.get("chat_template"):
        tokenizer.chat_template = Path(model["chat_template"]).read_text(encoding="utf-8")
    return tokenizer


def load_causal(config: Mapping[str, Any]) -> Any:
    """The base model in the config's dtype, quantized if asked; safetensors only."""
    model = config["model"]
    options: dict[str, Any] = {}
    if (quantization := _quantization(config)) is not None:
        options["quantization_config"] = quantization
    if config["resources"]["gpus"] > 0:
        options["device_map"] = {"": 0} if quantization is not None else None
    return AutoModelForCausalLM.from_pretrained(
        model["name"],
        revision=model.get("revision"),
        dtype=getattr(torch, model["dtype"]),
        trust_remote_code=False,
        use_safetensors=True,
        attn_implementation="sdpa",
        **options,
    )


def peft_config(config: Mapping[str, Any]) -> PeftConfig | None:
    """PEFT's config, None for full fine-tuning."""
    given = dict(config.get("peft") or {})
    if not given:
        return None
    kind = given.pop("type", "lora")
    if kind not in PEFT_TYPES:
        raise Failure("bad_config", f"peft.type {kind!r} is not one of {', '.join(PEFT_TYPES)}")
    return PEFT_TYPES[kind](task_type="CAUSAL_LM", **given)


def _quantization(config: Mapping[str, Any]) -> BitsAndBytesConfig | None:
    match config.get("quantization"):
        case "nf4":
            return BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=getattr(torch, config["model"]["dtype"]),
            )
        case "int8":
            return BitsAndBytesConfig(load_in_8bit=True)
        case _:
            return None
