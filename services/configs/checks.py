"""From a document to a `Config`: what pydantic finds, said with the key, the line and the nearest valid name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn, cast, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ...trainer.contract import METHODS, OWNED_ARGUMENTS, STALE_ARGUMENTS, available_methods
from ...trainer.yaml12 import Key
from . import bounds as config_bounds
from .rules import check_rules
from .schema import Config
from .text import Document, dotted

#: Keys of `peft` that follow from the rest of the config.
OWNED_PEFT: dict[str, str] = {
    "task_type": "it follows from method",
    "peft_type": "write type: lora",
    "base_model_name_or_path": "it is model.name",
    "revision": "it is model.revision",
    "inference_mode": "a run trains",
    "auto_mapping": "PEFT fills it in",
    "peft_version": "PEFT fills it in",
}

PEFT_TYPES = ("lora",)


def validate(document: Document) -> tuple[Config, list[str]]:
    """The config that a document holds, and warnings about it; nothing outside the document is looked at.

    Raises:
        ConfigError: `unknown_key`, `stale_key`, `unknown_method`, `method_unavailable` or `invalid_config`.
    """
    _check_secrets(document, document.data, ())
    _check_method(document)
    try:
        config = Config.model_validate(document.data, strict=True)
    except ValidationError as error:
        _refuse_first(document, error)
    check_owned(document, "training", config.training)
    config_bounds.check_numbers(document, "training", config.training, config_bounds.TRAINING)
    if config.peft is not None:
        _check_peft(document, config.peft)
    return config, check_rules(document, config)


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """The valid name that `name` probably means."""
    found = difflib.get_close_matches(name.lower(), list(valid), n=1, cutoff=0.6)
    return found[0] if found else None


def check_owned(document: Document, section: str, values: Mapping[str, Any]) -> None:
    """Refuse names that are no longer valid, and keys that are ours to set.

    Raises:
        ConfigError: `stale_key` with what to write instead, or `invalid_config` with the reason.
    """
    for name, value in values.items():
        key: Key = (section, name)
        if section == "training" and name in STALE_ARGUMENTS:
            now, why = STALE_ARGUMENTS[name]
            if now is None:
                document.refuse("stale_key", key, f"{why}. Take the key out", document.correct(key, None))
            fix = document.correct((section, now), value, instead_of=key)
            document.refuse("stale_key", key, f"{why}; write {now}: {_short(value)} instead", fix)
        owned = OWNED_ARGUMENTS if section == "training" else OWNED_PEFT
        if name in owned:
            fix = document.correct(key, None)
            document.refuse("invalid_config", key, f"not set here: {owned[name]}. Take the key out", fix)


_TOKEN = re.compile(r"\b(hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{20,})")


def _check_secrets(document: Document, value: object, key: Key) -> None:
    """Refuse tokens before any message could quote one: configs are shown, compared and published."""
    if isinstance(value, dict):
        for name, entry in cast("dict[str, object]", value).items():
            _check_secrets(document, entry, (*key, name))
    elif isinstance(value, list):
        for index, entry in enumerate(cast("list[object]", value)):
            _check_secrets(document, entry, (*key, index))
    elif isinstance(value, str) and _TOKEN.search(value):
        message = "this is an access token; a config never holds one. Take it out, and revoke it if it was shared"
        document.refuse("invalid_config", key, message, document.correct(key, None))


def _check_method(document: Document) -> None:
    """Methods get answers of their own: a wrong one is the commonest way to be wrong about everything else."""
    method = document.data.get("method", "sft")
    if method not in METHODS if isinstance(method, str) else True:
        close = nearest(method, METHODS) if isinstance(method, str) else None
        hint = f"; nearest: {close}" if close else ""
        message = f"{_short(method)} is no training method{hint}. Methods: {', '.join(METHODS)}"
        document.refuse("unknown_method", ("method",), message, document.correct(("method",), close or "sft"))
    known = METHODS[method]
    if known.module is None:
        message = f"{known.name} ({known.title}) is not in this version, which trains {', '.join(available_methods())}"
        document.refuse("method_unavailable", ("method",), message, document.correct(("method",), "sft"))


def _check_peft(document: Document, peft: Mapping[str, Any]) -> None:
    kind = peft.get("type")
    if kind not in PEFT_TYPES:
        said = "missing" if kind is None else f"{_short(kind)} is not in this version"
        message = f"{said}; write type: lora"
        document.refuse("invalid_config", ("peft", "type"), message, document.correct(("peft", "type"), "lora"))
    check_owned(document, "peft", peft)
    config_bounds.check_numbers(document, "peft", peft, config_bounds.PEFT)


def _refuse_first(document: Document, error: ValidationError) -> NoReturn:
    """Raise the first problem whole, and name the others."""
    problems: dict[Key, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False, include_context=False):
        problems.setdefault(_locate(document, detail), []).append(detail)
    (key, details), *others = problems.items()
    more = f" Also wrong: {', '.join(dotted(k) for k, _ in others[:5])}." if others else ""
    if details[0]["type"] == "extra_forbidden":
        _refuse_unknown(document, key, more)
    if details[0]["type"] == "missing":
        document.refuse("invalid_config", key, f"the key is missing.{more}")
    said = " or ".join(dict.fromkeys(_plain(d["msg"]) for d in details))
    document.refuse("invalid_config", key, f"{said}; found {_short(details[0]['input'])}.{more}")


def _refuse_unknown(document: Document, key: Key, more: str) -> NoReturn:
    name = str(key[-1])
    valid = list(_fields_at(key[:-1]))
    home = next((s for s, names in _SECTION_KEYS.items() if len(key) == 1 and name in names), None)
    if home is not None:
        moved: Key = (home, name)
        message = f"unknown here; it belongs under {home}.{more}"
        document.refuse("unknown_key", key, message, document.correct(moved, document.data[name], instead_of=key))
    close = nearest(name, valid)
    hint = f"nearest: {close}" if close else f"valid are {', '.join(valid)}"
    value = _value_at(document, key)
    fix = document.correct((*key[:-1], close), value, instead_of=key) if close else document.correct(key, None)
    document.refuse("unknown_key", key, f"unknown key; {hint}.{more}", fix)


def _value_at(document: Document, key: Key) -> object:
    value: Any = document.data
    for part in key:
        value = value[part]
    return cast("object", value)


#: Keys that are often written at the top by mistake, by where they belong.
_SECTION_KEYS: dict[str, frozenset[str]] = {
    "training": frozenset(config_bounds.TRAINING) | {"packing", "optim", "lr_scheduler_type", "eval_strategy"},
    "peft": frozenset(config_bounds.PEFT) | {"target_modules"},
    "model": frozenset(("dtype", "chat_template")),
    "resources": frozenset(("gpus", "max_hours", "where")),
    "tracking": frozenset(("report_to", "project")),
}


def _fields_at(key: Key) -> Iterable[str]:
    """The keys that the section at `key` may have."""
    model: type[BaseModel] = Config
    for part in key:
        if isinstance(part, int):
            continue
        found = _models_in(model.model_fields[part].annotation) if part in model.model_fields else None
        if found is None:
            return ()
        model = found
    return model.model_fields


def _models_in(annotation: object) -> type[BaseModel] | None:
    """The section that an annotation like `list[Dataset]` or `Turns | None` names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _models_in(part)) is not None), None)


def _locate(document: Document, detail: ErrorDetails) -> Key:
    """The error's place in the document: pydantic also names the branches of unions."""
    place: list[str | int] = []
    value: object = document.data
    for part in detail["loc"]:
        if isinstance(value, dict) and part in value:
            value = cast("dict[str | int, object]", value)[part]
        elif isinstance(value, list) and isinstance(part, int):
            value = cast("list[object]", value)[part]
        elif detail["type"] == "missing" and part == detail["loc"][-1]:
            pass
        else:
            continue
        place.append(part)
    return tuple(place)


def _plain(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:] if message.startswith("Input ") else message


def _short(value: object) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value!r:.80}"
