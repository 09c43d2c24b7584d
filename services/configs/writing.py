"""write_config: a plan, a former config or a former run, with overrides, becomes a checked file."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread

from ...executors.errors import ArgumentError, PlanError
from ..app import App
from . import emit as config_emit
from . import files as config_files
from . import loading as configs
from . import overrides as config_overrides
from . import text as config_text
from .checks import validate
from .results import WriteConfigResult
from .schema import Config
from .text import Document

DIFF_LINES = 40


@dataclass(frozen=True)
class WriteRequest:
    """What write_config is asked for; exactly one of `plan`, `base` and `run` is given."""

    path: str
    plan: str | None = None
    alternative: str | None = None
    base: str | None = None
    run: str | None = None
    overrides: Mapping[str, Any] | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class _Source:
    name: str
    document: Document
    header: str = ""


async def write_config(app: App, request: WriteRequest) -> WriteConfigResult:
    """Write a config that launch_run will take.

    Raises:
        ArgumentError: not exactly one source, overrides that can't be applied, a path where no config belongs.
        ConfigError: what came out isn't a config, or another file is at the path (`config_exists`).
        DataError, ModelError: it points at something that isn't there.
        PlanError, RunError: there is no such plan or run.
        EnvironmentFault: a package that it needs is missing.
    """
    path = app.resolve(request.path)
    config_files.check_target(path, app.home)
    source = await anyio.to_thread.run_sync(_source, app, request, path)
    data = config_overrides.apply(source.document.data, request.overrides or {})
    text = source.header + await anyio.to_thread.run_sync(config_emit.edit, source.document, data)
    document = config_text.parse(text, str(path), on_disk=False)
    config, warnings = validate(document)
    warnings += await configs.check_keys(app, config, document)
    resolved = await anyio.to_thread.run_sync(configs.resolve_config, config, path.parent)
    written, backup = await anyio.to_thread.run_sync(_write, path, text, request.overwrite)
    return WriteConfigResult(
        path=str(path),
        digest=configs.digest(resolved),
        source=source.name,
        summary=_summary(resolved),
        written=written,
        backup=None if backup is None else str(backup),
        diff=_diff(source, text),
        warnings=[warning[:400] for warning in warnings[:10]],
        next_step=f"launch_run(config={str(path)!r})",
    )


def _write(path: Path, text: str, overwrite: bool) -> tuple[bool, Path | None]:
    return config_files.write(path, text, overwrite=overwrite)


def _source(app: App, request: WriteRequest, path: Path) -> _Source:
    given = [name for name in ("plan", "base", "run") if getattr(request, name) is not None]
    if len(given) != 1 or (request.alternative is not None and request.plan is None):
        said = f"got {' and '.join(given)}" if given else "got none"
        raise ArgumentError(
            "invalid_arguments",
            f"write_config starts from exactly one of plan, base and run ({said}); alternative goes with plan.",
            next_step="Call it with plan='plan-…' from plan_training, base='FILE.yaml', or run='RUN_ID' of list_runs.",
        )
    if request.plan is not None:
        return _from_plan(app, request.plan, request.alternative)
    if request.run is not None:
        document = config_text.read(app.home.run(request.run).config)
        header = f"# Model Trainer config, written by write_config from run {request.run}.\n"
        return _Source(f"run {request.run}", document, header)
    base = app.resolve(request.base or "")
    document = config_text.read(base)
    if base.parent.resolve() != path.parent.resolve():
        document = _moved(document, base.parent)
    return _Source(str(base), document)


def _from_plan(app: App, plan_id: str, alternative: str | None) -> _Source:
    # Here: a config made from another file or a run needs nothing of planning.
    from ..planning.store import load_plan

    plan = load_plan(app.home, plan_id)
    config, label = plan.config, "recommended"
    if alternative is not None:
        found = {entry.label: entry.config for entry in plan.alternatives}
        if alternative not in found:
            raise PlanError(
                "plan_not_found",
                f"Plan {plan_id} has no alternative {alternative[:80]!r}; it has {', '.join(found) or 'none'}.",
                next_step=f"Call write_config(plan={plan_id!r}) with one of them, or without for the recommended one.",
            )
        config, label = found[alternative], alternative
    text = configs.dump_config(config)
    header = f"# Model Trainer config, written by write_config from plan {plan_id} ({label}).\n"
    return _Source(f"plan {plan_id} ({label})", config_text.parse(text, f"plan {plan_id}"), header)


def _moved(document: Document, folder: Path) -> Document:
    """The base with its relative paths made absolute: the new file lies elsewhere."""
    config, _ = validate(document)
    absolute, data = configs.plain(configs.absolute_config(config, folder)), dict(document.data)
    for section, names in {"model": ("name", "chat_template"), "eval_dataset": ("path",)}.items():
        if isinstance(data.get(section), dict):
            new = {name: absolute[section][name] for name in names if name in data[section]}
            data[section] = data[section] | {name: value for name, value in new.items() if data[section][name]}
    data["datasets"] = [
        entry | {"path": moved["path"]} for entry, moved in zip(data["datasets"], absolute["datasets"], strict=True)
    ]
    text = config_emit.edit(document, data)
    return config_text.parse(text, document.name)


def _diff(source: _Source, text: str) -> str:
    """What changed against the source, without the header line that says where it is from."""
    before = source.document.text.splitlines()
    after = text.removeprefix(source.header).splitlines()
    lines = list(difflib.unified_diff(before, after, source.name, "config", lineterm="", n=1))
    if len(lines) > DIFF_LINES:
        lines = [*lines[: DIFF_LINES - 1], f"[{len(lines) - DIFF_LINES + 1} more lines]"]
    return "\n".join(line[:200] for line in lines)


def _summary(config: Config) -> str:
    kind = "full fine-tuning" if config.peft is None else str(config.peft.get("type"))
    if config.quantization is not None:
        kind = f"{kind} on {config.quantization}"
    data = config.datasets[0].path if len(config.datasets) == 1 else f"{len(config.datasets)} datasets"
    where = "CPU" if config.resources.gpus == 0 else f"{config.resources.gpus} GPU"
    return f"{config.method}, {kind}, of {config.model.name} on {data}, {where}"[:600]
