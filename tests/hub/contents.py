"""File contents: small text lies in git, everything else in large file storage; on disk by their hashes.

Simpler than the real Hub: what is text is decided by name, size and first bytes, not by `.gitattributes` rules, and
one store serves all repositories.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

#: From the `.gitattributes` that the Hub puts into every new repository.
LARGE_SUFFIXES = frozenset(
    {".arrow", ".bin", ".ckpt", ".gguf", ".gz", ".h5", ".msgpack", ".npy", ".npz", ".onnx", ".parquet"}
    | {".pickle", ".pkl", ".pt", ".pth", ".safetensors", ".tar", ".tgz", ".xz", ".zip", ".zst", ".png", ".jpg"}
)
LARGE_BYTES = 10 << 20
GITATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in sorted(LARGE_SUFFIXES))


@dataclass(frozen=True)
class File:
    """A file's content, as a commit refers to it."""

    stored: Path
    size: int
    oid: str
    """Git's id of the blob: of the content, or of the pointer to it."""
    sha256: str | None = None
    """Of a large file's content; None for a regular file."""
    pointer_size: int = 0

    def read(self) -> bytes:
        return self.stored.read_bytes()

    @property
    def etag(self) -> str:
        """The client takes it as the blob's name in its cache."""
        return self.sha256 or self.oid


def blob_id(data: bytes) -> str:
    """Git's sha1 of a blob."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def is_large(path: str, size: int, sample: bytes) -> bool:
    """Whether a file belongs in large file storage; `sample` is its first 512 bytes."""
    if not size:
        return False
    return Path(path).suffix in LARGE_SUFFIXES or size > LARGE_BYTES or b"\0" in sample


class Blobs:
    """Contents on disk, each under its hash and complete: written beside, then renamed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def keep(self, path: str, content: bytes | Path) -> File:
        """Store what is to lie at `path`, where the Hub would put it."""
        data = content.read_bytes() if isinstance(content, Path) else content
        if not is_large(path, len(data), data[:512]):
            return self.keep_regular(data)
        sha256 = hashlib.sha256(data).hexdigest()
        if self.large(sha256) is None:
            self._write(sha256, data)
        return self._large(sha256, len(data))

    def keep_regular(self, data: bytes) -> File:
        oid = blob_id(data)
        if not (self.folder / oid).exists():
            self._write(oid, data)
        return File(self.folder / oid, len(data), oid)

    def large(self, sha256: str) -> File | None:
        """The large file with this hash, if it was uploaded."""
        try:
            return self._large(sha256, (self.folder / sha256).stat().st_size)
        except FileNotFoundError:
            return None

    def take(self, part: Path, sha256: str) -> None:
        """A verified upload becomes a large file."""
        part.replace(self.folder / sha256)

    def _write(self, name: str, data: bytes) -> None:
        part = self.folder / f".{name}.{os.urandom(4).hex()}"
        part.write_bytes(data)
        part.replace(self.folder / name)

    def _large(self, sha256: str, size: int) -> File:
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
        return File(self.folder / sha256, size, blob_id(pointer), sha256, len(pointer))
