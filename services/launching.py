"""Start a training run from a config file, once."""

from __future__ import annotations

from typing import Annotated

import anyio.to_thread
from pydantic import Field

from ..executors.errors import ConfigError, RunError
from ..executors.paths import RunPaths
from ..trainer import records
from ..trainer.contract import METHODS, available_methods
from . import configs, runs
from .app import App
from .environments import find_environment
from .result import Result


class LaunchResult(Result):
    run_id: Annotated[str, Field(description="Names the run in every other tool")]
    folder: Annotated[str, Field(description="The run's folder")]
    config_digest: str
    already_running: Annotated[bool, Field(description="This key had started the run before; nothing was started now")]

    def body(self) -> str:
        verb = "was started before with this key" if self.already_running else "started"
        return f"Run {self.run_id} {verb}. Config {self.config_digest}, folder {self.folder}"


async def launch(app: App, config: str, *, again: bool, key: str | None) -> LaunchResult:
    """Check the config once more and start it.

    Raises:
        ConfigError: the config isn't one that can be trained.
        EnvironmentFault: there is no complete training environment.
        RunError: the same config runs or has just run (`duplicate_run`), the key was used for another config
            (`key_conflict`), or the supervisor didn't come up (`launch_failed`).
    """
    path = app.resolve(config)
    loaded = await anyio.to_thread.run_sync(configs.load_config, path)
    method = METHODS[loaded.config.method]
    if method.module is None:
        raise ConfigError(
            "method_unavailable",
            f"{method.name} ({method.title}) is not in this version; it trains {', '.join(available_methods())}.",
            next_step=f"Change `method` in {path} with write_config, then launch_run again.",
        )
    if key is not None and (former := runs.find_by_key(app, key, "train")) is not None:
        return _same_key(former, loaded.digest, key)
    if not again and (same := runs.find_same_config(app, loaded.digest)) is not None:
        raise RunError(
            "duplicate_run",
            f"Run {same.id} has the same config ({loaded.digest}) and is live or began less than 10 minutes ago.",
            next_step=f"get_run(run_id={same.id!r}) shows it; launch_run(config={config!r}, again=true) trains again.",
        )
    environment = await anyio.to_thread.run_sync(find_environment, app, loaded.config.environment)
    await configs.check_keys(app, loaded.config)
    resolved = configs.resolve_config(loaded.config, path.parent)
    run = await runs.start(
        app,
        runs.Launch(
            kind="train",
            python=environment.python,
            label=loaded.config.method,
            request={"config": str(path), "model": resolved.model.name, "method": loaded.config.method},
            config_text=configs.dump_config(resolved),
            config_digest=loaded.digest,
            key=key,
            max_hours=resolved.resources.max_hours,
            versions=environment.versions,
        ),
    )
    return _launched(run, loaded.digest, already=False)


def _same_key(former: RunPaths, digest: str, key: str) -> LaunchResult:
    record = records.read_json(former.run_json) or {}
    if record.get("config_digest") != digest:
        raise RunError(
            "key_conflict",
            f"The key {key!r} belongs to run {former.id}, which has another config ({record.get('config_digest')}).",
            next_step=f"Use another key, or look at that run with get_run(run_id={former.id!r}).",
        )
    return _launched(former, digest, already=True)


def _launched(run: RunPaths, digest: str, *, already: bool) -> LaunchResult:
    return LaunchResult(
        run_id=run.id,
        folder=str(run.root),
        config_digest=digest,
        already_running=already,
        next_step=f"get_run(run_id={run.id!r}, wait_seconds=45) waits; tail_metrics(run_id={run.id!r}) has the curve.",
    )
