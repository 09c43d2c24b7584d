"""What goes out: the files of an output folder that belong there, cleaned of this machine, and nothing else.

Only what the allow-list names leaves: weights as safetensors, tokenizer, configs, and the card and curve that are
written here. Everything else (pickles such as `training_args.bin`, logs, checkpoints, links) stays and is told.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from ...executors.errors import PublishError
from ...executors.paths import RunPaths
from ...trainer import records
from ...trainer.bundles import SMALL, Item, git_blob

CARD = "README.md"
CURVE = "curve.png"

#: All that a preview shows, where it is too much for an answer.
MANIFEST = "files.json"

_ALLOWED = frozenset(
    {
        *("adapter_config.json", "adapter_model.safetensors"),
        *("config.json", "generation_config.json", "model.safetensors", "model.safetensors.index.json"),
        *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
        *("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json", "vocab.txt", "merges.txt"),
        *("chat_template.jinja", "preprocessor_config.json", "processor_config.json"),
    }
)
_SHARD = re.compile(r"(adapter_)?model-[0-9]{5}-of-[0-9]{5}\.safetensors")

#: Small files of settings: paths of this machine are taken out of their values.
CONFIGS = frozenset(
    {
        *("adapter_config.json", "config.json", "generation_config.json", "tokenizer_config.json"),
        *("preprocessor_config.json", "processor_config.json"),
    }
)

#: Files on the Hub that decide what is loaded: one of a former model must not stay beside ours.
_LOADED = re.compile(r".*\.(safetensors|safetensors\.index\.json|bin|bin\.index\.json|pt|pth|h5|msgpack|gguf)\Z")

_CONFIG_LIMIT = 2_000_000


@dataclass(frozen=True)
class Base:
    """The model that was trained from."""

    name: str
    """Hub id, or a local folder's name."""
    on_hub: bool
    commit: str | None
    """Of a Hub model, where the trainer recorded it."""


@dataclass(frozen=True)
class BundleFile:
    """One file that goes out."""

    path: str
    source: Path
    size: int
    sha256: str
    content: bytes | None = None
    """What was written for it; None: it goes as it lies in the output folder."""


@dataclass(frozen=True)
class Bundle:
    files: tuple[BundleFile, ...]
    left_out: tuple[str, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    def named(self, name: str) -> BundleFile | None:
        """The file of that name."""
        return next((file for file in self.files if file.path == name), None)


def gather(run: RunPaths, written: Mapping[str, bytes], base: Base) -> Bundle:
    """The bundle of a run's output and of what was written for it (`written`: card, curve). Blocking: hashes all.

    Raises:
        PublishError: a config can't be read (`unsafe_files`).
    """
    known = _Hashes(run.publish / "hashes.json")
    files: list[BundleFile] = []
    left_out: list[str] = []
    for path in sorted(run.output.iterdir()):
        name = path.name
        if name in written:
            continue
        if path.is_symlink() or not path.is_file() or not (name in _ALLOWED or _SHARD.fullmatch(name)):
            left_out.append(name)
            continue
        cleaned = _cleaned(run, path, base) if name in CONFIGS else None
        if cleaned is None:
            files.append(BundleFile(name, path, path.stat().st_size, known.of(path)))
            known.keep()
        else:
            files.append(_written(name, cleaned))
    files += [_written(name, content) for name, content in written.items()]
    files.sort(key=lambda file: (file.path != CARD, file.path))
    return Bundle(tuple(files), tuple(left_out))


def git_name(file: BundleFile) -> str | None:
    """The name that git gives the file's content; None for one too big to be kept by git itself on the Hub."""
    if file.size > SMALL:
        return None
    return git_blob(file.content if file.content is not None else file.source.read_bytes())


def lies_in(folder: Path, bundle: Bundle) -> bool:
    """Whether a folder holds exactly the bundle, byte for byte. Blocking: reads it."""
    if not folder.is_dir() or {path.name for path in folder.iterdir()} != {file.path for file in bundle.files}:
        return False
    for file in bundle.files:
        there = folder / file.path
        if not there.is_file() or there.stat().st_size != file.size:
            return False
        with open(there, "rb") as opened:
            if hashlib.file_digest(opened, "sha256").hexdigest() != file.sha256:
                return False
    return True


def to_remove(bundle: Bundle, there: Iterable[str]) -> tuple[str, ...]:
    """Files of a repository that would be loaded in place of ours or beside them; its history keeps them."""
    ours = {file.path for file in bundle.files}
    return tuple(
        name for name in there if name not in ours and "/" not in name and (_LOADED.fullmatch(name) or name in _ALLOWED)
    )


def stage(run: RunPaths, digest: str, bundle: Bundle) -> list[Item]:
    """Lay down what was written for the bundle, and `files.json`; its files as a push run is asked for them.

    A folder of its own per digest, which says what is in it: a later look at the same run changes nothing in it.
    """
    folder = run.publish / digest
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    items: list[Item] = []
    for file in bundle.files:
        source = file.source
        if file.content is not None:
            source = folder / file.path
            write_file(source, file.content)
        items.append(Item(file.path, str(source), file.size, file.sha256))
    records.write_json(folder / MANIFEST, {"files": [asdict(item) for item in items]})
    return items


def _written(name: str, content: bytes) -> BundleFile:
    return BundleFile(name, Path(name), len(content), hashlib.sha256(content).hexdigest(), content)


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; its folder is made."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    with open(temporary, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _cleaned(run: RunPaths, path: Path, base: Base) -> bytes | None:
    """A config without paths of this machine; None where nothing had to change.

    Raises:
        PublishError: it is too big to be one, or no JSON: nobody can say what is in it (`unsafe_files`).
    """
    try:
        if path.stat().st_size > _CONFIG_LIMIT:
            raise ValueError(f"it has {path.stat().st_size:,} bytes")
        config: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PublishError(
            "unsafe_files",
            f"{path.name} of run {run.id} can't be read as a config ({str(error)[:120]}), so it can't be cleaned of "
            "paths. Nothing was published.",
            next_step=f"Look at {path}; then call push_adapter again.",
        ) from None
    cleaned = without_paths(config)
    if path.name == "adapter_config.json" and isinstance(cleaned, dict):
        # A local base must not become the Hub's model of the same name.
        cleaned["base_model_name_or_path"] = base.name if base.on_hub else f"./{base.name}"
        if base.commit is not None:
            cleaned["revision"] = base.commit
    return None if cleaned == config else (json.dumps(cleaned, indent=2, ensure_ascii=False) + "\n").encode()


def without_paths(value: object) -> Any:
    """Plain values with the last part in place of each absolute path."""
    if isinstance(value, dict):
        return {name: without_paths(one) for name, one in cast("dict[str, object]", value).items()}
    if isinstance(value, list):
        return [without_paths(one) for one in cast("list[object]", value)]
    if isinstance(value, str) and re.fullmatch(r"(/|~/)[^\0\n]+/[^\0\n]*", value):
        return Path(value).name
    return value


class _Hashes:
    """Hashes of files that haven't changed since they were read: a preview and its yes read big weights once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._known = records.read_json(path) or {}
        except ValueError:
            self._known = {}
        self._seen: dict[str, Any] = {}

    def of(self, path: Path) -> str:
        stat = path.stat()
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        known = self._known.get(path.name)
        if known is None or known[:4] != stamp:
            with open(path, "rb") as file:
                known = [*stamp, hashlib.file_digest(file, "sha256").hexdigest()]
        self._seen[path.name] = known
        return str(known[4])

    def keep(self) -> None:
        """Write them down for the next time."""
        if self._seen != self._known:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            records.write_json(self._path, self._seen)
