"""What a model folder's weights are, read from their headers alone: count, precision, and what is missing or cut."""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ...executors.errors import ModelError

_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
#: A tokenizer has at least one of these.
_TOKENIZERS = frozenset({"tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "tekken.json"})
_HEADER_LIMIT = 100_000_000


@dataclass(frozen=True)
class Weights:
    """What the headers say."""

    parameters: int
    size_bytes: int
    dtype: str | None
    """Of most parameters, as safetensors writes it: BF16, F32, …"""


def read_weights(folder: Path, name: str) -> Weights:
    """The weights of the model in `folder`; `name` is what the caller called it.

    Raises:
        ModelError: `model_incomplete` (none, a shard is missing, a file is cut), `model_pickle_only`.
    """
    counts: Counter[str] = Counter()
    size = 0
    for path in _files(folder, name):
        for dtype, parameters in _header(path, name).items():
            counts[dtype] += parameters
        size += path.stat().st_size
    common = counts.most_common(1)
    return Weights(parameters=counts.total(), size_bytes=size, dtype=common[0][0] if common else None)


def check_names(names: Iterable[str], name: str, where: str) -> None:
    """Refuse a model whose files hold no safetensors.

    Raises:
        ModelError: `model_pickle_only`, `model_incomplete`.
    """
    names = list(names)
    if any(file.endswith(".safetensors") for file in names):
        return
    pickles = [file for file in names if file.endswith(_PICKLES) and not file.startswith(("training_args", "optim"))]
    if pickles:
        raise ModelError(
            "model_pickle_only",
            f"{where} has its weights only as pickle files ({', '.join(sorted(pickles)[:3])}); loading a pickle "
            "can run any code, so only safetensors are loaded.",
            next_step=f"Take a safetensors version of {name}, or let its owner convert it: "
            "load it where you trust it and `model.save_pretrained(folder)`; then plan_training(model=folder).",
        )
    raise ModelError(
        "model_incomplete",
        f"{where} has no weights: no .safetensors file is there.",
        next_step=f"Download the model whole: `hf download {'ORG/MODEL' if Path(name).is_absolute() else name}`, "
        "or name another model.",
    )


def check_tokenizer(names: Iterable[str], name: str, where: str) -> None:
    """Refuse a model that comes without a tokenizer.

    Raises:
        ModelError: `model_incomplete`.
    """
    if _TOKENIZERS.isdisjoint(names):
        raise ModelError(
            "model_incomplete",
            f"{where} has no tokenizer: none of {', '.join(sorted(_TOKENIZERS))} is there.",
            next_step=f"Put the tokenizer's files beside the weights (`tokenizer.save_pretrained({where!r})`), "
            f"or name another model than {name}.",
        )


def _files(folder: Path, name: str) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        check_names((entry.name for entry in folder.iterdir() if entry.exists()), name, str(folder))
        whole = folder / "model.safetensors"
        # Other names than transformers' own: consolidated.safetensors and the like are copies of the same weights.
        return [whole] if whole.is_file() else sorted(folder.glob("*.safetensors"))
    try:
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        _incomplete(name, f"{index} can't be read as an index of weights.")
    missing = [shard for shard in shards if not isinstance(shard, str) or not (folder / shard).is_file()]
    if missing:
        first = ", ".join(str(shard)[:80] for shard in missing[:3])
        _incomplete(name, f"{len(missing)} of {len(shards)} weight files are missing in {folder}: {first}.")
    return [folder / shard for shard in shards]


def _header(path: Path, name: str) -> Mapping[str, int]:
    """Parameters by precision: 8 bytes with the header's length, the header as JSON, then the numbers."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(_HEADER_LIMIT, size):
                _incomplete(name, f"{path} is no complete safetensors file: its header is cut.")
            tensors: dict[str, Any] = json.loads(file.read(length))
        tensors.pop("__metadata__", None)
        end = max((int(tensor["data_offsets"][1]) for tensor in tensors.values()), default=0)
        counts: Counter[str] = Counter()
        for tensor in tensors.values():
            counts[str(tensor["dtype"])] += math.prod(tensor["shape"])
    except (OSError, struct.error, ValueError, KeyError, TypeError, IndexError, AttributeError):
        _incomplete(name, f"{path} can't be read as a safetensors file.")
    if size < 8 + length + end:
        _incomplete(name, f"{path} is cut: {size:,} bytes are there, {8 + length + end:,} should be.")
    return counts


def _incomplete(name: str, message: str) -> NoReturn:
    command = f"`hf download {name}`" if name.count("/") == 1 and not name.startswith(("/", ".")) else "a new copy"
    step = (
        f"Get the files again ({command}), then plan_training(dataset=…, model={name!r}) again; or name another model."
    )
    raise ModelError("model_incomplete", message, next_step=step)
