"""Text from logs and data, made harmless to quote: no terminal codes, no hidden characters, no length of its own.

`clean` is for all such text; `quote` also masks secrets, for text that programs wrote (logs, exceptions).
"""

from __future__ import annotations

import re
import unicodedata

_ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")

#: What stands in a secret's place.
MASK = "[secret masked]"


def clean(text: str, limit: int) -> str:
    """`text` without ANSI codes, control, format (bidi, zero-width, tag) and private characters, cut to `limit`.

    Line ends and tabs stay. What is cut is said by a closing `…`.
    """
    return _cut(_visible(text), limit)


def quote(text: str, limit: int) -> str:
    """As `clean`, with secrets masked; masked before it is cut, so that no half of one is left."""
    return _cut(harmless(text), limit)


def harmless(text: str) -> str:
    """As `quote`, uncut: for callers who look into the text before they cut it."""
    return mask_secrets(_visible(text))


def _visible(text: str) -> str:
    text = _ANSI.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    if text.isascii() and text.isprintable():
        return text
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Co", "Cs", "Cn"))


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: max(0, limit - 1)] + "…"


# Each pattern takes time linear in the text: it begins at a literal or where a word begins, every repetition is
# possessive or bounded, and nothing is tried again from the middle of what was looked at.
_WORD = r"(?<![A-Za-z0-9_-])"
_KNOWN = re.compile(
    "|".join(
        (
            rf"{_WORD}hf_[A-Za-z0-9]{{16,}}+",
            rf"{_WORD}sk-[A-Za-z0-9_-]{{16,}}+",
            rf"{_WORD}(?:gh[pousr]_|github_pat_|glpat-|wandb_v1_|pypi-|xox[abprs]-)[A-Za-z0-9_-]{{16,}}+",
            rf"{_WORD}AIza[A-Za-z0-9_-]{{30,}}+",
            rf"{_WORD}(?:AKIA|ASIA)[A-Z0-9]{{16}}(?![A-Za-z0-9])",
            rf"{_WORD}eyJ[A-Za-z0-9_-]{{8,}}+\.[A-Za-z0-9_-]{{8,}}+(?:\.[A-Za-z0-9_-]*+)?",
        )
    )
)
_BEARER = re.compile(
    rf"""(?i){_WORD}((?:bearer|authorization["']?\s{{0,3}}[:=]\s{{0,3}}["']?[a-z]{{1,10}})\s{{1,3}})"""
    r"[A-Za-z0-9._~+/=-]{8,}+"
)
#: user:password@ of an address.
_ADDRESS = re.compile(r"(://[^\s/:@]{0,64}+:)[^\s/@]{1,128}+(?=@)")
_NAMED = re.compile(
    r"(?i)((?:password|passwd|passphrase|secret|api[_-]?key|access[_-]?key|private[_-]?key|credential|token)"
    r"""([A-Za-z0-9_-]{0,16}+)["']?\s{0,3}[=:]\s{0,3}["']?)([^\s"',;&]{4,}+)"""
)
#: The old form of wandb's keys, which a revision looks like too: masked only in a line that speaks of wandb.
_HEX_KEY = re.compile(r"(?<![A-Za-z0-9])[0-9a-f]{40}(?![A-Za-z0-9])")
#: Values that say that there is none, or are a special token of a model.
_NO_SECRET = re.compile(r"(?i)[<\[(]|(?:none|null|true|false)\b")
_NUMBER = re.compile(r"[-+]?[0-9.]+(?:e[-+]?[0-9]+)?(?![A-Za-z0-9_-])")


def mask_secrets(text: str) -> str:
    """`text` with what looks like a secret masked: tokens by their form, values by their name.

    Known forms (Hugging Face, OpenAI, GitHub, GitLab, Slack, Google, AWS, wandb, JSON web tokens), bearer tokens,
    passwords in addresses, and the value of a name that ends in token or has password, secret, credential or api key
    in it. A number isn't taken for a token: training logs are full of those. Takes time linear in the text.
    """
    text = _KNOWN.sub(MASK, text)
    text = _BEARER.sub(rf"\1{MASK}", text)
    text = _ADDRESS.sub(rf"\1{MASK}", text)
    text = _NAMED.sub(_mask_value, text)
    if "wandb" in text.lower():
        lines = text.split("\n")
        text = "\n".join(_HEX_KEY.sub(MASK, line) if "wandb" in line.lower() else line for line in lines)
    return text


_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----")


def holds_token(text: str) -> bool:
    """Whether a token of a known form, or a private key, stands in `text`; values of telling names aren't looked for.

    For vocabularies and the like, in which any word may stand beside any other.
    """
    return _KNOWN.search(text) is not None or _PRIVATE_KEY.search(text) is not None


def _mask_value(found: re.Match[str]) -> str:
    name, rest, value = found.group(1), found.group(2), found.group(3)
    # tokenizer, token_type_ids, tokens: `token` counts only as a name's end.
    of_token = name[:5].lower() == "token"
    if _NO_SECRET.match(value) or (of_token and (rest or _NUMBER.match(value))):
        return found.group(0)
    return name + MASK
