"""What goes wrong with configs: write_config, and what launch_run says of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from made_runs import CANCELLED
from stand_ins import VERSIONS, keys, says

from model_trainer.services.configs.schema import Config
from model_trainer.services.planning.results import Interval, Memory, PlanOption, TrainingPlan
from model_trainer.services.planning.store import save_plan
from model_trainer.trainer.contract import SCHEMA_VERSION

from .place import RUN, Place
from .row import Row, SetUp

PLAN = "plan-20260101-abcdef"
NEW = {"path": "new.yaml"}
BASE = {**NEW, "base": "config.yaml"}


def _plan(place: Place) -> Path:
    memory = Memory(**dict.fromkeys(("weights", "gradients", "optimizer", "activations", "head", "overhead"), 0.0),
                    needed=1.0, available=2.0, phase="step")  # fmt: skip
    config = Config.model_validate({"model": {"name": "model"}, "datasets": [{"path": "pairs.jsonl"}]})
    option = PlanOption(
        label="full",
        title="All weights",
        config=config,
        memory=memory,
        hours=Interval(low=0.1, high=0.2),
        effective_batch=1,
        steps=1,
        tokens=1,
        trained_parameters=1,
        reasons=[],
        warnings=[],
    )
    plan = TrainingPlan(id=PLAN, created="", data="", model="", hardware="", recommended=option)
    return save_plan(place.app.home, plan)


def _plan_of_a_newer_version(place: Place) -> None:
    path = _plan(place)
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "version": 2}), encoding="utf-8")


def _cut_plan(place: Place) -> None:
    path = _plan(place)
    path.write_text(path.read_text(encoding="utf-8")[:50], encoding="utf-8")


def _config(old: str = "", new: str = "") -> SetUp:
    return lambda place: place.config(old, new)


def _writes(name: str, content: str | bytes) -> SetUp:
    return lambda place: place.write(name, content)


def _without_bitsandbytes(place: Place) -> None:
    there = {name: version for name, version in VERSIONS.items() if name != "bitsandbytes"}
    place.environment(versions=f"echo '{json.dumps(there)}'")
    place.config("peft:", "quantization: nf4\npeft:")


def _no_weights(place: Place) -> None:
    place.model("m", tokenizer__json=b"{}")
    place.config("name: model", "name: m")


def _without_sft(place: Place) -> None:
    place.environment(probe=says({**keys(), "training": {}}))


def _incomplete(place: Place) -> None:
    there = {name: version for name, version in VERSIONS.items() if name != "trl"}
    place.environment(versions=f"echo '{json.dumps(there)}'")


def no_environment(place: Place) -> None:
    place.patch.delenv("MODEL_TRAINER_PYTHON")
    # The tests' own environment has trl, and would be taken.
    place.patch.setitem(sys.modules, "trl", None)


def _broken_environment(place: Place) -> None:
    place.patch.setenv("MODEL_TRAINER_PYTHON", "/bin/false")


def _over(**overrides: Any) -> dict[str, Any]:
    return {**BASE, "overrides": {name.replace("__", "."): value for name, value in overrides.items()}}


# A table is read row by row.
# fmt: off
CONFIG_ROWS = (
    Row("write_config", "nothing to start from", NEW,
        "invalid_arguments", "exactly one of plan, base and run (got none)", "plan='plan-…' from plan_training"),
    Row("write_config", "two things to start from", {**BASE, "plan": PLAN},
        "invalid_arguments", "exactly one of plan, base and run (got plan and base)", "base='FILE.yaml'"),
    Row("write_config", "an alternative without a plan", {**BASE, "alternative": "lora"},
        "invalid_arguments", "alternative goes with plan", "plan='plan-…' from plan_training"),
    Row("write_config", "no such plan", {**NEW, "plan": "plan-20260101-zzzzzz"},
        "plan_not_found", "Plan 'plan-20260101-zzzzzz' is not here", "plan_training(dataset=…) makes a new plan"),
    Row("write_config", "an id that is no plan's", {**NEW, "plan": "../../etc/passwd"},
        "plan_not_found", "Plan '../../etc/passwd' is no plan id", "plan_training(dataset=…) makes a new plan"),
    Row("write_config", "a plan that is cut", {**NEW, "plan": PLAN},
        "plan_not_found", f"Plan '{PLAN}' is there, but its file can't be read", "makes a new plan", _cut_plan),
    Row("write_config", "a plan of a newer version", {**NEW, "plan": PLAN},
        "newer_schema", f"Plan {PLAN} was written by a newer version", "Call plan_training again",
        _plan_of_a_newer_version),
    Row("write_config", "no such alternative", {**NEW, "plan": PLAN, "alternative": "qlora"},
        "plan_not_found", f"Plan {PLAN} has no alternative 'qlora'", f"write_config(plan='{PLAN}')", _plan),
    Row("write_config", "no such base", {**NEW, "base": "gone.yaml"},
        "config_not_found", "There is no config file $workspace/gone.yaml", "write_config makes one from a plan"),
    Row("write_config", "a folder as base", {**NEW, "base": "model"},
        "invalid_config", "$workspace/model is not a config: it is no regular file", "a file that write_config wrote"),
    Row("write_config", "a data file as base", {**NEW, "base": "pairs.jsonl"},
        "invalid_config", "pairs.jsonl, line", "line", _writes("pairs.jsonl", '{"a": 1}\n' * 9)),
    Row("write_config", "a base that is no UTF-8", {**NEW, "base": "b.yaml"},
        "invalid_config", "$workspace/b.yaml is not a config: line 2 is not UTF-8", "a file that write_config wrote",
        _writes("b.yaml", b"method: sft\n\xff\n")),
    Row("write_config", "a base that is no YAML", BASE,
        "invalid_config", "$workspace/config.yaml, line 2", "Correct line 2 of $workspace/config.yaml",
        _writes("config.yaml", "method: [sft\n")),
    Row("write_config", "no such run", {**NEW, "run": RUN},
        "run_not_found", f"There is no run '{RUN}'", "list_runs()"),
    Row("write_config", "an id that is no run's", {**NEW, "run": "../x"},
        "run_not_found", "'../x' is no run id", "list_runs()"),
    Row("write_config", "a run of a newer version", {**NEW, "run": RUN},
        "newer_schema", "Run $run was made by a newer version", "Update Model Trainer",
        lambda place: place.run(CANCELLED, schema=SCHEMA_VERSION + 1)),
    Row("write_config", "a run without a config", {**NEW, "run": RUN},
        "config_not_found", "There is no config file $state/runs/$run/config.yaml", "write_config makes one",
        lambda place: place.run(CANCELLED, config=None)),
    Row("write_config", "a name that is no config's", {**BASE, "path": "new.txt"},
        "invalid_arguments", "path $workspace/new.txt: a config's name ends in .yaml",
        "path='$workspace/new.txt.yaml'"),
    Row("write_config", "a folder to write to", {**BASE, "path": "model"},
        "invalid_arguments", "path $workspace/model: that is a folder", "path='$workspace/model/config.yaml'"),
    Row("write_config", "the root folder to write to", {**BASE, "path": "/"},
        "invalid_arguments", "path /: that is a folder", "path='/config.yaml'"),
    Row("write_config", "a place in the state folder", {**BASE, "path": "$state/runs/a.yaml"},
        "invalid_arguments", "the state folder is written by runs alone", "path='config.yaml'"),
    Row("write_config", "a place that can't be written", {**BASE, "path": "pairs.jsonl/new.yaml"},
        "invalid_arguments", "path $workspace/pairs.jsonl/new.yaml: $workspace/pairs.jsonl is no folder",
        "Call write_config again with path='$workspace/new.yaml'"),
    Row("write_config", "another config at that place", {**BASE, "path": "other.yaml"},
        "config_exists", "$workspace/other.yaml exists and holds something else",
        "overwrite=true, which keeps the former file as other.yaml.bak", _writes("other.yaml", "mine: true\n")),
    Row("write_config", "a relative path without a workspace", BASE,
        "no_workspace", "'new.yaml' is a relative path", "Give an absolute path", server="homeless"),
    Row("write_config", "an override that is no key", _over(**{"training..x": 1}),
        "unknown_key", "training.", "write_config again with overrides="),
    Row("write_config", "an override within a text", _over(method__x=1),
        "invalid_arguments", "overrides: method.x: there are no keys to change in str",
        'Call write_config again; write {"training.learning_rate": 1e-4}'),
    Row("write_config", "an override beyond a list", _over(datasets__5__path="x"),
        "invalid_arguments", "'5' is no position in a list of 1", "Call write_config again"),
    Row("write_config", "an unknown key", _over(training__learning_rat=1e-4),
        "unknown_key", "training.learning_rat: unknown key; nearest: learning_rate",
        'overrides={"training.learning_rate": 0.0001, "training.learning_rat": null}'),
    Row("write_config", "an old name of a key", _over(training__max_seq_length=256),
        "stale_key", "training.max_seq_length", 'overrides={"training.max_length": 256'),
    Row("write_config", "no such method", _over(method="sfft"),
        "unknown_method", "method: 'sfft' is no training method; nearest: sft", 'overrides={"method": "sft"}'),
    Row("write_config", "a method of a later version", _over(method="dpo"),
        "method_unavailable", "method: dpo", 'overrides={"method": "sft"}'),
    Row("write_config", "a value out of range", _over(training__learning_rate=5),
        "invalid_config", "training.learning_rate: 5 is out of range", 'overrides={"training.learning_rate": …}'),
    Row("write_config", "an access token", _over(tracking__project="hf_" + "a" * 30),
        "invalid_config", "this is an access token", 'overrides={"tracking.project": null}'),
    Row("write_config", "no such model folder", _over(model__name="./gone"),
        "model_not_found", "model.name: there is no folder $workspace/gone", "plan_training names models that fit"),
    Row("write_config", "a model name that is too long", _over(model__name="x" * 5000),
        "model_not_found", "model.name: there is no folder $workspace/xxx", "plan_training names models that fit"),
    Row("write_config", "no such data", _over(datasets__0__path="gone.jsonl"),
        "file_not_found", "datasets.0.path: there is nothing at $workspace/gone.jsonl",
        "write_config(…, overrides={'datasets.0.path': '…'})"),
    Row("write_config", "no bitsandbytes for quantization", BASE,
        "package_missing", "quantization needs bitsandbytes, which $python", "take quantization out",
        _without_bitsandbytes),
    Row("write_config", "no such tracker", _over(tracking__report_to="mlflow"),
        "package_missing", "tracking.report_to needs mlflow, which $python", "uv pip install --python $python mlflow"),
    Row("write_config", "an environment without the method's class", BASE,
        "environment_incomplete", "$python has no ", "`model-trainer setup`", _without_sft),

    Row("launch_run", "no such config", {"config": "gone.yaml"},
        "config_not_found", "There is no config file $workspace/gone.yaml", "write_config makes one from a plan"),
    Row("launch_run", "a config that is no YAML", {"config": "config.yaml"},
        "invalid_config", "$workspace/config.yaml, line 2", "Correct line 2 of $workspace/config.yaml",
        _writes("config.yaml", "method: [sft\n")),
    Row("launch_run", "a relative path without a workspace", {"config": "config.yaml"},
        "no_workspace", "'config.yaml' is a relative path", "Give an absolute path", server="homeless"),
    Row("launch_run", "an unknown key", {"config": "config.yaml"},
        "unknown_key", "training.max_step (line 6 of $workspace/config.yaml): unknown key; nearest: max_steps",
        "write_config(path='$workspace/config.yaml', base='$workspace/config.yaml', overwrite=true",
        _config("max_steps", "max_step")),
    Row("launch_run", "an old name of a key", {"config": "config.yaml"},
        "stale_key", "training.max_seq_length (line 6", '{"training.max_length": 3, "training.max_seq_length": null}',
        _config("max_steps", "max_seq_length")),
    Row("launch_run", "no such method", {"config": "config.yaml"},
        "unknown_method", "method (line 1 of $workspace/config.yaml): 'sfft'", '"method": "sft"',
        _config("sft", "sfft")),
    Row("launch_run", "a method of a later version", {"config": "config.yaml"},
        "method_unavailable", "method (line 1", '"method": "sft"', _config("sft", "dpo")),
    Row("launch_run", "no such model", {"config": "config.yaml"},
        "model_not_found", "model.name: there is no folder $workspace/gone", "plan_training names models",
        _config("name: model", "name: ./gone")),
    Row("launch_run", "a model without weights", {"config": "config.yaml"},
        "model_incomplete", "$workspace/m has no weights", "`hf download", _no_weights),
    Row("launch_run", "no such data", {"config": "config.yaml"},
        "file_not_found", "datasets.0.path: there is nothing at $workspace/gone.jsonl",
        "write_config(…, overrides={'datasets.0.path': '…'})",
        _config("pairs", "gone")),
    Row("launch_run", "no bitsandbytes for quantization", {"config": "config.yaml"},
        "package_missing", "quantization needs bitsandbytes", "take quantization out", _without_bitsandbytes),
    Row("launch_run", "no training environment", {"config": "config.yaml"},
        "environment_missing", "No training environment is installed (profile 'default')", "`model-trainer setup`",
        no_environment),
    Row("launch_run", "an incomplete training environment", {"config": "config.yaml"},
        "environment_incomplete", "$python (MODEL_TRAINER_PYTHON) lacks trl", "`model-trainer setup`", _incomplete),
    Row("launch_run", "a Python that is none", {"config": "config.yaml"},
        "environment_incomplete", "/bin/false (MODEL_TRAINER_PYTHON) doesn't work", "`model-trainer setup`",
        _broken_environment),
)
