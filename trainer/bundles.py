"""What a push run is asked to put somewhere, as the server writes it and the run reads it. Standard library only."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

#: Bytes up to which a file is held in memory from the look at its hash until it is there. The Hub keeps files above
#: 10 MB by their SHA-256, smaller ones by git's name or their SHA-256: what git names is always held.
SMALL = 16_000_000

#: What the Hub itself puts into a new repository.
HUBS_OWN = frozenset({".gitattributes"})


@dataclass(frozen=True)
class Item:
    """One file of a bundle: its name there, where it lies here, and what it must be."""

    path: str
    source: str
    size: int
    sha256: str


def git_blob(content: bytes) -> str:
    """The name that git gives a file's content: SHA-1 over `blob <size>`, a zero byte and the content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
