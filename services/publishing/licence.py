"""The base model's licence, which what was trained from it inherits: as its own card says, never guessed. Blocking."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...trainer import records
from ..configs import loading as configs
from ..planning.model_cache import find_snapshot
from ..planning.open_models import open_models
from ..untrusted import clean

#: Seconds for the Hub's answer.
_SECONDS = 8.0

_CARD_LIMIT = 1_000_000
_ADDRESS = re.compile(r"https?://[A-Za-z0-9._~/?#@!$&*+,;=%:-]{1,300}")


@dataclass(frozen=True)
class Licence:
    """A licence by the Hub's id (`apache-2.0`, `other`, …), and who says so."""

    id: str
    name: str | None
    """Of an `other` licence."""
    link: str | None
    source: str


def licence_of(name: str, commit: str | None, *, ask_hub: bool, kept: Path) -> Licence | None:
    """The licence of a base model (Hub id or folder); None where nobody says.

    Looked for in the base's own card (folder, cache, then the Hub where it may be asked), then in our table of models.
    Found once it is kept in the file `kept`: a card must not change by whether the Hub answers today.
    """
    try:
        known = records.read_json(kept)
    except ValueError:
        known = None
    if known is not None:
        return Licence(**known)
    found = _look_for(name, commit, ask_hub=ask_hub)
    if found is not None:
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        records.write_json(kept, asdict(found))
    return found


def _look_for(name: str, commit: str | None, *, ask_hub: bool) -> Licence | None:
    if not configs.is_hub_id(name):
        return _from_card(Path(name) / "README.md", "the base model's card")
    snapshot = find_snapshot(name, commit)
    if snapshot is not None and (found := _from_card(snapshot.folder / "README.md", f"the card of {name}")):
        return found
    if ask_hub and (found := _from_hub(name, commit)):
        return found
    listed = next((model.info.license for model in open_models() if model.info.name == name), None)
    return None if listed is None else Licence(listed, None, None, "Model Trainer's table of open models")


def _from_card(path: Path, source: str) -> Licence | None:
    from huggingface_hub import ModelCard

    try:
        if path.stat().st_size > _CARD_LIMIT:
            return None
        card = ModelCard(path.read_text(encoding="utf-8"), ignore_metadata_errors=True)
    except (OSError, ValueError):
        return None
    return _licence(card.data.to_dict(), source)


def _from_hub(name: str, commit: str | None) -> Licence | None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from huggingface_hub.utils import httpx

    try:
        info = HfApi(endpoint=os.environ.get("HF_ENDPOINT")).model_info(name, revision=commit, timeout=_SECONDS)
    except (HfHubHTTPError, HFValidationError, httpx.HTTPError, OSError):
        return None
    data: dict[str, Any] = info.card_data.to_dict() if info.card_data else {}
    if "license" not in data:
        tags = [tag.partition(":")[2] for tag in info.tags or [] if tag.startswith("license:")]
        data = {"license": tags[0]} if tags else {}
    return _licence(data, f"the card of {name}")


def _licence(data: dict[str, Any], source: str) -> Licence | None:
    found = data.get("license")
    if isinstance(found, list):
        found = found[0] if found else None  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(found, str) or not found.strip():
        return None

    name, link = data.get("license_name"), data.get("license_link")
    return Licence(
        id=clean(found.strip(), 60).replace("\n", " "),
        name=clean(name, 100).replace("\n", " ") if isinstance(name, str) else None,
        # It stands in a page as a link: anything that isn't plainly an address is left out.
        link=link if isinstance(link, str) and _ADDRESS.fullmatch(link) else None,
        source=source,
    )
