"""Everything `check_environment` tells: hardware, training environments, accounts, back ends, settings, state."""

from __future__ import annotations

import shlex
import shutil
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Annotated

import anyio.to_thread
from pydantic import Field

from ...executors.errors import EnvironmentFault
from ..app import App
from ..result import Frozen, Result
from ..settings import SettingInEffect, describe_settings, settings_path
from .accounts import Account, look_at_accounts
from .environments import REQUIRED, TrainingEnvironment, look_for_environment
from .hardware import Hardware, look_at_hardware

#: What `model-trainer setup` writes (6 GB) with room to work, and what a run's checkpoints need at least.
LOW_DISK_GIB = 10.0


class EnvironmentFound(Frozen):
    profile: Annotated[str, Field(description="Name for `environment` in a config")]
    source: Annotated[str, Field(description="Named by settings, MODEL_TRAINER_PYTHON, setup or server; '' if broken")]
    python: str
    versions: Annotated[dict[str, str], Field(description="Packages and the Python itself")]
    missing: Annotated[list[str], Field(description="Packages without which it can't train")]
    problem: Annotated[str | None, Field(description="Why it doesn't work at all")] = None


class BackEnd(Frozen):
    name: str
    available: bool
    note: str


class Missing(Frozen):
    what: str
    why: str
    command: Annotated[str, Field(description="What gets it, for a shell")]
    required: Annotated[bool, Field(description="Nothing can be trained without it")]


class EnvironmentReport(Result):
    ready: Annotated[bool, Field(description="Runs can be started")]
    hardware: Hardware
    environments: Annotated[list[EnvironmentFound], Field(description="The one that applies first")]
    accounts: list[Account]
    back_ends: Annotated[list[BackEnd], Field(description="Where runs can train")]
    missing: list[Missing]
    settings_file: str
    settings: Annotated[list[SettingInEffect], Field(description="The human's; agents can't change them")]
    state_folder: str
    runs_folder: str

    def body(self) -> str:
        lines = [f"{'Ready to train' if self.ready else 'NOT ready to train'}.", *_hardware_lines(self.hardware)]
        lines += [_environment_line(found) for found in self.environments] or ["Training environment: none"]
        lines += [_account_line(account) for account in self.accounts]
        lines.append("Back ends: " + "; ".join(f"{end.name} ({end.note})" for end in self.back_ends))
        lines += [
            f"Missing{'' if item.required else ' (optional)'}: {item.what}: {item.why}. To get it: {item.command}"
            for item in self.missing
        ]
        changed = [f"{setting.name} = {setting.value}" for setting in self.settings if setting.changed]
        lines.append(f"Settings in {self.settings_file}: {', '.join(changed) or 'all at their defaults'}")
        lines.append(f"State folder: {self.state_folder}; runs: {self.runs_folder}")
        return "\n".join(lines)


async def check(app: App) -> EnvironmentReport:
    """What is there and what is missing; never fails for a missing thing."""
    return await anyio.to_thread.run_sync(look, app)


def look(app: App) -> EnvironmentReport:
    """As `check`, for callers without an event loop; blocking for about 0.1 s."""
    hardware = look_at_hardware(app.home)
    environments = _environments(app)
    accounts = look_at_accounts(app.settings)
    missing = [*_missing_packages(environments), *_missing_rest(hardware, accounts)]
    required = next((item for item in missing if item.required), None)
    return EnvironmentReport(
        ready=required is None,
        hardware=hardware,
        environments=environments,
        accounts=accounts,
        back_ends=_back_ends(hardware),
        missing=missing,
        settings_file=str(settings_path()),
        settings=describe_settings(app.settings),
        state_folder=str(app.home.root),
        runs_folder=str(app.home.runs),
        next_step="inspect_dataset(path=…) on the data, then plan_training."
        if required is None
        else f"Run `{required.command}` in a shell, then check_environment() again.",
    )


def _environments(app: App) -> list[EnvironmentFound]:
    """The one that applies, then those of other profiles that were set up."""
    names = ["default", *sorted(link.name for link in app.home.envs.iterdir() if link.is_symlink())]
    found: dict[str, EnvironmentFound] = {}
    for name in dict.fromkeys(names):
        try:
            environment = look_for_environment(app, name)
        except EnvironmentFault as error:
            broken = EnvironmentFound(
                profile=name, source="", python="", versions={}, missing=list(REQUIRED), problem=error.message
            )
            found.setdefault(error.message, broken)
            continue
        if environment is not None:
            found.setdefault(str(environment.python), _found(name, environment))
    return list(found.values())


