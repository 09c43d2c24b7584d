"""Where a row happens: a workspace with something good to train on, a stand-in that trains, an empty state folder."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from string import Template
from typing import Any, cast

import pytest
from made_runs import made_run
from planning_toys import LLAMA, model_folder
from stand_ins import training_python

from model_trainer.executors.paths import Home, RunPaths
from model_trainer.services.app import App
from model_trainer.services.settings import Settings
from model_trainer.trainer import records

CONFIG = """\
method: sft
model: {name: model, dtype: float32}
datasets: [{path: pairs.jsonl}]
eval_dataset: null
peft: {type: lora, r: 8}
training: {max_steps: 3, learning_rate: 1e-3}
"""
RUN = "20260101-000001-sft-aaaaa"

#: Below the state folder, what may come and go: it holds nothing that anybody made.
_PASSING = ("server.log", "locks", "cache", "code")


class Place:
    """One folder for all rows, swept and laid out anew for each; `names` is what texts may speak of."""

    def __init__(self, root: Path) -> None:
        self.root, self.workspace, self.tools = root, root / "workspace", root / "tools"
        state = root / "state"
        self.app = App(Home(root=state, runs=state / "runs"), Settings(), self.workspace)
        self.patch = pytest.MonkeyPatch()
        self.names: dict[str, str] = {}
        self.hub = ""
        self._held: list[int] = []

    def lay_out(self, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch
        home = self.app.home
        for folder in (self.workspace, self.tools, home.runs, home.plans, home.envs, home.code, home.cache, home.locks):
            folder.mkdir(parents=True)
        self.names = {"workspace": str(self.workspace), "state": str(home.root), "run": RUN}
        self.rows("pairs.jsonl", [{"prompt": f"What is {n}?", "completion": f" It is {n}."} for n in range(60)])
        self.write("config.yaml", CONFIG)
        model_folder(self.workspace / "model")
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        self.environment()

    def sweep(self) -> None:
        """Let go of what is held, and remove everything."""
        for descriptor in self._held:
            os.close(descriptor)
        self._held.clear()
        for folder in self.root.iterdir():
            shutil.rmtree(folder)

    def told(self, text: str) -> str:
        """A text of the table with the names of the place filled in."""
        return Template(text).safe_substitute(self.names)

    def asked(self, arguments: object) -> Any:
        """The arguments of a row, the same way."""
        if isinstance(arguments, dict):
            return {name: self.asked(value) for name, value in cast("dict[str, object]", arguments).items()}
        return self.told(arguments) if isinstance(arguments, str) else arguments

    def environment(self, **answers: str) -> Path:
        """The training environment that applies; see `stand_ins.training_python`."""
        python = training_python(self.tools, **answers)
        self.names["python"] = str(python)
        self.patch.setenv("MODEL_TRAINER_PYTHON", str(python))
        return python

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def rows(self, name: str, rows: list[Any]) -> Path:
        return self.write(name, "".join(json.dumps(row) + "\n" for row in rows))

    def config(self, old: str = "", new: str = "") -> Path:
        """config.yaml with one text replaced by another."""
        assert old in CONFIG
        return self.write("config.yaml", CONFIG.replace(old, new) if old else CONFIG + new)

    def model(self, name: str, config: dict[str, Any] | None = None, **files: bytes) -> Path:
        """A model's folder, a Llama's where nothing else is said."""
        return model_folder(self.workspace / name, None if config is None else {**LLAMA, **config}, **files)

    def run(self, outcome: dict[str, Any] | None, **more: Any) -> RunPaths:
        """A run's folder under the name $run; see `made_runs.made_run`."""
        resolved = CONFIG.replace("model,", f"{self.workspace}/model,").replace("pairs", f"{self.workspace}/pairs")
        given: dict[str, Any] = {"config": resolved, "python": self.names["python"], **more}
        return made_run(self.app, RUN, outcome, **given)

    def live_run(self) -> RunPaths:
        """A run that lives, by all that a reader can see: its lock is held."""
        run = self.run(None)
        records.append_line(run.events, {"event": "running", "attempt": 1})
        descriptor = os.open(run.lock, os.O_RDWR)
        self._held.append(descriptor)
        assert records.try_lock(descriptor)
        return run

    def contents(self) -> dict[str, object]:
        """Every file and link of workspace and state folder, but for what may come and go."""
        found: dict[str, object] = {}
        state = self.app.home.root
        kept = [folder for folder in state.iterdir() if not folder.name.startswith(_PASSING)]
        for path in (path for folder in (self.workspace, *kept) for path in (folder, *folder.rglob("*"))):
            name = str(path.relative_to(self.root))
            if path.is_symlink():
                found[name] = path.readlink()
            elif path.is_file():
                # A model of some TiB is a file without blocks: its beginning is all there is to read.
                with open(path, "rb") as file:
                    found[name] = (path.stat().st_size, file.read(1_000_000))
        return found
