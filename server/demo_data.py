"""Real text that is on every machine: Python's standard library as (signature, first line of the docstring) pairs."""

from __future__ import annotations

import ast
import json
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

#: Parts of the standard library that hold tests or generated code rather than documented functions.
_LEFT_OUT = {"test", "tests", "idlelib", "lib2to3", "site-packages", "turtledemo", "ensurepip", "__pycache__"}


def write_pairs(path: Path, limit: int | None = None) -> int:
    """Write the pairs as JSONL with the columns prompt and completion; returns how many."""
    count = 0
    with open(path, "w", encoding="utf-8") as file:
        for signature, summary in docstring_pairs():
            if limit is not None and count >= limit:
                break
            file.write(json.dumps({"prompt": signature + "\n", "completion": summary}, ensure_ascii=False) + "\n")
            count += 1
    return count


def docstring_pairs() -> Iterator[tuple[str, str]]:
    """Every documented function, method and class: its signature and the first line of its docstring, each once.

    Sources are parsed, never imported: no module's side effects happen.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    seen: set[tuple[str, str]] = set()
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if _LEFT_OUT & set(parts):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError, ValueError):
            continue
        module = ".".join(part for part in parts if part != "__init__")
        for pair in _documented(tree, module):
            if pair not in seen:
                seen.add(pair)
                yield pair


def _documented(node: ast.AST, prefix: str) -> Iterator[tuple[str, str]]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        name = f"{prefix}.{child.name}"
        summary = (ast.get_docstring(child) or "").strip().split("\n")[0].strip()
        if 12 <= len(summary) <= 200:
            if isinstance(child, ast.ClassDef):
                yield f"class {name}:", summary
            else:
                yield f"def {name}({ast.unparse(child.args)}):", summary
        if isinstance(child, ast.ClassDef):
            yield from _documented(child, name)
