"""What the Hub reads out of files: a README's front matter, tags, a model's config and its parameter count."""

from __future__ import annotations

import json
import math
from typing import Any, cast

import yaml

from .contents import File


def front_matter(readme: str) -> dict[str, Any]:
    """The YAML between the first two lines of `---`; empty without.

    Raises:
        ValueError: it is no YAML, or no mapping.
    """
    lines = readme.splitlines()
    if not lines or lines[0].rstrip() != "---" or "---" not in (line.rstrip() for line in lines[1:]):
        return {}
    end = next(number for number, line in enumerate(lines[1:], 1) if line.rstrip() == "---")
    try:
        found: Any = yaml.safe_load("\n".join(lines[1:end]))
    except yaml.YAMLError as error:
        raise ValueError(f"Invalid YAML: {error}") from error
    if found is not None and not isinstance(found, dict):
        raise ValueError("The metadata must be a mapping")
    return cast("dict[str, Any]", found or {})


def card_data(files: dict[str, File]) -> dict[str, Any]:
    """A repository's front matter; the real Hub keeps showing one that can't be read as none."""
    if "README.md" not in files:
        return {}
    try:
        return front_matter(files["README.md"].read().decode("utf-8", "replace"))
    except ValueError:
        return {}


def tags(card: dict[str, Any]) -> list[str]:
    """The card's own tags, and those made of its fields."""
    found = [str(tag) for tag in _listed(card.get("tags"))]
    for key, prefix in (("license", "license:"), ("base_model", "base_model:"), ("datasets", "dataset:")):
        found += [f"{prefix}{value}" for value in _listed(card.get(key))]
    found += [str(card[key]) for key in ("library_name", "pipeline_tag") if card.get(key)]
    return [*dict.fromkeys(found), "region:us"]


def _listed(value: Any) -> list[Any]:
    return [] if value is None else cast("list[Any]", value) if isinstance(value, list) else [value]


def model_config(files: dict[str, File]) -> dict[str, Any] | None:
    """`config` of a model's info: architecture, and the chat template of its tokenizer."""
    config = _json(files.get("config.json"))
    tokenizer = _json(files.get("tokenizer_config.json"))
    if config is None:
        return None
    found = {key: config[key] for key in ("architectures", "model_type") if key in config}
    if tokenizer is not None and "chat_template" in tokenizer:
        found["tokenizer_config"] = {"chat_template": tokenizer["chat_template"]}
    return found


def safetensors(files: dict[str, File]) -> dict[str, Any] | None:
    """Parameters by dtype over all of a model's safetensors files, from their headers."""
    counts: dict[str, int] = {}
    for path, file in files.items():
        if path.startswith("adapter_") or not path.endswith(".safetensors"):
            continue
        with open(file.stored, "rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header: dict[str, Any] = json.loads(stream.read(length)) if 0 < length < file.size else {}
        for name, entry in header.items():
            if name != "__metadata__":
                counts[entry["dtype"]] = counts.get(entry["dtype"], 0) + math.prod(entry["shape"])
    return {"parameters": counts, "total": sum(counts.values())} if counts else None


def _json(file: File | None) -> dict[str, Any] | None:
    if file is None:
        return None
    try:
        found: Any = json.loads(file.read())
    except ValueError:
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None
