"""What is known of a trained model, from the records of its run: what a card may say, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...executors.paths import RunPaths
from ...trainer.contract import METHODS
from ..app import App
from ..configs import loading as configs
from ..configs.emit import dump
from ..configs.schema import Config
from ..runs import life as runs
from ..runs import lineage
from ..runs.outputs import Output
from ..untrusted import clean
from .bundle import Base, without_paths
from .licence import Licence


@dataclass(frozen=True)
class Data:
    """One part of the data."""

    name: str
    """Hub id, or a local file's or folder's name."""
    on_hub: bool
    rows: int
    sha256: str
    format: str
    held_out: bool


@dataclass(frozen=True)
class Facts:
    """All that a card is made of."""

    run_id: str
    kind: str
    """`adapter` or `model`."""
    method: str
    method_title: str
    peft: str | None
    base: Base
    licence: Licence | None
    data: tuple[Data, ...]
    dropped_rows: int
    """Training rows of which the cut to max_length left nothing to learn."""
    held_out: str | None
    """How the rows that the loss was measured on were chosen; None without any."""
    steps: int
    epochs: float
    metrics: dict[str, float]
    seconds: float
    """Of this run and of those that it resumed."""
    resumed: int
    """How many runs it resumed."""
    date: str
    hardware: str | None
    memory: str | None
    versions: dict[str, str]
    config: str
    """The config as YAML, without paths of this machine."""
    config_digest: str


def base_of(config: Config, output: Output) -> Base:
    """The base model, by a name that means something elsewhere."""
    name = config.model.name
    on_hub = configs.is_hub_id(name)
    recorded: str | None = output.result.get("base_commit")
    return Base(clean(name if on_hub else Path(name).name, 120), on_hub, recorded if on_hub else None)


def collect(app: App, run: RunPaths, output: Output, config: Config, base: Base, licence: Licence | None) -> Facts:
    """The facts of a succeeded training run. Blocking: reads its records and those of the runs it resumed."""
    asked = runs.asked(run)
    result = output.result
    resumed = list(lineage.parents(app, run))
    measured: dict[str, Any] = result.get("metrics") or {}
    versions: dict[str, str] = result.get("versions") or {}
    rows: dict[str, int] = result.get("rows") or {}
    return Facts(
        run_id=run.id,
        kind=output.kind,
        method=config.method,
        method_title=METHODS[config.method].title,
        peft=_peft(config),
        base=base,
        licence=licence,
        data=tuple(_data(one) for one in output.data),
        dropped_rows=rows.get("dropped", 0),
        held_out=_held_out(config),
        steps=int(result.get("steps") or 0),
        epochs=float(result.get("epochs") or 0.0),
        metrics={name: float(value) for name, value in measured.items() if isinstance(value, (int, float))},
        seconds=sum(map(_seconds, (run, *resumed))),
        resumed=len(resumed),
        date=str(asked["created"])[:10],
        hardware=_hardware(result.get("hardware")),
        memory=_memory(result.get("memory") or {}),
        versions={name: clean(version, 40) for name, version in versions.items()},
        config=dump(_portable(config)),
        config_digest=str(asked.get("config_digest")),
    )


def _data(record: dict[str, Any]) -> Data:
    path = str(record["path"])
    on_hub = configs.is_hub_id(path)
    return Data(
        name=clean(path if on_hub else Path(path).name, 120),
        on_hub=on_hub,
        rows=int(record["rows"]),
        sha256=str(record["sha256"]),
        format=str(record["format"]),
        held_out=bool(record.get("eval")),
    )


def _peft(config: Config) -> str | None:
    if config.peft is None:
        return None
    kind = {"lora": "LoRA"}.get(str(config.peft.get("type", "lora")), str(config.peft.get("type")))
    return f"QLoRA ({config.quantization})" if config.quantization is not None and kind == "LoRA" else kind


def _held_out(config: Config) -> str | None:
    held_out = config.eval_dataset
    if held_out is None:
        return None
    if held_out.fraction is not None:
        return f"{100 * held_out.fraction:.3g} % of the rows, drawn by a seeded shuffle before training"
    path = held_out.path
    if path is None:
        return f"the split {clean(str(held_out.split), 60)} of the data"
    return f"{clean(path if configs.is_hub_id(path) else Path(path).name, 120)}, apart from the training data"


def _seconds(run: RunPaths) -> float:
    """How long a run took; 0 where its record doesn't say."""
    return float((runs.read_record(run.exit_json) or {}).get("seconds") or 0.0)


def _hardware(record: dict[str, Any] | None) -> str | None:
    if not record:
        return None
    name = clean(str(record.get("name")), 80)
    if record.get("device") == "cuda":
        return f"{record.get('count')} x {name}"
    return f"CPU: {name}, {record.get('count')} cores"


def _memory(record: dict[str, Any]) -> str | None:
    gpus = [value for name, value in record.items() if name.startswith("gpu") and name.endswith("_allocated_gib")]
    if gpus:
        return f"{max(gpus):.1f} GiB of GPU memory at the peak"
    host = record.get("host_gib")
    return f"{host:.1f} GiB of memory at the peak" if isinstance(host, (int, float)) else None


def _portable(config: Config) -> dict[str, Any]:
    """The config with names in place of paths, and of its folders in place of local models and data."""
    return without_paths(configs.plain(config))
