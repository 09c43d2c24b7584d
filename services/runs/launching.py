"""Start a training run from a config file, once."""

from __future__ import annotations

from typing import Annotated, Any

import anyio.to_thread
from pydantic import Field

from ...executors import host, recovering
from ...executors.errors import RunError
from ...executors.paths import RunPaths
from ..app import App
from ..configs import loading as configs
from ..configs.schema import Config
from ..environment.environments import find_environment
from ..result import Result
from . import life as runs
from .refusals import find_room

_CONTAINER = (
    "this server runs in a container: a run ends when the container does (it is `lost` then). Keep the container alive "
    "until the run has ended."
)


class LaunchResult(Result):
    run_id: Annotated[str, Field(description="Names the run in every other tool")]
    folder: Annotated[str, Field(description="The run's folder")]
    config_digest: str
    already_running: Annotated[bool, Field(description="This key had started the run before; nothing was started now")]
    warnings: list[str] = []

    def body(self) -> str:
        verb = "was started before with this key" if self.already_running else "started"
        lines = [f"Run {self.run_id} {verb}. Config {self.config_digest}, folder {self.folder}"]
        return "\n".join(lines + [f"Warning: {warning}" for warning in self.warnings])


async def launch(app: App, config: str, *, again: bool, key: str | None, after: str | None = None) -> LaunchResult:
    """Check the config once more and start it, or put it in the queue; after the success of run `after`, if given.

    Raises:
        ConfigError: the config isn't one that can be trained.
        DataError, ModelError: it points at something that isn't there.
        EnvironmentFault: there is no complete training environment.
        RunError: the same config runs or has just run (`duplicate_run`), the key was used for another config
            (`key_conflict`), this machine can't hold it (`not_enough`), there is no run `after` (`run_not_found`),
            or the supervisor didn't come up (`launch_failed`).
    """
    path = app.resolve(config)
    loaded = await anyio.to_thread.run_sync(configs.load_config, path)

    def former() -> RunPaths | None:
        if key is not None and (found := runs.find_by_key(app, key, "train")) is not None:
            return _same_key(found, loaded.digest, key)
        if not again and (same := runs.find_same_config(app, loaded.digest)) is not None:
            raise _duplicate(same, loaded.digest, config)
        return None

    # Looked at before the checks, for a quick answer, and again when nobody else can start one in between.
    found = await anyio.to_thread.run_sync(former)
    if found is not None:
        return launched(found, loaded.digest, already=True)
    if after is not None:
        app.home.run(after)
    unchecked = await configs.check_keys(app, loaded.config, loaded.document)
    resolved = await anyio.to_thread.run_sync(configs.resolve_config, loaded.config, path.parent)
    launch = await training_launch(
        app, resolved, digest=loaded.digest, key=key, request={"config": str(path)}, after=after
    )
    started = await runs.start_once(app, launch, former)
    container = [_CONTAINER] if host.in_container() else []
    warnings = [] if started.already else [*loaded.warnings, *unchecked, *container]
    return launched(started.run, loaded.digest, already=started.already, warnings=warnings)


async def training_launch(
    app: App,
    config: Config,
    *,
    digest: str,
    request: dict[str, Any],
    key: str | None = None,
    parent: str | None = None,
    after: str | None = None,
) -> runs.Launch:
    """What a resolved config's training run is started from.

    Raises:
        EnvironmentFault: there is no complete training environment.
        RunError: this machine can't hold it (`not_enough`).
    """
    environment = await anyio.to_thread.run_sync(find_environment, app, config.environment)
    pool = await anyio.to_thread.run_sync(find_room, app, config)
    return runs.Launch(
        kind="train",
        python=environment.python,
        label=config.method,
        request={**request, "model": config.model.name, "method": config.method},
        config_text=configs.dump_config(config),
        config_digest=digest,
        key=key,
        parent=parent,
        max_hours=config.resources.max_hours,
        versions=environment.versions,
        pool=pool,
        after=after,
        recovery=_recovery(config),
        stall_minutes=None if config.guards.stall_minutes == "auto" else config.guards.stall_minutes,
    )


def _recovery(config: Config) -> dict[str, Any]:
    """The policy as run.json holds it, with the numbers that recovering may change."""
    numbers = {name: config.training[name] for name in recovering.DEFAULTS if name in config.training}
    return {**config.recovery.model_dump(), "training": numbers}


def launched(run: RunPaths, digest: str, *, already: bool = False, warnings: list[str] | None = None) -> LaunchResult:
    """The answer about a run that was just started."""
    return LaunchResult(
        run_id=run.id,
        folder=str(run.root),
        config_digest=digest,
        already_running=already,
        warnings=warnings or [],
        next_step=f"get_run(run_id={run.id!r}, wait_seconds=45) waits; tail_metrics(run_id={run.id!r}) has the curve.",
    )


def _same_key(former: RunPaths, digest: str, key: str) -> RunPaths:
    record = runs.asked(former)
    if record.get("config_digest") != digest:
        raise RunError(
            "key_conflict",
            f"The key {key!r} belongs to run {former.id}, which has another config ({record.get('config_digest')}).",
            next_step=f"Use another key, or look at that run with get_run(run_id={former.id!r}).",
        )
    return former


def _duplicate(same: RunPaths, digest: str, config: str) -> RunError:
    return RunError(
        "duplicate_run",
        f"Run {same.id} has the same config ({digest}) and is live or began less than 10 minutes ago.",
        next_step=f"get_run(run_id={same.id!r}) shows it; launch_run(config={config!r}, again=true) trains again.",
    )
