"""The human's settings file: agents can read what applies, and can't change it."""

from __future__ import annotations

import json
import os
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, ClassVar, cast

import platformdirs
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, ValidationError

from ..executors.errors import StateError
from .configs.schema import Integer, Number
from .result import Frozen

#: What a run inherits from the server's environment without being asked: where caches and mirrors are, and how to
#: reach them. Tokens are not among them; a run that needs one is named it under `inherit_env`.
DEFAULT_INHERITED = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "XDG_CACHE_HOME", "OMP_NUM_THREADS"),
    *("HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_XET"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
    *("CUDA_VISIBLE_DEVICES", "CUDA_HOME", "LD_LIBRARY_PATH"),
)


def _from_anywhere(path: Path) -> Path:
    path = path.expanduser()
    if not path.is_absolute():
        # Servers start in whatever folder their client is in: a relative path would mean another place each time.
        raise ValueError("give an absolute path, or one that begins with ~")
    return path


SettingsPath = Annotated[Path, AfterValidator(_from_anywhere)]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Settings(BaseModel):
    """`settings.toml`, each key with its meaning. Everything has a default; an absent file is fine."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    runs_dir: Annotated[SettingsPath | None, Field(description="Where run folders lie; checkpoints are big")] = None
    python: Annotated[SettingsPath | None, Field(description="The training environment's Python interpreter")] = None
    cpu_slots: Annotated[
        Integer, Field(ge=1, le=64, description="How many runs train on the CPU at once; others wait in a queue")
    ] = 1
    share_gpus: Annotated[
        StrictBool, Field(description="Runs may start on a GPU that other people's processes use too")
    ] = False
    inherit_env: Annotated[
        tuple[VariableName, ...],
        Field(description="Further variables that a run inherits (names only, HF_TOKEN for one)"),
    ] = ()
    publish_namespaces: Annotated[
        tuple[str, ...], Field(description="Hub namespaces that may be published to; none listed: your account's own")
    ] = ()
    confirm_in_client: Annotated[
        StrictBool, Field(description="Publishing and spending need the client's own confirmation dialogue")
    ] = False
    allow_user_code: Annotated[
        StrictBool, Field(description="Reward functions and metrics written by the user may run")
    ] = False
    max_spend_per_run: Annotated[Number, Field(ge=0, description="USD that one run may cost at most")] = 0.0
    max_spend_per_day: Annotated[Number, Field(ge=0, description="USD that all runs of a day may cost at most")] = 0.0


def settings_path() -> Path:
    """Where the settings file lies (`$XDG_CONFIG_HOME/model-trainer/settings.toml` on Linux)."""
    return Path(platformdirs.user_config_dir("model-trainer")) / "settings.toml"


class SettingInEffect(Frozen):
    """One setting as it applies, for agents and for `model-trainer doctor`."""

    name: str
    value: Annotated[str, Field(description="As it would stand in settings.toml; 'not set' where there is none")]
    changed: Annotated[bool, Field(description="The human's choice, not the default")]
    meaning: str


def describe_settings(settings: Settings) -> list[SettingInEffect]:
    """Every setting with its value and meaning, in the file's order; lists are cut at 10 entries."""
    return [
        SettingInEffect(
            name=name,
            value=_as_toml(getattr(settings, name)),
            changed=getattr(settings, name) != field.default,
            meaning=field.description or "",
        )
        for name, field in Settings.model_fields.items()
    ]


def _as_toml(value: object) -> str:
    if value is None:
        return "not set"
    if isinstance(value, tuple):
        entries = [json.dumps(str(entry)) for entry in cast("tuple[object, ...]", value)]
        more = [f"… {len(entries) - 10} more"] if len(entries) > 10 else []
        return f"[{', '.join(entries[:10] + more)}]"
    return json.dumps(str(value) if isinstance(value, Path) else value)


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
        detail = _explain(error)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        detail = str(error)
    raise StateError(
        "invalid_settings",
        f"{path} can't be used: {detail}",
        next_step=f"Ask the human to correct {path}; `model-trainer doctor` shows what applies.",
    )


def _explain(error: ValidationError) -> str:
    first = error.errors(include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        near = get_close_matches(where, Settings.model_fields, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"{where!r} is no setting; {hint}Settings are {', '.join(Settings.model_fields)}."
    meaning = Settings.model_fields[str(first["loc"][0])].description
    return f"{where}: {first['msg'].removeprefix('Value error, ')} ({meaning})."


def inherited_environment(settings: Settings) -> dict[str, str]:
    """The variables a run gets from this process, by name: nothing else passes."""
    names = (*DEFAULT_INHERITED, *settings.inherit_env)
    return {name: os.environ[name] for name in names if name in os.environ}
