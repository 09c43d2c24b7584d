"""What goes wrong with models and machines: plan_training."""

from __future__ import annotations

from typing import Any

from planning_toys import LLAMA_PARAMETERS, weights

from .data_rows import INSPECTED
from .place import Place
from .row import Row, SetUp

_BERT = {
    "model_type": "bert",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 100,
}
_HUGE = {"hidden_size": 65536, "intermediate_size": 262144, "num_hidden_layers": 200}


def _model(config: dict[str, Any] | None = None, **files: bytes) -> SetUp:
    return lambda place: place.model("m", config, **files)


def _adapter(place: Place) -> None:
    place.write("m/adapter_config.json", '{"base_model_name_or_path": "acme/base"}')


def _without_tokenizer(place: Place) -> None:
    place.model("m")
    (place.workspace / "m" / "tokenizer.json").unlink()


def _no_room_for_plans(place: Place) -> None:
    plans = place.app.home.plans
    plans.rmdir()
    plans.write_text("not a folder\n", encoding="utf-8")


def _with(model: str) -> dict[str, Any]:
    return {"dataset": "pairs.jsonl", "model": model}


# A table is read row by row.
# fmt: off
PLANNING_ROWS = (
    Row("plan_training", "no such method", {"dataset": "pairs.jsonl", "method": "sfft"},
        "unknown_method", "There is no method 'sfft'", "plan_training(dataset='pairs.jsonl') finds the method"),
    Row("plan_training", "a method of a later version", {"dataset": "pairs.jsonl", "method": "dpo"},
        "method_unavailable", "dpo (", "plan_training(dataset='pairs.jsonl', method='sft')"),
    Row("plan_training", "no such folder", _with("./nothing"),
        "model_not_found", "There is no folder $workspace/nothing",
        "Correct './nothing' and call plan_training again"),
    Row("plan_training", "a name that is no model's", _with("what is this"),
        "model_not_found", "'what is this' is neither a folder here nor a Hub id", "plan_training(dataset=…) proposes"),
    Row("plan_training", "a name that is too long", _with("m" * 5000),
        "model_not_found", "is neither a folder here nor a Hub id", "plan_training(dataset=…) proposes"),
    Row("plan_training", "a folder of a user that is not there", _with("~no-such-user/m"),
        "invalid_arguments", "'~no-such-user/m' can't be used as a path: there is no such user",
        "Call the tool again with another path than '~no-such-user/m'"),
    Row("plan_training", "a folder without a model", _with("m"),
        "model_incomplete", "$workspace/m has no config.json",
        "plan_training(dataset=…, model=…) with a folder that holds config.json",
        lambda place: place.write("m/README.md", "")),
    Row("plan_training", "an adapter in place of a model", _with("m"),
        "model_unsupported", "$workspace/m holds an adapter, not a model",
        "plan_training(dataset=…, model='acme/base') with its base model", _adapter),
    Row("plan_training", "a model without weights", _with("m"),
        "model_incomplete", "$workspace/m has no weights", "`hf download ORG/MODEL`", _model(tokenizer__json=b"{}")),
    Row("plan_training", "a model without a tokenizer", _with("m"),
        "model_incomplete", "$workspace/m has no tokenizer", "tokenizer.save_pretrained('$workspace/m')",
        _without_tokenizer),
    Row("plan_training", "weights that are cut", _with("m"),
        "model_incomplete", "$workspace/m/model.safetensors is cut",
        "then plan_training(dataset=…, model='$workspace/m') again",
        _model(model__safetensors=weights((LLAMA_PARAMETERS,))[:-100])),
    Row("plan_training", "weights in pickles alone", _with("m"),
        "model_pickle_only", "$workspace/m has its weights only as pickle files", "plan_training(model=folder)",
        _model(pytorch_model__bin=b"x")),
    Row("plan_training", "a model that wants its own code run", _with("m"),
        "model_needs_remote_code", "asks for code from its repository",
        "plan_training(dataset=…, model=…) with a model of a built-in kind",
        _model({"model_type": "brand_new", "auto_map": {"AutoModelForCausalLM": "modeling.New"}})),
    Row("plan_training", "a model that wants a kernel fetched", _with("m"),
        "model_needs_hub_kernel", "names _attn_implementation: 'someone/attention'", "then call plan_training again",
        _model({"_attn_implementation": "someone/attention"})),
    Row("plan_training", "a model that does not generate", _with("m"),
        "model_unsupported", "is an encoder (bert)", "plan_training(dataset=…) proposes three", _model(_BERT),
        makes=INSPECTED),
    Row("plan_training", "a model of no known kind", _with("m"),
        "model_unsupported", "whisper", "Take a model of a known kind", _model({"model_type": "whisper"})),
    Row("plan_training", "a GPU that is not there", {**_with("model"), "gpus": 1},
        "nothing_fits", "A GPU is asked for, and this machine has none", "gpus=0) plans for its CPU", makes=INSPECTED),
    Row("plan_training", "a model that fits in no way", _with("m"),
        "nothing_fits", "fits in no way", "plan_training(dataset='$workspace/pairs.jsonl') without model",
        _model(_HUGE), makes=INSPECTED),
    Row("plan_training", "a state folder that can't be written", _with("model"),
        "state_unwritable", "The plan can't be kept in $state/plans: Not a directory", "then plan_training again",
        _no_room_for_plans, makes=INSPECTED),
)
