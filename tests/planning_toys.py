"""Model folders made of nothing but headers, and machines that nobody has here."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_trainer.services.configs.schema import Dataset
from model_trainer.services.environment.hardware import Gpu, Hardware
from model_trainer.services.planning.ask import Ask
from model_trainer.services.planning.lengths import Lengths
from model_trainer.services.planning.machine import Machine, choose_machine
from model_trainer.services.planning.model_info import ModelInfo
from model_trainer.services.planning.open_models import open_models

#: A Llama of 9,568 parameters.
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 150,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
LLAMA_PARAMETERS = 2 * (16 * 16 * 2 + 16 * 8 * 2 + 3 * 16 * 32 + 32) + 150 * 16 + 16

SHORT = Lengths(mean=114, p50=90, p95=300, p99=420, max=485, sample=500)
EVEN = Lengths(mean=200, p50=200, p95=210, p99=215, max=220, sample=500)


def weights(*shapes: tuple[int, ...], dtype: str = "F32") -> bytes:
    """A safetensors file of zeros."""
    width = {"F32": 4, "BF16": 2}[dtype]
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for number, shape in enumerate(shapes):
        count = width
        for size in shape:
            count *= size
        header[f"t{number}"] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + count]}
        offset += count
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(offset)


def model_folder(folder: Path, config: Mapping[str, Any] | None = None, **files: bytes) -> Path:
    """A folder with config.json and these files (`__` in a name is a dot); a whole model where none are given."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(LLAMA if config is None else config), encoding="utf-8")
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    for name, content in (files or {"model__safetensors": weights((LLAMA_PARAMETERS,))}).items():
        (folder / name.replace("__", ".")).write_bytes(content)
    return folder


def hardware(gpu: str | None = None, gib: float = 16.0, *, free: float | None = None, cores: int = 2) -> Hardware:
    """A machine with this GPU, or one with this RAM."""
    gpus: list[Gpu] = []
    if gpu is not None:
        one = Gpu(
            index=0,
            uuid="GPU-0",
            name=gpu,
            memory_total_gib=gib,
            memory_free_gib=gib if free is None else free,
            other_processes=0,
            compute_capability="8.9",
        )
        gpus.append(one)
    ram = 64.0 if gpu is not None else gib
    return Hardware(
        gpus=gpus,
        cpu_cores=cores,
        memory_total_gib=ram,
        memory_available_gib=ram if free is None or gpu is not None else free,
        disk_free_gib=500.0,
    )


def machine(gpu: str | None = None, gib: float = 16.0, *, free: float | None = None, cores: int = 2) -> Machine:
    """The machine that a plan for `hardware(…)` is made for."""
    return choose_machine(hardware(gpu, gib, free=free, cores=cores), None)


def known(name: str) -> ModelInfo:
    """A model of the table by the end of its id."""
    return next(model.info for model in open_models() if model.info.name.endswith(name))


def ask(model: ModelInfo, on: Machine, *, rows: int = 2000, lengths: Lengths = SHORT, **more: Any) -> Ask:
    """A question for a recommendation."""
    return Ask(model=model, machine=on, rows=rows, lengths=lengths, dataset=Dataset(path="/data/train.jsonl"), **more)
