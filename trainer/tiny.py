"""A tiny model with random weights and a tokenizer trained on given text: for the demo, and for tests.

`python -m trainer_snapshot.trainer tiny`, asked on stdin:
`{"folder": …, "texts": file of JSONL, "vocab_size": 4096, "hidden_size": 256, "layers": 4, "seed": 0}`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .answers import answer, read_request

#: ChatML, with the markers that assistant_only_loss needs.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ message['content'] }}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def main(_arguments: list[str]) -> int:
    """Build it and answer its parameter count and vocabulary."""
    asked = read_request()
    answer(build(Path(asked["folder"]), Path(asked["texts"]), asked))
    return 0


def build(folder: Path, texts: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Train the tokenizer on the text of every string in `texts`, make the model, save both to `folder`."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = _train_tokenizer(texts, asked.get("vocab_size", 4096))
    hidden = asked.get("hidden_size", 256)
    torch.manual_seed(asked.get("seed", 0))
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=asked.get("layers", 4),
        num_attention_heads=max(2, hidden // 64),
        num_key_value_heads=max(1, hidden // 128),
        head_dim=32,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    model = Qwen3ForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {"parameters": sum(p.numel() for p in model.parameters()), "vocabulary": len(tokenizer)}


def _train_tokenizer(texts: Path, size: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_strings(texts), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",  # noqa: S106
        pad_token="<|endoftext|>",  # noqa: S106
        chat_template=CHAT_TEMPLATE,
        model_max_length=1024,
    )


def _strings(texts: Path) -> Iterator[str]:
    with open(texts, encoding="utf-8") as file:
        for line in file:
            for value in json.loads(line).values():
                if isinstance(value, str):
                    yield value
