"""What goes wrong with publishing: before anything is sent."""

from __future__ import annotations

import json

import huggingface_hub.constants
from made_runs import CANCELLED, SUCCEEDED
from planning_toys import weights

from .hub_rows import nobody_answers, online
from .place import RUN, Place
from .row import Row, SetUp

#: What a look at the run's output may write.
_LOOKED = ("state/runs/*/publish", "state/runs/*/plots")
_HUB = {"run_id": RUN, "destination": "ada/tiny"}
_FOLDER = {"run_id": RUN, "destination": "./bundle"}


def _trained(place: Place) -> None:
    """A run that left an adapter."""
    run = place.run(SUCCEEDED, output=True)
    (run.output / "adapter_model.safetensors").write_bytes(weights((2, 2)))
    about = {"peft_type": "LORA", "base_model_name_or_path": str(place.workspace / "model")}
    (run.output / "adapter_config.json").write_text(json.dumps(about), encoding="utf-8")


def _as(token: str) -> SetUp:
    def set_up(place: Place) -> None:
        _trained(place)
        online(place)
        place.patch.setenv("HF_TOKEN", token)

    return set_up


_ada = _as("hf_ada_may_write")


def _unreachable(place: Place) -> None:
    _ada(place)
    nobody_answers(place)


def _offline(place: Place) -> None:
    _ada(place)
    place.patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def _leaky(place: Place) -> None:
    _trained(place)
    output = place.app.home.runs / RUN / "output"
    (output / "chat_template.jinja").write_text("{{ 'hf_abcdefghijklmnopqrst' }}", encoding="utf-8")


def _unreadable(place: Place) -> None:
    _trained(place)
    (place.app.home.runs / RUN / "output" / "generation_config.json").write_bytes(b"\xff no JSON")


def _somebodys(place: Place) -> None:
    _trained(place)
    place.write("bundle/thesis.txt", "years of work")


# A table is read row by row.
# fmt: off
PUBLISHING_ROWS = (
    Row("push_adapter", "a run that was stopped", _HUB, "no_output",
        "Run $run is cancelled and has no model to publish", "resume_run(run_id='$run')",
        lambda place: place.run(CANCELLED)),
    Row("push_adapter", "no destination at all", {"run_id": RUN, "destination": "tiny"}, "invalid_arguments",
        "destination 'tiny' is no repository", "push_adapter(…, destination='your-name/my-adapter')", _trained),
    Row("push_adapter", "a folder of a server without a workspace", _FOLDER, "no_workspace",
        "'./bundle' is a relative path", "absolute path", _trained, server="homeless"),
    Row("push_adapter", "a file in the place of a folder", {"run_id": RUN, "destination": "./config.yaml"},
        "invalid_arguments", "destination './config.yaml': that is a file", "push_adapter", _trained),
    Row("push_adapter", "the workspace itself", {"run_id": RUN, "destination": "$workspace", "overwrite": "$workspace"},
        "invalid_arguments", "it holds $workspace", "destination='./my-adapter'", _trained),
    Row("push_adapter", "the state folder", {"run_id": RUN, "destination": "$state/x"},
        "invalid_arguments", "the state folder is written by runs alone", "destination='./my-adapter'", _trained),
    Row("push_adapter", "somebody's folder", _FOLDER, "destination_taken",
        "./bundle exists: it is the folder $workspace/bundle", "overwrite='./bundle'", _somebodys, makes=_LOOKED),
    Row("push_adapter", "a folder that is named wrongly", {**_FOLDER, "overwrite": "./bundel"}, "destination_taken",
        "overwrite names './bundel'", "overwrite='./bundle'", _somebodys, makes=_LOOKED),
    Row("push_adapter", "a folder that is replaced without a yes", {**_FOLDER, "overwrite": "./bundle"},
        "not_confirmed", "This needs a yes", "overwrite='./bundle', dry_run=True)", _somebodys, makes=_LOOKED),
    Row("push_adapter", "nobody logged in", _HUB, "not_logged_in",
        "There is no Hugging Face token here", "`hf auth login`", _trained),
    Row("push_adapter", "a token that the Hub does not know", _HUB, "not_logged_in",
        "The Hub doesn't accept the token that is here (401)", "`hf auth login`", _as("hf_unknown")),
    Row("push_adapter", "a token that may only read", {**_HUB, "destination": "rob/tiny"}, "not_allowed",
        "The token of 'rob' may only read", "`hf auth login`", _as("hf_rob_may_read")),
    Row("push_adapter", "somebody else's namespace", {**_HUB, "destination": "acme/tiny"}, "not_allowed",
        "You are logged in as 'ada'", "destination='ada/tiny'", _ada),
    Row("push_adapter", "no yes", _HUB, "not_confirmed",
        "This needs a yes", "push_adapter(run_id='$run', destination='ada/tiny', dry_run=True)", _ada, makes=_LOOKED),
    Row("push_adapter", "a yes to something else", {**_HUB, "confirm": "0123456789abcdef"}, "not_confirmed",
        "confirm '0123456789abcdef' was given for something else", "dry_run=True)", _ada, makes=_LOOKED),
    Row("push_adapter", "a repository that is there", {**_HUB, "destination": "ada/taken"}, "destination_taken",
        "ada/taken exists: it is ada/taken at commit", "overwrite='ada/taken'", _ada, makes=_LOOKED),
    Row("push_adapter", "a repository that is public", {**_HUB, "destination": "ada/shown", "overwrite": "ada/shown"},
        "destination_taken", "ada/shown exists and is public", "visibility='public'", _ada, makes=_LOOKED),
    Row("push_adapter", "a token in a file", {**_FOLDER, "dry_run": True}, "unsafe_files",
        "chat_template.jinja of run $run holds something that looks like a token", "call push_adapter again", _leaky,
        makes=_LOOKED),
    Row("push_adapter", "a config that is none", {**_FOLDER, "dry_run": True}, "unsafe_files",
        "generation_config.json of run $run can't be read as a config", "push_adapter again", _unreadable,
        makes=_LOOKED),
    Row("push_adapter", "a Hub that does not answer", _HUB, "unreachable",
        "The Hugging Face Hub can't be asked", "give a local folder as destination", _unreachable),
    Row("push_adapter", "a Hub that may not be asked", _HUB, "unreachable",
        "HF_HUB_OFFLINE is set", "give a local folder as destination", _offline),
)
