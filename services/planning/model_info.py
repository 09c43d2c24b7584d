"""What planning needs to know of a model, from its config.json and its weights' headers; nothing of it is run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from ...executors.errors import ModelError
from ...trainer.contract import METHODS
from ..app import App, is_folder
from .model_cache import HUB_ID, find_snapshot
from .model_hub import look_up, offline
from .shapes import FAMILIES, Shape, UnknownShapeError, shape_of
from .weights import Weights, check_names, check_tokenizer, read_weights

#: Attention that is part of torch or transformers. Everything else is a package or code fetched from the Hub.
_OWN_ATTENTION = frozenset({"eager", "sdpa", "flex_attention"})
_KERNEL_KEYS = (
    "attn_implementation",
    "_attn_implementation",
    "_attn_implementation_internal",
    "experts_implementation",
)
_LICENSE = re.compile(r"^license(?:_name)?:\s*[\"']?([\w.+-]{1,60})", re.MULTILINE)


@dataclass(frozen=True)
class ModelInfo:
    """A model that can be planned with."""

    name: str
    """As a config should name it: an absolute folder, or a Hub id."""
    source: Literal["folder", "cache", "hub"]
    revision: str | None
    """The commit, for a Hub model."""
    shape: Shape
    parameters: int
    parameters_from: Literal["weights", "config"]
    stored_dtype: str | None
    license: str | None
    chat_template: bool | None
    """Whether the tokenizer brings one; None where that can't be seen."""
    warnings: tuple[str, ...] = ()

    @property
    def extra_parameters(self) -> int:
        """Parameters in the files beyond what the closed form knows."""
        return max(0, self.parameters - self.shape.parameters)


def read_model(app: App, name: str, revision: str | None = None) -> ModelInfo:
    """The model that `name` means: a folder (absolute, or in the workspace), else the local cache, else the Hub.

    Blocks while the Hub answers (seconds).

    Raises:
        ModelError: it is missing, gated, incomplete, pickled, wants foreign code, or isn't of a known kind.
        EnvironmentFault: `unreachable`.
        ArgumentError: a relative path, and no workspace.
    """
    folder = _folder(app, name)
    if folder is not None:
        return _from_folder(folder, str(folder), None, "folder")
    if not HUB_ID.match(name):
        raise ModelError(
            "model_not_found",
            f"{name[:120]!r} is neither a folder here nor a Hub id (owner/model).",
            next_step="Give the folder's absolute path or a Hub id; without model, plan_training(dataset=…) proposes "
            "three that fit.",
        )
    snapshot = find_snapshot(name, revision)
    if snapshot is not None and any(snapshot.folder.glob("*.safetensors*")):
        return _from_folder(snapshot.folder, name, snapshot.commit, "cache")
    if offline():
        raise ModelError(
            "model_not_found",
            f"{name} is not in the local cache, and HF_HUB_OFFLINE forbids to ask the Hub.",
            next_step=f"Unset HF_HUB_OFFLINE, or `hf download {name}` where there is a network, or give a folder.",
        )
    return _from_hub(name, revision)


def check_method(model: ModelInfo, method: str) -> None:
    """Refuse a method that the model's architecture can't be trained with.

    Raises:
        ModelError: `model_unsupported`.
    """
    wanted = {"classify": "encoder", "mlm": "encoder", "seq2seq": "encoder_decoder"}.get(method, "decoder")
    if model.shape.kind == wanted:
        return
    kinds = {"encoder": "an encoder", "encoder_decoder": "an encoder-decoder", "decoder": "a decoder"}
    fitting = [m.name for m in METHODS.values() if m.module and m.name not in ("classify", "mlm", "seq2seq")]
    raise ModelError(
        "model_unsupported",
        f"{model.name} is {kinds[model.shape.kind]} ({model.shape.family}); {method} trains {kinds[wanted]} that "
        "generates text.",
        next_step=f"Take a generating model for {', '.join(fitting)} (Qwen3, Llama, SmolLM2, …); without model, "
        "plan_training(dataset=…) proposes three that fit.",
    )


def _folder(app: App, name: str) -> Path | None:
    """The folder that `name` means, or None for a Hub id."""
    if name.startswith(("/", "./", "../", "~")) or name in (".", ".."):
        folder = app.resolve(name)
        if not folder.is_dir():
            raise ModelError(
                "model_not_found",
                f"There is no folder {folder}.",
                next_step=f"Correct {name!r} and call plan_training again, or give a Hub id (owner/model).",
            )
        return folder.resolve()
    if app.workspace is not None and is_folder(app.workspace / name):
        return (app.workspace / name).resolve()
    return None


def _from_folder(folder: Path, name: str, revision: str | None, source: Literal["folder", "cache"]) -> ModelInfo:
    config = _config(folder, name)
    refuse_foreign_code(config, name)
    weights = read_weights(folder, name)
    check_tokenizer((entry.name for entry in folder.iterdir()), name, str(folder))
    return _assemble(name, source, revision, config, weights, _license(folder), _template(folder))


def _from_hub(name: str, revision: str | None) -> ModelInfo:
    found = look_up(name, revision)
    refuse_foreign_code(found.config, name)
    check_names(found.files, name, name)
    check_tokenizer(found.files, name, name)
    weights = Weights(found.parameters, 0, found.dtype) if found.parameters else None
    return _assemble(name, "hub", found.commit, found.config, weights, found.license, found.chat_template)


