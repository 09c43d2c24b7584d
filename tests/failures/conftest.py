"""What all rows share: one folder, one Hub, and a server for each way in which one can be started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hub import Hub, serving

from model_trainer.server.app import ModelTrainerServer, build_server, try_open_app
from model_trainer.services.app import App
from model_trainer.services.settings import settings_path
from model_trainer.tools.spec import Opened

from .hub_rows import fill
from .place import Place


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("ground"))
    hub = Hub(tmp_path_factory.mktemp("hub"))
    fill(hub)
    with serving(hub) as place.hub:
        yield place


@pytest.fixture
def place(ground: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    ground.lay_out(monkeypatch)
    yield ground
    ground.sweep()


@pytest.fixture(scope="session")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where state folders and settings lie that can't be used."""
    return tmp_path_factory.mktemp("broken")


@pytest.fixture(scope="session")
def servers(ground: Place, broken: Path) -> dict[str, ModelTrainerServer]:
    """By what happened at their start; built once, because that takes as long as ten calls."""
    (broken / "a-file").touch()
    (broken / "foreign").mkdir()
    os.chown(broken / "foreign", 12345, 12345)
    opened: dict[str, Opened] = {
        "usual": ground.app,
        "homeless": replace(ground.app, workspace=None),
        "foreign_state": _opened(MODEL_TRAINER_STATE=str(broken / "foreign")),
        "state_unwritable": _opened(MODEL_TRAINER_STATE=str(broken / "a-file")),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(broken))
        settings_path().parent.mkdir()
        settings_path().write_text("cpu_slot = 2\n", encoding="utf-8")
        opened["invalid_settings"] = _opened()
    return {name: build_server(one) for name, one in opened.items()}


def _opened(**environment: str) -> Opened:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        opened = try_open_app(None)
    assert not isinstance(opened, App)
    return opened
