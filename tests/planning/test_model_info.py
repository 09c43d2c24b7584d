"""Models in folders, in the cache and on the Hub; each way in which one can't be used says which, and what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hub import Hub
from planning_toys import LLAMA, LLAMA_PARAMETERS, model_folder, weights

from model_trainer.executors.errors import ArgumentError, EnvironmentFault, ModelError
from model_trainer.services.app import App
from model_trainer.services.planning.model_info import check_method, read_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def refused(app: App, name: str, revision: str | None = None) -> ModelError:
    with pytest.raises(ModelError) as caught:
        read_model(app, name, revision)
    assert caught.value.next_step
    return caught.value


def test_a_folder_is_read_from_config_and_headers(app: App, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Hello\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"chat_template": "x"}', encoding="utf-8")
    model = read_model(app, str(folder))
    assert (model.parameters, model.parameters_from, model.stored_dtype) == (LLAMA_PARAMETERS, "weights", "F32")
    assert (model.source, model.revision, model.name) == ("folder", None, str(folder))
    assert (model.license, model.chat_template, model.warnings) == ("apache-2.0", True, ())


def test_a_name_in_the_workspace_is_a_folder(app: App, workspace: Path) -> None:
    model_folder(workspace / "models" / "mine")
    assert read_model(app, "models/mine").name == str((workspace / "models" / "mine").resolve())


def test_a_relative_folder_without_a_workspace_is_refused(app: App) -> None:
    lost = App(home=app.home, settings=app.settings, workspace=None)
    with pytest.raises(ArgumentError) as caught:
        read_model(lost, "./models/mine")
    assert caught.value.code == "no_workspace"


def test_shards_are_counted_together_and_a_missing_one_is_named(app: App, tmp_path: Path) -> None:
    half = LLAMA_PARAMETERS // 2
    index = {"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}
    folder = model_folder(
        tmp_path / "m",
        LLAMA,
        **{
            "model__safetensors__index__json": json.dumps(index).encode(),
            "m-1__safetensors": weights((half,)),
            "m-2__safetensors": weights((LLAMA_PARAMETERS - half,)),
        },
    )
    assert read_model(app, str(folder)).parameters == LLAMA_PARAMETERS
    (folder / "m-2.safetensors").unlink()
    error = refused(app, str(folder))
    assert error.code == "model_incomplete"
    assert "m-2.safetensors" in error.message


def test_weights_that_disagree_with_the_config_are_said(app: App, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", model__safetensors=weights((LLAMA_PARAMETERS + 5000,)))
    model = read_model(app, str(folder))
    assert model.extra_parameters == 5000
    assert "less sure" in model.warnings[0]


def test_a_cut_file_is_incomplete(app: App, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", model__safetensors=weights((LLAMA_PARAMETERS,))[:-100])
    error = refused(app, str(folder))
    assert error.code == "model_incomplete"
    assert "is cut" in error.message


@pytest.mark.parametrize("content", [b"", b"junk", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0[]", b'\x02\0\0\0\0\0\0\0{"'])
def test_a_file_that_is_no_safetensors_is_incomplete(app: App, tmp_path: Path, content: bytes) -> None:
    folder = model_folder(tmp_path / "m", model__safetensors=content)
    assert refused(app, str(folder)).code == "model_incomplete"


def test_a_folder_without_weights_is_incomplete(app: App, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", tokenizer__json=b"{}")
    error = refused(app, str(folder))
    assert error.code == "model_incomplete"
    assert "no weights" in error.message


def test_a_folder_without_a_tokenizer_is_incomplete(app: App, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    (folder / "tokenizer.json").unlink()
    error = refused(app, str(folder))
    assert error.code == "model_incomplete"
    assert "no tokenizer" in error.message


def test_pickled_weights_are_refused_and_safetensors_beside_them_taken(app: App, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", pytorch_model__bin=b"x")
    error = refused(app, str(folder))
    assert error.code == "model_pickle_only"
    assert "pytorch_model.bin" in error.message
    (folder / "model.safetensors").write_bytes(weights((LLAMA_PARAMETERS,)))
    assert read_model(app, str(folder)).parameters == LLAMA_PARAMETERS


def test_remote_code_is_refused_unless_the_kind_is_built_in(app: App, tmp_path: Path) -> None:
    auto_map = {"AutoModelForCausalLM": "modeling_new.NewForCausalLM"}
    foreign = model_folder(tmp_path / "a", {**LLAMA, "model_type": "brand_new", "auto_map": auto_map})
    error = refused(app, str(foreign))
    assert error.code == "model_needs_remote_code"
    assert "brand_new" in error.message
    built_in = model_folder(tmp_path / "b", {**LLAMA, "auto_map": auto_map})
    assert read_model(app, str(built_in)).shape.family == "llama"


@pytest.mark.parametrize(
    "extra",
    [
        {"_attn_implementation": "kernels-community/flash-attn3"},
        {"attn_implementation": "flash_attention_2"},
        {"text_config": {"_attn_implementation": "someone/attention"}},
        {"use_kernels": True},
        {"kernel_config": {"RMSNorm": "someone/norm"}},
    ],
)
def test_attention_or_kernels_from_elsewhere_are_refused(app: App, tmp_path: Path, extra: dict[str, Any]) -> None:
    error = refused(app, str(model_folder(tmp_path / "m", {**LLAMA, **extra})))
    assert error.code == "model_needs_hub_kernel"
    assert "plan_training" in error.next_step


def test_attention_of_torch_itself_is_fine(app: App, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", {**LLAMA, "_attn_implementation": "sdpa"})
    assert read_model(app, str(folder)).shape.layers == 2


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "whisper"}, "whisper"),
        ({**LLAMA, "hidden_size": -1}, "hidden_size"),
        ({**LLAMA, "num_hidden_layers": True}, "num_hidden_layers"),
        ({**LLAMA, "vocab_size": "150"}, "vocab_size"),
        ({}, "model_type"),
        ({**LLAMA, "quantization_config": {"quant_method": "gptq"}}, "gptq"),
    ],
)
def test_a_config_that_describes_no_known_model_is_unsupported(
    app: App, tmp_path: Path, config: dict[str, Any], said: str
) -> None:
    error = refused(app, str(model_folder(tmp_path / "m", config)))
    assert error.code == "model_unsupported"
    assert said in error.message


@pytest.mark.parametrize("text", ["", "[]", "{", "\udcff"])
def test_a_broken_config_json_is_incomplete(app: App, tmp_path: Path, text: str) -> None:
    folder = model_folder(tmp_path / "m")
    (folder / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    assert refused(app, str(folder)).code == "model_incomplete"


def test_an_adapter_points_to_its_base(app: App, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    error = refused(app, str(tmp_path))
    assert error.code == "model_unsupported"
    assert "base_model_name_or_path" in error.next_step


def test_an_encoder_is_no_model_for_supervised_fine_tuning(app: App, tmp_path: Path) -> None:
    config = {
        "model_type": "bert",
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": 100,
    }
    model = read_model(app, str(model_folder(tmp_path / "m", config)))
    with pytest.raises(ModelError) as caught:
        check_method(model, "sft")
    assert caught.value.code == "model_unsupported"
    assert "an encoder (bert)" in caught.value.message


@pytest.mark.parametrize("name", ["/no/such/folder", "./nothing", "what is this", "../../etc", "gpt2"])
def test_what_is_neither_folder_nor_hub_id_is_not_found(app: App, name: str) -> None:
    assert refused(app, name).code == "model_not_found"


def test_offline_and_not_in_the_cache_is_said(app: App) -> None:
    error = refused(app, "org/model")
    assert error.code == "model_not_found"
    assert "HF_HUB_OFFLINE" in error.message


def cached(home: Path, name: str = "org/model") -> Path:
    root = home / "hf" / "hub" / f"models--{name.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT, encoding="ascii")
    return model_folder(root / "snapshots" / COMMIT)


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_the_cache_is_read_without_a_network(app: App, clean_machine: Path, revision: str | None) -> None:
    cached(clean_machine)
    model = read_model(app, "org/model", revision)
    assert (model.source, model.revision, model.name) == ("cache", COMMIT, "org/model")


@pytest.mark.parametrize("revision", ["v2", "../../../secret", "/etc/passwd", "0" * 40])
def test_another_revision_is_not_taken_from_the_cache(app: App, clean_machine: Path, revision: str) -> None:
    cached(clean_machine)
    assert refused(app, "org/model", revision).code == "model_not_found"


def add_model(hub: Hub, *files: str, card: str | None = None) -> str:
    """A model of the Hub: config.json, tokenizer and these files; its commit."""
    contents = {"config.json": json.dumps(LLAMA).encode(), "tokenizer.json": b"{}"}
    contents |= {name: weights((LLAMA_PARAMETERS,), dtype="BF16") for name in files}
    if card is not None:
        contents["README.md"] = card.encode()
    return hub.add_repo("model", "org/model", contents).head.oid


def test_a_hub_model_is_read_without_its_weights(app: App, hub: Hub, online: str) -> None:
    commit = add_model(hub, "model.safetensors", "chat_template.jinja", card="---\nlicense: mit\n---\n")
    model = read_model(app, "org/model")
    assert (model.source, model.revision, model.license) == ("hub", commit, "mit")
    assert (model.parameters, model.stored_dtype, model.chat_template) == (LLAMA_PARAMETERS, "BF16", True)
    assert not any("safetensors" in request.path for request in hub.requests)


def test_a_hub_model_with_pickles_alone_is_refused(app: App, hub: Hub, online: str) -> None:
    add_model(hub, "pytorch_model.bin")
    assert refused(app, "org/model").code == "model_pickle_only"


def test_a_hub_model_without_weights_is_incomplete(app: App, hub: Hub, online: str) -> None:
    add_model(hub, card="# A model")
    assert refused(app, "org/model").code == "model_incomplete"


def test_a_gated_model_says_where_to_ask(app: App, hub: Hub, online: str) -> None:
    add_model(hub, "model.safetensors")
    hub.repo("model", "org/model").gated = "manual"
    error = refused(app, "org/model")
    assert error.code == "model_gated"
    assert "https://huggingface.co/org/model" in error.next_step
    assert "hf auth login" in error.next_step


def test_a_refusal_without_a_reason_counts_as_gated(app: App, hub: Hub, online: str) -> None:
    add_model(hub, "model.safetensors")
    for method in ("HEAD", "GET"):
        hub.faults.add(method, "/resolve/", status=403)
    assert refused(app, "org/model").code == "model_gated"


def test_a_missing_model_is_not_found(app: App, hub: Hub, online: str) -> None:
    error = refused(app, "org/other")
    assert error.code == "model_not_found"
    assert "private" in error.message


def test_a_missing_revision_is_not_found(app: App, hub: Hub, online: str) -> None:
    add_model(hub, "model.safetensors")
    error = refused(app, "org/model", "v9")
    assert error.code == "model_not_found"
    assert "'v9'" in error.message


def test_a_hub_that_cannot_be_reached_is_said(app: App, online: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(EnvironmentFault) as caught:
        read_model(app, "org/model")
    assert caught.value.code == "unreachable"
    assert "HF_ENDPOINT" in caught.value.next_step