def _found(profile: str, environment: TrainingEnvironment) -> EnvironmentFound:
    return EnvironmentFound(
        profile=profile,
        source=environment.source,
        python=str(environment.python),
        versions=environment.versions,
        missing=list(environment.missing),
    )


def _missing_packages(environments: list[EnvironmentFound]) -> list[Missing]:
    """What the environment that applies lacks; the others are only listed."""
    setup = "model-trainer setup"
    if not environments:
        why = "no training environment is installed; setup makes one (minutes, about 6 GB)"
        return [Missing(what="torch, transformers, trl, peft, datasets", why=why, command=setup, required=True)]
    first = environments[0]
    if first.problem is not None:
        return [Missing(what="a working Python to train with", why=first.problem, command=setup, required=True)]
    if not first.missing:
        return []
    command = setup if first.source == "setup" else install_command(Path(first.python), first.missing)
    why = f"the training environment {first.python} (named by: {first.source}) lacks them"
    return [Missing(what=", ".join(first.missing), why=why, command=command, required=True)]


def install_command(python: Path, packages: list[str]) -> str:
    """The shell command that installs `packages` for that Python, in the versions we are made for."""
    wanted = [_specifier(name) for name in packages]
    installer = ["uv", "pip", "install", "--python", str(python)]
    if shutil.which("uv") is None:
        installer = [str(python), "-m", "pip", "install"]
    return shlex.join([*installer, *wanted])


def _specifier(package: str) -> str:
    try:
        declared = requires("model-trainer") or []
    except PackageNotFoundError:
        declared = []
    for line in declared:
        requirement = line.partition(";")[0].strip()
        if requirement.replace("<", ">").partition(">")[0].strip() == package:
            return requirement
    return package


def _missing_rest(hardware: Hardware, accounts: list[Account]) -> list[Missing]:
    missing: list[Missing] = []
    if hardware.disk_free_gib < LOW_DISK_GIB:
        why = f"only {hardware.disk_free_gib:.1f} GiB are free where runs lie; checkpoints are big"
        command = f"free some, or set runs_dir in {shlex.quote(str(settings_path()))}"
        missing.append(Missing(what="disk space", why=why, command=command, required=False))
    if not accounts[0].logged_in:
        why = "gated models can't be fetched and nothing can be published"
        missing.append(Missing(what="a Hugging Face login", why=why, command="hf auth login", required=False))
    return missing


def _back_ends(hardware: Hardware) -> list[BackEnd]:
    gpus = len(hardware.gpus)
    local = f"this machine, {gpus} GPU{'s' if gpus != 1 else ''}" if gpus else "this machine, on the CPU"
    absent = "not in this version"
    return [
        BackEnd(name="local", available=True, note=local),
        BackEnd(name="slurm", available=False, note=absent),
        BackEnd(name="hf_jobs", available=False, note=absent),
    ]


def _hardware_lines(hardware: Hardware) -> list[str]:
    lines = [
        f"GPU {gpu.index}: {gpu.name}, {gpu.memory_free_gib:.1f} of {gpu.memory_total_gib:.1f} GiB free, "
        f"{gpu.other_processes} other processes, compute capability {gpu.compute_capability or 'unknown'}"
        for gpu in hardware.gpus[:8]
    ]
    if len(hardware.gpus) > 8:
        lines.append(f"(showing 8 of {len(hardware.gpus)} GPUs)")
    if not hardware.gpus:
        lines.append(f"GPU: none. {hardware.note or ''} Training runs on the CPU, which suits tiny models.")
    elif hardware.note:
        lines.append(hardware.note)
    lines.append(
        f"CPU: {hardware.cpu_cores} cores; memory: {hardware.memory_available_gib:.1f} of "
        f"{hardware.memory_total_gib:.1f} GiB available; disk: {hardware.disk_free_gib:.1f} GiB free"
    )
    return lines


def _environment_line(found: EnvironmentFound) -> str:
    if found.problem is not None:
        return f"Training environment ({found.profile}): broken. {found.problem}"
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    lacks = f"; lacks {', '.join(found.missing)}" if found.missing else ""
    return f"Training environment ({found.profile}, named by: {found.source}): {found.python}: {versions}{lacks}"


def _account_line(account: Account) -> str:
    if not account.logged_in:
        return f"{account.name}: not logged in; {account.note}"
    note = f"; {account.note}" if account.note else ""
    return f"{account.name}: logged in ({account.where}){note}"
