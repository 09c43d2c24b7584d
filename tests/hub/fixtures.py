"""Fixtures: a Hub, its endpoint, and a client of it in this process.

Import them where they are used (tests/hub/conftest.py), or name this module in `pytest_plugins` of the top conftest.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .serving import serving
from .state import Hub

if TYPE_CHECKING:
    from huggingface_hub import HfApi

#: The user of the fixture `hub`, and what it may do.
TOKEN = "hf_ada_may_write"


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    """An empty Hub with one user: ada, who may write to her own repositories and to acme's."""
    made = Hub(tmp_path / "hub")
    made.add_user("ada", token=TOKEN, orgs={"acme": "write"})
    return made


@pytest.fixture
def endpoint(hub: Hub) -> Generator[str]:
    with serving(hub) as address:
        yield address


@pytest.fixture
def online(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Generator[str]:
    """Makes children of this process, and the Hub's client in it, talk to the Hub without Xet; its endpoint.

    The client reads its environment when it is imported, which another test may have caused in an environment of its
    own: hence the constants too. HF_HOME stays what it was then: in this process, give tokens and cache folders.
    """
    from huggingface_hub import close_session, constants

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with warnings.catch_warnings():
        # The client itself still uploads by httpx2's deprecated `data=`.
        warnings.filterwarnings("ignore", "Use 'content=", DeprecationWarning)
        yield endpoint
    close_session()


@pytest.fixture
def api(online: str) -> HfApi:
    """The Hub's own client as ada, in this process."""
    from huggingface_hub import HfApi

    return HfApi(endpoint=online, token=TOKEN)
