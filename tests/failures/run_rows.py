"""What goes wrong with runs: launching, watching, stopping, resuming and sampling them."""

from __future__ import annotations

import json
import os
import struct
from typing import Any

from made_runs import CANCELLED, SUCCEEDED, failed, made_run, make_checkpoint
from stand_ins import says

from model_trainer.executors.snapshot import snapshot
from model_trainer.services.runs import plotting, sampling, stopping
from model_trainer.trainer.contract import SCHEMA_VERSION

from .config_rows import no_environment
from .place import CONFIG, RUN, Place
from .row import Row, SetUp

OTHER = "20260101-000002-sft-bbbbb"
#: Tools that name one run, and what else they need.
OF_A_RUN: dict[str, dict[str, Any]] = {
    "get_run": {"run_id": RUN},
    "tail_metrics": {"run_id": RUN},
    "tail_logs": {"run_id": RUN},
    "plot_metrics": {"run_ids": [RUN]},
    "stop_run": {"run_id": RUN},
    "resume_run": {"run_id": RUN},
    "sample_model": {"run_id": RUN, "prompts": ["What is 1?"]},
    "push_adapter": {"run_id": RUN, "destination": "ada/tiny"},
    "launch_run": {"config": "config.yaml", "after": RUN},
}
CONFIG_FILE = {"config": "config.yaml"}


def _run(outcome: dict[str, Any] | None, **more: Any) -> SetUp:
    return lambda place: place.run(outcome, **more)


def _damaged(text: str) -> SetUp:
    return lambda place: place.run(SUCCEEDED, output=True).run_json.write_text(text, encoding="utf-8")


def _newer(place: Place) -> None:
    """A run that a newer version made, and left as lost."""
    run = place.run(None, checkpoint=4)
    record = json.loads(run.run_json.read_text(encoding="utf-8"))
    run.run_json.write_text(json.dumps({**record, "schema": SCHEMA_VERSION + 1}), encoding="utf-8")


def _same_config(place: Place) -> None:
    """A run of config.yaml that lives."""
    from model_trainer.services.configs.loading import load_config

    digest = load_config(place.workspace / "config.yaml").digest
    place.live_run()
    record = json.loads((place.app.home.runs / RUN / "run.json").read_text(encoding="utf-8"))
    (place.app.home.runs / RUN / "run.json").write_text(
        json.dumps({**record, "config_digest": digest}), encoding="utf-8"
    )
    place.names["digest"] = digest


def _weights_of(gib: int) -> SetUp:
    """A model whose file says that it holds so much, and does, in a file without blocks on the disk."""

    def set_up(place: Place) -> None:
        size = gib * 2**30
        tensor = {"w": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}
        header = json.dumps(tensor).encode()
        path = place.model("model") / "model.safetensors"
        path.write_bytes(struct.pack("<Q", len(header)) + header)
        os.truncate(path, 8 + len(header) + size)

    return set_up


def _full(place: Place) -> None:
    _weights_of(2**12)(place)
    place.config("peft: {type: lora, r: 8}", "peft: null")


def _dead_supervisor(place: Place) -> None:
    """Our own code, as it is kept for runs, is broken."""
    supervisor = next(snapshot(place.app.home).rglob("executors/supervisor.py"))
    supervisor.write_text("raise SystemExit('broken')\n", encoding="utf-8")


def _silent_supervisor(place: Place) -> None:
    """A run whose lock is held, by nobody who can be named."""
    place.patch.setattr(stopping, "_ASK_SECONDS", 0.05)
    place.live_run()


def _draws(code: str) -> SetUp:
    """In the place of matplotlib."""

    def set_up(place: Place) -> None:
        (place.tools / "matplotlib.py").write_text(code, encoding="utf-8")
        place.patch.setenv("PYTHONPATH", str(place.tools))
        place.run(SUCCEEDED, rows=20)

    return set_up


def _draws_for_ever(place: Place) -> None:
    place.patch.setattr(plotting, "_SECONDS", 0.2)
    _draws("import time\ntime.sleep(60)\n")(place)


def _broken_checkpoint(place: Place) -> None:
    run = place.run(CANCELLED, checkpoint=4)
    (run.checkpoints / "checkpoint-4" / "optimizer.pt").write_bytes(b"[]")


def _two_checkpoints(place: Place) -> None:
    make_checkpoint(place.run(CANCELLED, checkpoint=4), 8)


