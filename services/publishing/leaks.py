"""The last look at what goes out: tokens of this machine, things that look like tokens, and paths of this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from ...executors.errors import PublishError
from ...executors.paths import RunPaths
from ..app import App
from ..environment.accounts import hugging_face_token_file
from ..untrusted import holds_token, mask_secrets
from .bundle import CARD, CONFIGS, Bundle, BundleFile

#: Variables whose values are secrets.
_SECRET_NAME = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|API_KEY|ACCESS_KEY|CREDENTIALS?)\Z|\A(HF|WANDB)_.*KEY\Z")

#: Shorter values are words that stand anywhere; in a vocabulary longer ones do too.
_SHORTEST, _SHORTEST_IN_VOCABULARIES = 8, 16

#: Of weights only the header is text.
_HEADER = 1_000_000


def refuse_leaks(app: App, run: RunPaths, bundle: Bundle) -> None:
    """Refuse a bundle that would tell secrets or places of this machine. Blocking: reads its text files.

    Raises:
        PublishError: `unsafe_files`, naming the file and what kind of thing is in it, never the thing.
    """
    secrets = _secrets()
    places = _places((run.root, app.home.root, app.home.runs, app.workspace, Path.home()))
    for file in bundle.files:
        if file.path.endswith(".png"):
            continue
        content = _text_of(file)
        text = content.decode("utf-8", errors="replace")
        written = file.path in CONFIGS or file.path == CARD or file.path.endswith(".jinja")
        least = _SHORTEST if written else _SHORTEST_IN_VOCABULARIES
        if any(len(secret) >= least and secret in content for secret in secrets):
            raise _refusal(run, file, "a token or password of this machine's environment")
        if holds_token(text) or (written and mask_secrets(text) != text):
            raise _refusal(run, file, "something that looks like a token, a key or a password")
        if written and places is not None and (found := places.search(text)) is not None:
            raise _refusal(run, file, f"a path of this machine ({found[0]})")


def _places(folders: Iterable[Path | None]) -> re.Pattern[str] | None:
    """Finds paths that are or lie below one of these folders; a folder directly below / is a word like any other."""
    names = {re.escape(str(folder)) for folder in folders if folder is not None and len(folder.parts) > 2}
    return re.compile(rf"(?<![\w.-])(?:{'|'.join(sorted(names))})(?![\w-])") if names else None


def _text_of(file: BundleFile) -> bytes:
    if file.content is not None:
        return file.content
    with open(file.source, "rb") as opened:
        return opened.read(_HEADER if file.path.endswith(".safetensors") else -1)


def _secrets() -> list[bytes]:
    """Values that must not go out."""
    values = [value for name, value in os.environ.items() if _SECRET_NAME.search(name)]
    token_file = hugging_face_token_file()
    if _is_readable(token_file):
        values.append(token_file.read_text(encoding="utf-8", errors="replace").strip())
    return [value.encode() for value in values]


def _is_readable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.R_OK)


def _refusal(run: RunPaths, file: BundleFile, what: str) -> PublishError:
    where = "what was written for it" if file.content is not None else str(file.source)
    return PublishError(
        "unsafe_files",
        f"{file.path} of run {run.id} holds {what} ({where}). Nothing was published.",
        next_step=f"Take it out of {file.path} in {run.output} (what stands in the card comes from the run's config "
        "and names of data), then call push_adapter again.",
    )
