"""Run folders as runs leave them, without the runs: whatever a reader may meet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from model_trainer.executors.paths import RunPaths
from model_trainer.services.app import App
from model_trainer.trainer import manifests, records

SUCCEEDED: dict[str, Any] = {"succeeded": "planned_end"}
CANCELLED: dict[str, Any] = {"cancelled": "request"}


def failed(reason: str = "diverged", detail: str = "") -> dict[str, Any]:
    """The outcome of a run that failed."""
    return {"failed": reason, "detail": detail}


def made_run(
    app: App,
    run_id: str,
    outcome: dict[str, Any] | None,
    *,
    config: str | None = None,
    python: Path | str = "/opt/train/bin/python",
    request: dict[str, Any] | None = None,
    result: dict[str, Any] | None = None,
    rows: int = 0,
    log: str = "",
    checkpoint: int | None = None,
    output: bool = False,
    here: bool = True,
    **asked: Any,
) -> RunPaths:
    """A run's folder. Without an outcome it is `lost` once somebody looks; where it isn't `here`, unreachable."""
    run = app.home.new_run(run_id)
    attempt = run.attempt(1)
    attempt.root.mkdir(parents=True)
    record: dict[str, Any] = {"schema": 1, "id": run_id, "kind": "train", "created": "2026-11-23T05:53:21.175Z"}
    record |= {"where": "local", "argv": [str(python)], "request": {"method": "sft", "model": "/m", **(request or {})}}
    records.write_json(run.run_json, record | asked)
    started = {"at": "2026-11-23T05:53:21.175Z", "t": 0.0, "event": "starting", "attempt": 1}
    records.append_line(run.events, started)
    if here:
        run.lock.touch()
    if config is not None:
        run.config.write_text(config, encoding="utf-8")
    if outcome is not None:
        ended = {"exit_code": 0, "attempt": 1, "at": "2026-11-23T05:54:21.175Z", "seconds": 60.0}
        records.write_json(run.exit_json, {"outcome": outcome, **ended})
    for step in range(1, rows + 1):
        at = f"2026-11-23T05:{step // 60 % 60:02d}:{step % 60:02d}.000Z"
        records.append_line(attempt.metrics, {"step": step, "epoch": step / 100, "at": at, "loss": 4.0 / step})
    if log:
        attempt.log.write_text(log, encoding="utf-8")
    if checkpoint is not None:
        make_checkpoint(run, checkpoint)
    if output:
        run.output.mkdir()
        made = {"kind": "adapter", "path": str(run.output), "tensors": 4, "bytes": 400}
        result = {"outcome": "succeeded", "ended_by": "planned_end", "output": made, "data": [], **(result or {})}
    if result is not None:
        records.write_json(attempt.result, result)
    return run


def make_checkpoint(run: RunPaths, step: int) -> Path:
    """A checkpoint of the run that verifies."""
    folder = run.checkpoints / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    state = {"global_step": step, "epoch": step / 10, "max_steps": 10}
    (folder / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    for name in ("optimizer.pt", "scheduler.pt", manifests.CONTINUATION, "adapter_model.safetensors", "rng_state.pth"):
        (folder / name).write_bytes(b"{}")
    manifests.write(folder, finite=True)
    return folder