def _resumed_already(place: Place) -> None:
    from model_trainer.services.configs import loading

    run = place.run(CANCELLED, checkpoint=4)
    config = loading.resolve_config(loading.load_config(run.config).config, run.root)
    made_run(place.app, OTHER, SUCCEEDED, parent=RUN, config_digest=loading.digest(config))


def _without_data(place: Place) -> None:
    place.run(CANCELLED, checkpoint=4)
    (place.workspace / "pairs.jsonl").unlink()


def _without_model(place: Place) -> None:
    config = CONFIG.replace("name: model", f"name: {place.workspace}/gone")
    place.run(CANCELLED, checkpoint=4, config=config)


def _samples(**answers: str) -> SetUp:
    def set_up(place: Place) -> None:
        place.environment(**answers)
        place.run(SUCCEEDED, output=True)

    return set_up


def _samples_for_ever(place: Place) -> None:
    place.patch.setattr(sampling, "SECONDS", 0.2)
    _samples(sample="exec sleep 60")(place)


def _trained_elsewhere(place: Place) -> None:
    place.run(SUCCEEDED, output=True, python="/gone/bin/python")
    no_environment(place)


SAMPLE = OF_A_RUN["sample_model"]

# A table is read row by row.
# fmt: off
RUN_ROWS = (
    *(Row(tool, "no such run", arguments,
          "run_not_found", f"There is no run '{RUN}'", "list_runs() shows all runs")
      for tool, arguments in OF_A_RUN.items()),
    *(Row(tool, "an id that leaves the folder", json.loads(json.dumps(arguments).replace(RUN, "../x")),
          "run_not_found", "'../x' is no run id", "list_runs() shows the ids")
      for tool, arguments in OF_A_RUN.items()),
    *(Row(tool, "an id that is too long", json.loads(json.dumps(arguments).replace(RUN, "x" * 5000)),
          "run_not_found", "is no run id", "list_runs() shows the ids")
      for tool, arguments in OF_A_RUN.items()),

    *(Row(tool, f"a damaged record ({text})", OF_A_RUN[tool],
          "run_not_found", "Run $run has no readable record: $state/runs/$run/run.json is damaged", "list_runs()",
          _damaged(text))
      for tool in ("get_run", "resume_run", "sample_model") for text in ("{", "{}")),

    *(Row(tool, "a run of a newer version", arguments,
          "newer_schema", "Run $run was made by a newer version of Model Trainer: its record has schema",
          "Update Model Trainer (for example `uv tool upgrade model-trainer`)", _newer)
      for tool, arguments in OF_A_RUN.items()),

    Row("launch_run", "the same config as a living run", CONFIG_FILE,
        "duplicate_run", "Run $run has the same config ($digest)",
        "get_run(run_id='$run') shows it; launch_run(config='config.yaml', again=true)", _same_config),
    Row("launch_run", "a key of another config's run", {**CONFIG_FILE, "key": "mine"},
        "key_conflict", "The key 'mine' belongs to run $run", "get_run(run_id='$run')",
        _run(SUCCEEDED, key="mine", config_digest="another")),
    Row("launch_run", "a key of a newer version's run", {**CONFIG_FILE, "key": "mine"},
        "newer_schema", "Run $run was made by a newer version", "Update Model Trainer",
        _run(SUCCEEDED, key="mine", schema=SCHEMA_VERSION + 1)),
    Row("launch_run", "a GPU that is not there", CONFIG_FILE,
        "not_enough", "resources.gpus is 1; this machine shows 0", "overrides={'resources.gpus': 0}",
        lambda place: place.config("", "resources: {gpus: 1}\n")),
    Row("launch_run", "not enough memory", CONFIG_FILE,
        "not_enough", "alone need 4096.00 GiB of memory", "plan_training(dataset=…) without model", _weights_of(2**12)),
    Row("launch_run", "not enough disk", CONFIG_FILE,
        "not_enough", "checkpoints and output need about", "overrides={'peft': {'type': 'lora'}}", _full),
    Row("launch_run", "a supervisor that does not start", CONFIG_FILE,
        "launch_failed", "the supervisor did not start: broken", "`model-trainer doctor`", _dead_supervisor,
        makes=("state/runs/*-sft-*",)),

    Row("list_runs", "no such status", {"status": "done"},
        "invalid_arguments", "'status' is wrong: input should be 'live', 'queued'", "call list_runs again"),
    Row("list_runs", "too many at once", {"limit": 51},
        "invalid_arguments", "'limit' is wrong: input should be less than or equal to 50", "call list_runs again"),
    Row("list_runs", "a cursor that is none", {"cursor": "the last one"},
        "invalid_arguments", "'the last one' is no cursor", "list_runs() without a cursor shows the first page"),
    Row("get_run", "a wait that is too long", {"run_id": RUN, "wait_seconds": 46},
        "invalid_arguments", "'wait_seconds' is wrong: input should be less than or equal to 45", "call get_run again"),
    Row("stop_run", "a wait that is none", {"run_id": RUN, "wait_seconds": -1},
        "invalid_arguments", "'wait_seconds' is wrong: input should be greater than or equal to 0", "call stop_run"),
    Row("tail_metrics", "a cursor that is none", {"run_id": RUN, "cursor": "the last one"},
        "invalid_arguments", "'the last one' is no cursor", "tail_metrics(run_id='$run') without a cursor",
        _run(SUCCEEDED, rows=3)),
    Row("tail_logs", "a cursor that is none", {"run_id": RUN, "cursor": "-1"},
        "invalid_arguments", "'-1' is no cursor", "tail_logs(run_id='$run') without a cursor", _run(SUCCEEDED)),
    Row("tail_logs", "no such attempt", {"run_id": RUN, "attempt": 2},
        "invalid_arguments", "Run $run has no attempt 2; its attempts are 1 to 1", "tail_logs(run_id='$run')",
        _run(failed())),
    Row("plot_metrics", "no metrics yet", {"run_ids": [RUN]},
        "no_metrics", "No metrics were written yet", "get_run(run_id='$run', wait_seconds=45)",
        lambda place: place.live_run()),
    Row("plot_metrics", "no metrics of a run that failed", {"run_ids": [RUN]},
        "no_metrics", "Run $run ended without writing a metric", "get_run(run_id='$run') says how it ended",
        _run(failed())),
    Row("plot_metrics", "no such metric", {"run_ids": [RUN], "metrics": ["los"]},
        "invalid_arguments", "There is no metric 'los': did you mean 'loss'?",
        "plot_metrics(run_ids=['$run'], metrics=['loss'])", _run(SUCCEEDED, rows=3)),
    Row("plot_metrics", "no matplotlib", {"run_ids": [RUN]},
        "package_missing", "The picture could not be drawn: ImportError: it is gone", "tail_metrics(run_id='$run')",
        _draws("raise ImportError('it is gone')\n")),
    Row("plot_metrics", "a picture that is never done", {"run_ids": [RUN]},
        "timed_out", "The picture was not drawn within", "tail_metrics(run_id='$run')", _draws_for_ever),
    Row("stop_run", "a run of another machine", {"run_id": RUN},
        "run_live", "Run $run can't be seen from here", "get_run(run_id='$run')", _run(None, here=False)),
    Row("stop_run", "a supervisor that can't be reached", {"run_id": RUN},
        "launch_failed", "Run $run is running and its supervisor can't be reached", "stop_run(run_id='$run') again",
        _silent_supervisor),

    Row("resume_run", "a run that lives", {"run_id": RUN},
        "run_live", "Run $run is running: it goes on by itself",
        "stop_run(run_id='$run') ends it with a checkpoint; then resume_run(run_id='$run')",
        lambda place: place.live_run()),
    Row("resume_run", "a run of another machine", {"run_id": RUN},
        "run_live", "Run $run can't be seen from here", "get_run(run_id='$run')", _run(None, here=False)),
    Row("resume_run", "a run that is done", {"run_id": RUN},
        "nothing_left", "Run $run reached its planned end", "resume_run(run_id='$run', max_steps=…)",
        _run(SUCCEEDED, checkpoint=3)),
    Row("resume_run", "a run that trained nothing", {"run_id": RUN},
        "nothing_left", "Run $run is of kind inspect", "list_runs(kind='train')", _run(SUCCEEDED, kind="inspect")),
    Row("resume_run", "no checkpoint", {"run_id": RUN},
        "no_checkpoint", "Run $run has no checkpoint to go on from. It saved none.",
        "launch_run(config='$state/runs/$run/config.yaml', again=true)", _run(failed())),
    Row("resume_run", "a checkpoint that is broken", {"run_id": RUN},
        "no_checkpoint", "Found: checkpoint-4: optimizer.pt has other bytes",
        "launch_run(config='$state/runs/$run/config.yaml', again=true)", _broken_checkpoint),
    Row("resume_run", "no checkpoint of that step", {"run_id": RUN, "checkpoint": 5},
        "no_checkpoint", "Run $run has no checkpoint of step 5; there are 8, 4", "resume_run(run_id='$run')",
        _two_checkpoints),
    Row("resume_run", "a checkpoint of a step beyond any", {"run_id": RUN, "checkpoint": 10**300},
        "no_checkpoint", "Run $run has no checkpoint of step 1000", "resume_run(run_id='$run')", _two_checkpoints),
    Row("resume_run", "two ends", {"run_id": RUN, "max_steps": 9, "num_train_epochs": 2},
        "invalid_arguments", "num_train_epochs and max_steps both say where to end",
        "resume_run(run_id='$run', max_steps=9)", _run(CANCELLED, checkpoint=4)),
    Row("resume_run", "an end that is reached", {"run_id": RUN, "max_steps": 4},
        "invalid_arguments", "max_steps 4 is not beyond checkpoint-4", "resume_run(run_id='$run', max_steps=5)",
        _run(CANCELLED, checkpoint=4)),
    Row("resume_run", "a run that was gone on with", {"run_id": RUN},
        "duplicate_run", f"Run {OTHER} goes on with $run already",
        f"get_run(run_id='{OTHER}') shows it; resume_run(run_id='$run', again=True)", _resumed_already),
    Row("resume_run", "data that are gone", {"run_id": RUN},
        "file_not_found", "datasets.0.path: there is nothing at $workspace/pairs.jsonl",
        "Put it there, or name another: write_config(", _without_data),
    Row("resume_run", "a model that is gone", {"run_id": RUN},
        "model_not_found", "model.name: there is no folder $workspace/gone", "plan_training names models that fit",
        _without_model),
    Row("resume_run", "a config that no longer counts", {"run_id": RUN},
        "stale_key", "training.max_seq_length (line 6 of $state/runs/$run/config.yaml)",
        "write_config(run='$run', path=…, overrides={\"training.max_length\": 3, \"training.max_seq_length\": null})",
        _run(CANCELLED, checkpoint=4, config=CONFIG.replace("max_steps", "max_seq_length"))),
    Row("resume_run", "no training environment", {"run_id": RUN},
        "environment_missing", "No training environment is installed", "`model-trainer setup`",
        lambda place: (place.run(CANCELLED, checkpoint=4), no_environment(place))),

    Row("sample_model", "a run that lives", SAMPLE,
        "no_output", "Run $run is running and has no model", "get_run(run_id='$run', wait_seconds=45)",
        lambda place: place.live_run()),
    Row("sample_model", "a run that failed", SAMPLE,
        "no_output", "Run $run is failed and has no model", "get_run(run_id='$run') says why", _run(failed())),
    Row("sample_model", "a run that trained nothing", SAMPLE,
        "no_output", "Run $run is succeeded and has no model", "list_runs(status='succeeded')",
        _run(SUCCEEDED, kind="inspect")),
    Row("sample_model", "no training environment any more", SAMPLE,
        "environment_missing", "No training environment is installed", "`model-trainer setup`", _trained_elsewhere),
    Row("sample_model", "an environment that does not work", SAMPLE,
        "environment_incomplete", "$python could not run sample (exit 3): broken", "`model-trainer setup`",
        _samples(sample="echo broken >&2; exit 3")),
    Row("sample_model", "a model that does not load", SAMPLE,
        "environment_incomplete", "The models could not be loaded or run: bad shapes", "get_run(run_id='$run')",
        _samples(sample=says({"problem": "unknown", "detail": "bad shapes"}))),
    Row("sample_model", "not enough memory", SAMPLE,
        "too_large", "The models don't fit into free memory now: 3 GiB", "list_runs(status='live')",
        _samples(sample=says({"problem": "oom_host", "detail": "3 GiB"}))),
    Row("sample_model", "an answer that never comes", SAMPLE,
        "timed_out", "1 prompts of up to 64 tokens", "sample_model(run_id='$run', prompts=[…one…], max_new_tokens=16)",
        _samples_for_ever),
    Row("no_such_tool", "no such tool", {},
        "unknown_tool", "There is no tool 'no_such_tool'", "The tools are check_environment, inspect_dataset"),
    Row("sample_modell", "a tool with another name", {},
        "unknown_tool", "There is no tool 'sample_modell'", "Did you mean sample_model?"),
)
