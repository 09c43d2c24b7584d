"""A model on the Hub: its files' names, config.json and parameter count, without its weights."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, cast

from ...executors.errors import EnvironmentFault, ModelError
from .model_cache import cache_folder

#: Seconds for one answer of the Hub.
_SECONDS = 8.0


@dataclass(frozen=True)
class HubModel:
    """What the Hub tells."""

    commit: str
    files: list[str]
    config: dict[str, Any]
    parameters: int | None
    dtype: str | None
    license: str | None
    chat_template: bool


def offline() -> bool:
    """Whether the user has told huggingface_hub not to go out."""
    return os.environ.get("HF_HUB_OFFLINE", os.environ.get("TRANSFORMERS_OFFLINE", "")).upper() in {
        "1",
        "ON",
        "YES",
        "TRUE",
    }


def look_up(name: str, revision: str | None) -> HubModel:
    """What the Hub has under `name`; two small requests.

    Raises:
        ModelError: `model_not_found` (or private), `model_gated`, `model_incomplete`.
        EnvironmentFault: `unreachable`.
    """
    from huggingface_hub import HfApi, hf_hub_download  # pyright: ignore[reportUnknownVariableType]
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.utils import httpx

    endpoint = os.environ.get("HF_ENDPOINT")
    try:
        info = HfApi(endpoint=endpoint).model_info(name, revision=revision, timeout=_SECONDS)
        commit = info.sha or revision or "main"
        path = hf_hub_download(
            name, "config.json", revision=commit, etag_timeout=_SECONDS, endpoint=endpoint, cache_dir=cache_folder()
        )
        with open(path, encoding="utf-8") as file:
            config: Any = json.load(file)
    except GatedRepoError as error:
        raise _gated(name) from error
    except RevisionNotFoundError as error:
        raise ModelError(
            "model_not_found",
            f"{name} has no revision {revision!r:.60}.",
            next_step=f'plan_training(model="{name}") takes its main branch.',
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelError(
            "model_not_found",
            f"The Hub has no model {name!r:.120}, or it is private and your token may not see it.",
            next_step="Correct the name (owner/model), or log in with `hf auth login`; without model, "
            "plan_training(dataset=…) proposes three that fit.",
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        # A download that was forbidden arrives as one that failed, with the refusal as its cause.
        if isinstance(error.__cause__, HfHubHTTPError) and error.__cause__.response.status_code in (401, 403):
            raise _refused(name, error.__cause__.response.status_code) from error
        raise _unreachable(name, "the download failed") from error
    except EntryNotFoundError as error:
        raise ModelError(
            "model_incomplete",
            f"{name} has no config.json: it is no model that transformers can load (perhaps an adapter or GGUF files).",
            next_step=f"plan_training(dataset=…, model=…) with the base model that {name} was made from.",
        ) from error
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise _refused(name, error.response.status_code) from error
        raise _unreachable(name, f"it answers with an error ({type(error).__name__})") from error
    except (httpx.HTTPError, OSError) as error:
        raise _unreachable(name, type(error).__name__) from error
    except ValueError as error:
        raise ModelError(
            "model_incomplete",
            f"The config.json of {name} is no JSON.",
            next_step=f"plan_training(dataset=…, model={name!r}, revision=…) with another revision, or another model.",
        ) from error
    files = [sibling.rfilename for sibling in info.siblings or []]
    counts = info.safetensors.parameters if info.safetensors else {}
    licenses = [tag.partition(":")[2] for tag in info.tags or [] if tag.startswith("license:")]
    return HubModel(
        commit=commit,
        files=files,
        config=cast("dict[str, Any]", config) if isinstance(config, dict) else {},
        parameters=info.safetensors.total if info.safetensors else None,
        dtype=max(counts, key=lambda dtype: counts[dtype]) if counts else None,
        license=licenses[0] if licenses else None,
        chat_template="chat_template.jinja" in files or _has_template(cast("object", info.config)),
    )


def _has_template(config: object) -> bool:
    if not isinstance(config, dict):
        return False
    tokenizer: object = cast("dict[str, object]", config).get("tokenizer_config")
    return isinstance(tokenizer, dict) and bool(cast("dict[str, object]", tokenizer).get("chat_template"))


def _gated(name: str) -> ModelError:
    return ModelError(
        "model_gated",
        f"{name} is gated: its owner gives access on request, and your account (or the lack of one here) has none.",
        next_step=f"A person accepts the terms at https://huggingface.co/{name} and runs `hf auth login`; "
        "or name an open model. Without model, plan_training(dataset=…) proposes three.",
    )


def _refused(name: str, status: int) -> ModelError:
    return ModelError(
        "model_gated",
        f"The Hub doesn't let your account read {name} ({status}): its token isn't valid, or isn't allowed to.",
        next_step="A person runs `hf auth login` with a valid token; or name an open model. Without model, "
        "plan_training(dataset=…) proposes three.",
    )


def _unreachable(name: str, why: str) -> EnvironmentFault:
    return EnvironmentFault(
        "unreachable",
        f"{name} is not in the local cache, and the Hub can't be reached: {why}.",
        next_step=f"Check the network and HF_ENDPOINT, then plan_training(dataset=…, model={name!r}) again; or give a "
        "local folder as model.",
    )
