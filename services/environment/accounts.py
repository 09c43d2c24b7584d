"""Which accounts are logged in: whether a token is there, never the token. No file that holds one is read out."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ..result import Frozen
from ..settings import Settings

#: A netrc is small; one that isn't is not searched further.
_NETRC_LIMIT = 100_000


class Account(Frozen):
    name: str
    logged_in: Annotated[bool, Field(description="A token is there; whether it is valid only the service knows")]
    where: Annotated[str | None, Field(description="Where the token lies: a variable's name or a file")] = None
    reaches_runs: Annotated[bool, Field(description="Runs will find it too")] = False
    note: Annotated[str | None, Field(description="What it is needed for, and how to log in")] = None


def look_at_accounts(settings: Settings) -> list[Account]:
    """Hugging Face and Weights & Biases."""
    return [_hugging_face(settings), _wandb(settings)]


def _hugging_face(settings: Settings) -> Account:
    name = "Hugging Face"
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if os.environ.get(variable):
            return _from_variable(name, variable, settings)
    token = hugging_face_token_file()
    if _holds_something(token):
        # A run finds the file by HOME and HF_HOME, which it inherits; another place must be named to it.
        reaches = "HF_TOKEN_PATH" not in os.environ or "HF_TOKEN_PATH" in settings.inherit_env
        return Account(name=name, logged_in=True, where=str(token), reaches_runs=reaches)
    return Account(
        name=name,
        logged_in=False,
        note="needed for gated models and for publishing only; log in with `hf auth login` "
        "(agent hosts pass no HF_TOKEN on, the token file is found)",
    )


def hugging_face_token_file() -> Path:
    """Where huggingface_hub keeps the token."""
    if given := os.environ.get("HF_TOKEN_PATH"):
        return Path(given).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("HF_HOME") or f"{cache}/huggingface").expanduser() / "token"


def _wandb(settings: Settings) -> Account:
    name = "Weights & Biases"
    if os.environ.get("WANDB_API_KEY"):
        return _from_variable(name, "WANDB_API_KEY", settings)
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").partition("://")[2].rstrip("/")
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    if _names_machine(netrc, host):
        return Account(name=name, logged_in=True, where=str(netrc), reaches_runs="NETRC" not in os.environ)
    return Account(
        name=name, logged_in=False, note="needed for `tracking.report_to: wandb` only; log in with `wandb login`"
    )


def _from_variable(name: str, variable: str, settings: Settings) -> Account:
    reaches = variable in settings.inherit_env
    note = None if reaches else f'runs don\'t inherit it; to let them, the human adds "{variable}" to inherit_env'
    return Account(name=name, logged_in=True, where=variable, reaches_runs=reaches, note=note)


def _holds_something(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size > 0
    except OSError:
        return False


def _names_machine(path: Path, host: str) -> bool:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            words = file.read(_NETRC_LIMIT).split()
    except OSError:
        return False
    return any(word == "machine" and name == host for word, name in pairwise(words))
