"""Attempts of a training run, started one by one without a supervisor: what a trainer finds, writes and survives."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from programs import SECONDS

from model_trainer.executors.paths import Home, RunPaths
from model_trainer.executors.snapshot import snapshot
from model_trainer.services.configs import emit, loading
from model_trainer.services.configs.schema import Config
from model_trainer.trainer import records
from model_trainer.trainer.contract import SNAPSHOT_PACKAGE


@dataclass(frozen=True)
class Attempts:
    """A run folder with what a supervisor would have put there, and the Python that trains."""

    folder: Path
    python: Path
    code: Path

    @classmethod
    def of(cls, folder: Path, python: Path, *, request: dict[str, Any] | None = None, **config: Any) -> Attempts:
        """A new run in `folder`, whose config has these sections."""
        home = Home(root=folder, runs=folder)
        home.code.mkdir(parents=True)
        attempts = cls(folder, python, snapshot(home))
        attempts.run.root.mkdir()
        records.write_json(attempts.run.run_json, {"kind": "train", "request": request or {}})
        attempts.run.config.write_text(emit.dump(loading.plain(Config.model_validate(config))), encoding="utf-8")
        return attempts

    @property
    def run(self) -> RunPaths:
        return RunPaths(root=self.folder / "run", lock=self.folder / "lock")

    def copy(self, folder: Path) -> Attempts:
        """The run as it is now, in another folder, to be damaged there."""
        shutil.copytree(self.run.root, folder / "run")
        return Attempts(folder, self.python, self.code)

    def begin(
        self, number: int, *, resume: bool = True, training: dict[str, Any] | None = None, inject: str = ""
    ) -> subprocess.Popen[str]:
        """Start the trainer of an attempt, with these changes to the config's `training`.

        `inject` is Python that the trainer runs before it begins.
        """
        attempt = self.run.attempt(number)
        attempt.root.mkdir(parents=True)
        config = loading.load_config(self.run.config).config
        config = config.model_copy(update={"training": {**config.training, **(training or {})}})
        attempt.config.write_text(emit.dump(loading.plain(config)), encoding="utf-8")
        records.write_json(attempt.root / "attempt.json", {"number": number, "resume": resume and number > 1})
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "HF_HOME": str(home / "hf"),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(self.code),
        }
        if inject:
            script = attempt.root / "inject.py"
            script.write_text(inject, encoding="utf-8")
            environment["FORK_INJECT"] = str(script)
        with open(attempt.log, "w", encoding="utf-8") as log:
            return subprocess.Popen(
                [str(self.python), "-m", f"{SNAPSHOT_PACKAGE}.trainer", "train", str(attempt.root)],
                cwd=home,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def train(self, number: int, **how: Any) -> dict[str, Any]:
        """The result of an attempt that may take its time, whatever it is."""
        with self.begin(number, **how) as process:
            process.wait(SECONDS)
        return self.result(number)

    def result(self, number: int) -> dict[str, Any]:
        """What an attempt's trainer said at its end."""
        result = records.read_json(self.run.attempt(number).result)
        assert result is not None, self.log(number)[-3000:]
        return result

    def log(self, number: int) -> str:
        return self.run.attempt(number).log.read_text(encoding="utf-8")

    def rows(self, number: int) -> list[dict[str, Any]]:
        """The metric rows of training steps that an attempt wrote."""
        return [row for row in records.read_lines(self.run.attempt(number).metrics)[0] if "loss" in row]

    def curve(self, name: str = "loss") -> dict[int, float]:
        """A metric by step over all attempts: of each step the newest attempt's."""
        numbers = sorted(int(path.name) for path in (self.run.root / "attempts").iterdir())
        return {row["step"]: row[name] for number in numbers for row in self.rows(number)}

    def checkpoint(self, step: int) -> Path:
        return self.run.checkpoints / f"checkpoint-{step}"

    def weights(self) -> bytes:
        """The adapter that came out."""
        return (self.run.output / "adapter_model.safetensors").read_bytes()