def _assemble(
    name: str,
    source: Literal["folder", "cache", "hub"],
    revision: str | None,
    config: Mapping[str, Any],
    weights: Weights | None,
    license_name: str | None,
    chat_template: bool | None,
) -> ModelInfo:
    if isinstance(config.get("quantization_config"), dict):
        method = str(config["quantization_config"].get("quant_method", "unknown"))[:40]
        raise ModelError(
            "model_unsupported",
            f"The weights of {name} are quantized already ({method}); training quantizes the original itself.",
            next_step="plan_training(dataset=…, model=…) with the original model; a plan uses quantization where "
            "memory asks for it.",
        )
    try:
        shape = shape_of(config)
    except UnknownShapeError as error:
        raise ModelError(
            "model_unsupported",
            f"The config.json of {name} can't be planned with: {error}.",
            next_step=f"Take a model of a known kind ({', '.join(FAMILIES)}); without model, plan_training(dataset=…) "
            "proposes three.",
        ) from error
    warnings: list[str] = []
    parameters = shape.parameters if weights is None else weights.parameters
    if abs(parameters - shape.parameters) > 0.005 * shape.parameters:
        warnings.append(
            f"config.json describes {shape.parameters:,} parameters, the weights hold {parameters:,}: "
            "the plan's memory is less sure"
        )
    return ModelInfo(
        name=name,
        source=source,
        revision=revision,
        shape=shape,
        parameters=parameters,
        parameters_from="config" if weights is None else "weights",
        stored_dtype=None if weights is None else weights.dtype,
        license=license_name,
        chat_template=chat_template,
        warnings=tuple(warnings),
    )


def _config(folder: Path, name: str) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        if (folder / "adapter_config.json").is_file():
            raise ModelError(
                "model_unsupported",
                f"{folder} holds an adapter, not a model.",
                next_step=f"plan_training(dataset=…, model={_base_of(folder)!r}) with its base model, which "
                "adapter_config.json names as base_model_name_or_path.",
            )
        raise ModelError(
            "model_incomplete",
            f"{folder} has no config.json, so it is no model folder.",
            next_step="plan_training(dataset=…, model=…) with a folder that holds config.json and .safetensors files, "
            "or with a Hub id.",
        )
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = None
    if not isinstance(config, dict):
        raise ModelError(
            "model_incomplete",
            f"{path} is no JSON object.",
            next_step=f"Get the file again (`hf download {name}`) and call plan_training again, or name another model.",
        )
    return cast("dict[str, Any]", config)


def _base_of(adapter: Path) -> str:
    """The base model that an adapter's own file names, or an ellipsis."""
    try:
        told: Any = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "…"
    base: object = cast("dict[str, object]", told).get("base_model_name_or_path") if isinstance(told, dict) else None
    return base if isinstance(base, str) else "…"


def refuse_foreign_code(config: Mapping[str, Any], name: str) -> None:
    """Refuse a config.json that would have code from a repository run.

    Raises:
        ModelError: `model_needs_remote_code`, `model_needs_hub_kernel`.
    """
    for key, value in _kernels(config):
        raise ModelError(
            "model_needs_hub_kernel",
            f"The config.json of {name} names {key}: {value!r:.80}, which is code fetched from elsewhere; it is never "
            "loaded unasked.",
            next_step=f"Remove {key} from its config.json (then sdpa is used), or name a model without it; "
            "then call plan_training again.",
        )
    if config.get("auto_map") and config.get("model_type") not in FAMILIES:
        raise ModelError(
            "model_needs_remote_code",
            f"{name} asks for code from its repository (auto_map in config.json), and its model_type "
            f"{config.get('model_type')!r:.60} is not built in. Code from model repositories is never run.",
            next_step="plan_training(dataset=…, model=…) with a model of a built-in kind "
            f"({', '.join(FAMILIES[:6])}, …).",
        )


def _kernels(config: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[str, object]]:
    for key, value in config.items():
        if isinstance(value, dict) and depth < 3 and not key.endswith("kernel_config"):
            yield from _kernels(cast("dict[str, Any]", value), depth + 1)
        elif _is_kernel(key, cast("object", value)):
            yield key, value


def _is_kernel(key: str, value: object) -> bool:
    if key in _KERNEL_KEYS:
        return value is not None and value not in _OWN_ATTENTION
    return (key == "use_kernels" and value is True) or (key.endswith("kernel_config") and bool(value))


def _template(folder: Path) -> bool | None:
    if (folder / "chat_template.jinja").is_file():
        return True
    try:
        tokenizer: Any = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return isinstance(tokenizer, dict) and bool(cast("dict[str, Any]", tokenizer).get("chat_template"))


def _license(folder: Path) -> str | None:
    """The license that the model card's front matter names."""
    try:
        with (folder / "README.md").open(encoding="utf-8", errors="replace") as file:
            card = file.read(20_000)
    except OSError:
        return None
    front = card.split("\n---", 1)[0] if card.startswith("---") else ""
    found = _LICENSE.search(front)
    return found.group(1) if found else None
