"""Calls of tools as next steps write them: ready to be used, with the caller's own values."""

from __future__ import annotations


def as_call(tool: str, **arguments: object) -> str:
    """`tool(name=value, …)` in the arguments' order; those that are None are left out."""
    given = ", ".join(f"{name}={value!r}" for name, value in arguments.items() if value is not None)
    return f"{tool}({given})"
