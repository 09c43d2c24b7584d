"""The human's settings file: agents can read what applies, and can't change it."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, ClassVar

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..executors.errors import StateError

#: What a run inherits from the server's environment without being asked: where caches and mirrors are, and how to
#: reach them. Tokens are not among them; a run that needs one is named it under `inherit_env`.
DEFAULT_INHERITED = (
    "PATH HOME USER LOGNAME LANG LC_ALL TMPDIR XDG_CACHE_HOME HF_HOME HF_HUB_CACHE HF_ENDPOINT HF_HUB_OFFLINE "
    "http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE "
    "CUDA_VISIBLE_DEVICES CUDA_HOME LD_LIBRARY_PATH"
).split()


class Settings(BaseModel):
    """`settings.toml`, each key with its meaning. Everything has a default; an absent file is fine."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", strict=False)

    runs_dir: Annotated[Path | None, Field(description="Where run folders lie; checkpoints are big")] = None
    python: Annotated[Path | None, Field(description="The training environment's Python interpreter")] = None
    inherit_env: Annotated[
        tuple[str, ...], Field(description="Further variables that a run inherits (names only, HF_TOKEN for one)")
    ] = ()
    publish_namespaces: Annotated[tuple[str, ...], Field(description="Hub namespaces that may be published to")] = ()
    confirm_in_client: Annotated[
        bool, Field(description="Publishing and spending need the client's own confirmation dialogue")
    ] = False
    allow_user_code: Annotated[bool, Field(description="Reward functions and metrics written by the user may run")] = (
        False
    )
    max_spend_per_run: Annotated[float, Field(ge=0, description="USD that one run may cost at most")] = 0.0
    max_spend_per_day: Annotated[float, Field(ge=0, description="USD that all runs of a day may cost at most")] = 0.0


def settings_path() -> Path:
    """Where the settings file lies (`$XDG_CONFIG_HOME/model-trainer/settings.toml` on Linux)."""
    return Path(platformdirs.user_config_dir("model-trainer")) / "settings.toml"


def load_settings() -> Settings:
    """The settings that apply.

    Raises:
        StateError: the file can't be read or names something that isn't a setting.
    """
    path = settings_path()
    try:
        return Settings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        detail = f"{where}: {first['msg']}; settings are {', '.join(Settings.model_fields)}"
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        detail = str(error)
    raise StateError(
        "invalid_settings",
        f"{path} can't be used: {detail}",
        next_step=f"Ask the human to correct {path}; `model-trainer doctor` shows what applies.",
    )


def inherited_environment(settings: Settings) -> dict[str, str]:
    """The variables a run gets from this process, by name: nothing else passes."""
    names = (*DEFAULT_INHERITED, *settings.inherit_env)
    return {name: os.environ[name] for name in names if name in os.environ}
