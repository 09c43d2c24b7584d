"""Text from logs and data, made harmless to quote: no terminal codes, no hidden characters, no length of its own."""

from __future__ import annotations

import re
import unicodedata

_ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")


def clean(text: str, limit: int) -> str:
    """`text` without ANSI codes, control, format (bidi, zero-width, tag) and private characters, cut to `limit`.

    Line ends and tabs stay. What is cut is said by a closing `…`.
    """
    text = _ANSI.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Co", "Cs", "Cn"))
    return text if len(text) <= limit else text[: max(0, limit - 1)] + "…"
