"""Files that the tests of the Hub upload and seed."""

from __future__ import annotations

import os
from pathlib import Path

WEIGHTS = os.urandom(2 << 20)
#: More than the 10 MB that the client reads at once.
BIG = os.urandom(20 << 20)
#: Two parameters of float32: a header's length, the header, the numbers.
HEADER = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}  '
TINY = {
    "config.json": b'{"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}',
    "tokenizer_config.json": b'{"chat_template": "{{ messages }}"}',
    "model.safetensors": len(HEADER).to_bytes(8, "little") + HEADER + bytes(8),
    "README.md": b"---\nlicense: mit\nbase_model: acme/base\nlibrary_name: peft\ntags: [tiny]\n---\n# Tiny\n",
}


def contents(folder: str | Path) -> dict[str, bytes]:
    root = Path(folder)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
