"""What goes wrong with the Hub: one on loopback, which the real client talks to."""

from __future__ import annotations

import json

import huggingface_hub.constants
from hub import Hub
from planning_toys import LLAMA

from .data_rows import INSPECTED
from .place import Place
from .row import Row

#: Repositories of the Hub that the rows speak of.
_MODEL = {"config.json": json.dumps(LLAMA).encode(), "model.safetensors": b"x", "tokenizer.json": b"{}"}
_PICKLED = {"config.json": json.dumps(LLAMA).encode(), "pytorch_model.bin": b"x", "tokenizer.json": b"{}"}


def fill(hub: Hub) -> None:
    """Put what the rows speak of on the Hub."""
    hub.add_user("ada", token="hf_ada_may_write", orgs={"acme": "write"})
    hub.add_user("rob", token="hf_rob_may_read", role="read")
    hub.add_repo("model", "ada/taken", {"notes.md": b"hers"}, private=True)
    hub.add_repo("model", "ada/shown", {"notes.md": b"hers"})
    hub.add_repo("model", "acme/gated", _MODEL, gated="manual")
    hub.add_repo("model", "acme/open", _MODEL)
    hub.add_repo("model", "acme/pickled", _PICKLED)
    hub.add_repo("model", "acme/adapter", {"adapter_config.json": b"{}"})
    hub.add_repo("dataset", "acme/gated-data", {"train.jsonl": b'{"text": "a"}\n'}, gated="manual")
    hub.add_repo("dataset", "acme/pictures", {"a.png": b"x"})


def online(place: Place) -> None:
    """Talk to the Hub on loopback."""
    place.patch.delenv("HF_HUB_OFFLINE", raising=False)
    place.patch.setenv("HF_ENDPOINT", place.hub)
    place.patch.setenv("HF_HUB_DISABLE_XET", "1")
    place.patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


def nobody_answers(place: Place) -> None:
    """Talk to a port at which nobody listens."""
    online(place)
    place.patch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


# A table is read row by row.
# fmt: off
HUB_ROWS = (
    Row("inspect_dataset", "a data set that is not there", {"path": "acme/nothing"},
        "dataset_not_found", "There is no file 'acme/nothing' in the workspace, and no data set acme/nothing",
        "`hf auth login`", online, makes=INSPECTED),
    Row("inspect_dataset", "a data set that is gated", {"path": "acme/gated-data"},
        "dataset_gated", "The data set acme/gated-data is gated", "`hf auth login`", online, makes=INSPECTED),
    Row("inspect_dataset", "a data set without rows", {"path": "acme/pictures"},
        "bad_format", "The data set acme/pictures holds no files of JSONL",
        "`hf download acme/pictures --repo-type dataset`", online, makes=INSPECTED),
    Row("inspect_dataset", "a Hub that does not answer", {"path": "acme/nothing"},
        "unreachable", "There is no file 'acme/nothing' in the workspace, and the Hub can't be reached",
        "inspect_dataset(path='acme/nothing') again with a network", nobody_answers, makes=INSPECTED),
    Row("inspect_dataset", "a Hub that may not be asked", {"path": "acme/nothing"},
        "unreachable", "There is no file 'acme/nothing'",
        "inspect_dataset(path='acme/nothing') again with a network (and without HF_HUB_OFFLINE)", makes=INSPECTED),
    Row("plan_training", "a data set that is gated", {"dataset": "acme/gated-data"},
        "dataset_gated", "The data set acme/gated-data is gated", "`hf auth login`", online, makes=INSPECTED),
    Row("plan_training", "a model that is not there", {"dataset": "pairs.jsonl", "model": "acme/nothing"},
        "model_not_found", "The Hub has no model 'acme/nothing'", "log in with `hf auth login`", online),
    Row("plan_training", "a revision that is not there",
        {"dataset": "pairs.jsonl", "model": "acme/open", "revision": "v9"},
        "model_not_found", "acme/open has no revision 'v9'", 'model="acme/open"', online),
    Row("plan_training", "a model that is gated", {"dataset": "pairs.jsonl", "model": "acme/gated"},
        "model_gated", "acme/gated is gated", "https://huggingface.co/acme/gated and runs `hf auth login`", online),
    Row("plan_training", "a model on the Hub with pickles alone", {"dataset": "pairs.jsonl", "model": "acme/pickled"},
        "model_pickle_only", "acme/pickled has its weights only as pickle files (pytorch_model.bin)",
        "Take a safetensors version of acme/pickled", online),
    Row("plan_training", "an adapter on the Hub", {"dataset": "pairs.jsonl", "model": "acme/adapter"},
        "model_incomplete", "acme/adapter has no config.json",
        "plan_training(dataset=…, model=…) with the base model that acme/adapter was made from", online),
    Row("plan_training", "a Hub that does not answer", {"dataset": "pairs.jsonl", "model": "acme/open"},
        "unreachable", "acme/open is not in the local cache, and the Hub can't be reached",
        "plan_training(dataset=…, model='acme/open') again", nobody_answers),
    Row("plan_training", "a Hub that may not be asked", {"dataset": "pairs.jsonl", "model": "acme/open"},
        "model_not_found", "acme/open is not in the local cache, and HF_HUB_OFFLINE", "`hf download acme/open`"),
)
