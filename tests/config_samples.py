"""A small config with comments, for tests that change it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

MINIMAL = """\
# What we train, and why.
version: 1
method: sft
model:
  name: org/model  # a Hub id
datasets:
  - path: data.jsonl
    columns: {prompt: question, completion: answer}
eval_dataset: {fraction: 0.1}
peft:
  type: lora
  r: 8  # small on purpose
training:
  learning_rate: 2e-4
  max_length: 256
"""

WriteFile = Callable[[str], Path]
