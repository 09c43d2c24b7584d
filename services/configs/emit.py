"""Writing configs: plain values as text, and a text changed with its comments kept.

What is written reads as the same text to YAML 1.1 readers too: what either version would take for something else is
quoted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from io import StringIO
from typing import Any, cast

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from ...executors.errors import ConfigError
from .text import Document, parse

# Plain in every version of YAML: a word or path that can't be a number, a date, a boolean or a null.
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./+-]*( [A-Za-z0-9_./+-]+)*\Z")
_WORDS = re.compile(r"(?i:true|false|yes|no|on|off|y|n|null|nan|inf|infinity)\Z")


def dump(data: Mapping[str, object]) -> str:
    """The text of plain values, in their order."""
    return _write(_commented(data))


def edit(document: Document, data: Mapping[str, object]) -> str:
    """The document's text changed to hold exactly `data`, with the comments of what stays.

    Where the text's form can't be kept (rare: it is checked by reading the result), the plain text of `data`.
    """
    if same(document.data, data):
        return document.text
    try:
        tree = _yaml().load(document.text)
        _change(tree, document.data, data)
        text = _write(tree)
        if same(parse(text, document.name).data, data):
            return text
    except (YAMLError, ConfigError, ValueError, TypeError, AttributeError, KeyError):
        # Comments are a courtesy: a form that ruamel can't carry over is written anew.
        return dump(data)
    return dump(data)


def same(one: object, other: object) -> bool:
    """Whether two plain values are the same: 1, 1.0 and true are three."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _change(tree: Any, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    for name in old:
        if name not in new:
            del tree[name]
    for name, value in new.items():
        before = old.get(name)
        if name in old and same(before, value):
            continue
        if isinstance(before, dict) and isinstance(value, dict) and before:
            _change(tree[name], cast("dict[str, Any]", before), cast("dict[str, Any]", value))
        else:
            tree[name] = _commented(cast("object", value))


def _commented(value: object) -> Any:
    """The value as ruamel's own types: risky text quoted, lists of short words in one line."""
    if isinstance(value, Mapping):
        tree: Any = CommentedMap()
        for name, entry in cast("Mapping[str, object]", value).items():
            tree[_commented(name)] = _commented(entry)
        if not tree:
            tree.fa.set_flow_style()
        return tree
    if isinstance(value, list | tuple):
        items = list(cast("Sequence[object]", value))
        sequence: Any = CommentedSeq([_commented(entry) for entry in items])
        if not any(isinstance(entry, Mapping | list | tuple) for entry in items):
            sequence.fa.set_flow_style()
        return sequence
    if isinstance(value, str) and (not _PLAIN.match(value) or _WORDS.match(value)):
        return DoubleQuotedScalarString(value)
    return value


class _Representer(RoundTripRepresenter):
    """Writes small numbers as people do: 2e-4."""


def _represent_float(representer: Any, value: float) -> Any:
    return representer.represent_scalar("tag:yaml.org,2002:float", float_text(value))


def float_text(value: float) -> str:
    """The shortest text that reads back as `value` in YAML 1.2."""
    text = repr(value)
    if "e" in text or 0 < abs(value) < 0.001:
        mantissa, _, exponent = f"{Decimal(text).normalize():E}".partition("E")
        text = f"{mantissa}e{int(exponent)}"
    return text


def _represent_null(representer: Any, _value: None) -> Any:
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")


_writer: Any = _Representer
_writer.add_representer(float, _represent_float)
_writer.add_representer(type(None), _represent_null)


def _yaml() -> Any:
    yaml: Any = YAML(typ="rt", pure=True)
    yaml.Representer = _Representer
    yaml.width = 10_000
    yaml.preserve_quotes = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _write(tree: object) -> str:
    stream = StringIO()
    _yaml().dump(tree, stream)
    return stream.getvalue()
