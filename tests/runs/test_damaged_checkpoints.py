"""Checkpoints that a disk, a kill or a bad step spoiled: passed over, named and moved aside."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from training_runs import Train, failure_of, injected, losses, result_of, rows_of

from model_trainer.executors.paths import RunPaths
from model_trainer.services.app import App
from model_trainer.services.environment.children import child_environment
from model_trainer.trainer import manifests, records
from model_trainer.trainer.contract import SNAPSHOT_PACKAGE

pytestmark = pytest.mark.anyio

WEIGHTS = "adapter_model.safetensors"
STEPS = 4


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept") / "run"


@pytest.fixture
async def trained(app: App, train: Train, kept: Path, tmp_path: Path) -> RunPaths:
    """A copy of a run that saved at each of four steps; trained once for all tests of this file."""
    if not kept.exists():
        # Dropout, so that each step depends on the random numbers as well.
        run = await train(
            training={"max_steps": STEPS, "save_steps": 1, "save_total_limit": STEPS},
            peft={"type": "lora", "r": 4, "lora_alpha": 8, "target_modules": "all-linear", "lora_dropout": 0.3},
            eval_dataset=None,
        )
        await result_of(app, run)
        shutil.copytree(run.root, kept)
    shutil.copytree(kept, tmp_path / "run")
    return RunPaths(root=tmp_path / "run", lock=tmp_path / "run.lock")


def described(folder: Path, *, finite: bool = True) -> None:
    """Describe it anew, as a save does: the files agree with the manifest, whatever they are."""
    manifests.write(folder, finite=finite)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)


def ruin(path: Path) -> None:
    """Make the first number of the first float32 tensor NaN; the file stays a sound one."""
    data = bytearray(path.read_bytes())
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    first = next(entry for name, entry in header.items() if name != "__metadata__")
    assert first["dtype"] == "F32"
    struct.pack_into("<f", data, 8 + length + first["data_offsets"][0], float("nan"))
    path.write_bytes(data)


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def of_another_step(folder: Path) -> None:
    (folder / manifests.MANIFEST).write_bytes(
        (folder.with_name(f"checkpoint-{STEPS - 1}") / manifests.MANIFEST).read_bytes()
    )


def ruined(folder: Path) -> None:
    ruin(folder / WEIGHTS)
    described(folder, finite=False)


def state_cut_before_the_manifest(folder: Path) -> None:
    cut(folder / "trainer_state.json")
    described(folder)


def never_saved(name: str) -> Callable[[Path], None]:
    """A save that left this file out and knew nothing of it."""

    def damage(folder: Path) -> None:
        (folder / name).unlink()
        described(folder)

    return damage


@dataclass(frozen=True)
class Damage:
    """What happens to the newest checkpoint's folder, and what is then said of it."""

    does: Callable[[Path], None]
    says: str


DAMAGES = {
    "no model": Damage(lambda folder: (folder / WEIGHTS).unlink(), f"{WEIGHTS} is gone"),
    "a cut model": Damage(lambda folder: cut(folder / WEIGHTS), f"{WEIGHTS} has another size"),
    "a flipped bit": Damage(lambda folder: flip(folder / WEIGHTS), f"{WEIGHTS} has other bytes"),
    "NaN in the weights": Damage(ruined, "the weights hold NaN or infinity"),
    "an empty folder": Damage(empty, "no manifest"),
    "no optimizer": Damage(lambda folder: (folder / "optimizer.pt").unlink(), "optimizer.pt is gone"),
    "no optimizer from the start": Damage(never_saved("optimizer.pt"), "optimizer.pt is missing"),
    "no scheduler": Damage(lambda folder: (folder / "scheduler.pt").unlink(), "scheduler.pt is gone"),
    "no scheduler from the start": Damage(never_saved("scheduler.pt"), "scheduler.pt is missing"),
    "no random numbers": Damage(lambda folder: (folder / "rng_state.pth").unlink(), "rng_state.pth is gone"),
    "no random numbers from the start": Damage(never_saved("rng_state.pth"), "random number generators' state"),
    "no manifest": Damage(lambda folder: (folder / manifests.MANIFEST).unlink(), "no manifest"),
    "a cut state": Damage(lambda folder: cut(folder / "trainer_state.json"), "trainer_state.json has another size"),
    "a state that was cut already": Damage(state_cut_before_the_manifest, "its state can't be read"),
    "another step's manifest": Damage(of_another_step, f"the manifest is of step {STEPS - 1}"),
    "half a manifest": Damage(lambda folder: cut(folder / manifests.MANIFEST), "no manifest"),
}


def newest(run: RunPaths) -> Path:
    return run.checkpoints / f"checkpoint-{STEPS}"


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_a_damaged_checkpoint_is_passed_over_and_named(trained: RunPaths, damage: Damage):
    good, bad = manifests.last_good(trained.checkpoints)
    assert (good and good.folder, bad) == (newest(trained), [])
    damage.does(newest(trained))
    good, (verdict,) = manifests.last_good(trained.checkpoints)
    assert good is not None
    assert good.step == STEPS - 1
    assert verdict.folder == newest(trained)
    assert any(damage.says in problem for problem in verdict.problems), verdict.problems


@dataclass(frozen=True)
class Machine:
    """Where attempts are started by hand, without a supervisor."""

    app: App
    python: Path
    workspace: Path

    def attempt(self, run: RunPaths, number: int, **training: Any) -> dict[str, Any]:
        """Start the trainer as attempt `number` of `run`, with these changes to its config; its result.json."""
        folder = run.attempt(number)
        folder.root.mkdir()
        text = run.config.read_text(encoding="utf-8")
        for name, value in training.items():
            lines = [line for line in text.splitlines() if line.strip().startswith(f"{name}: ")]
            assert len(lines) == 1
            text = text.replace(lines[0], f"  {name}: {json.dumps(value)}")
        folder.config.write_text(text, encoding="utf-8")
        record: records.Record = {"number": number, "resume": True, "changes": {}, "why": None}
        records.write_json(folder.root / "attempt.json", record)
        with open(folder.log, "wb") as log:
            ended = subprocess.run(
                [str(self.python), "-m", f"{SNAPSHOT_PACKAGE}.trainer", "train", str(folder.root)],
                env={**child_environment(self.app), "PYTHONPATH": str(run.code)},
                cwd=self.workspace,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=120,
            )
        said = folder.log.read_text(encoding="utf-8")
        assert ended.returncode == 0, said[-3000:]
        result = records.read_json(folder.result)
        assert result is not None
        assert result["outcome"] == "succeeded"
        # Whoever reads the log learns of it too.
        assert all(one in said for one in result.get("quarantined", []))
        return result

    def finite(self, folder: Path) -> bool:
        """Whether the trainer finds all weights of this checkpoint finite, as its own code sees them."""
        asks = self.workspace / "asks.py"
        asks.write_text(
            f"""from pathlib import Path
from {SNAPSHOT_PACKAGE}.trainer import checkpoints
raise SystemExit(0 if checkpoints.all_finite(Path({str(folder)!r})) else 3)
""",
            encoding="utf-8",
        )
        ended = subprocess.run(
            [str(self.python), "-m", f"{SNAPSHOT_PACKAGE}.trainer", "train"],
            env={**child_environment(self.app), "FORK_INJECT": str(asks)},
            cwd=self.workspace,
            check=False,
            timeout=120,
        )
        assert ended.returncode in (0, 3)
        return ended.returncode == 0


@pytest.fixture
def machine(app: App, fork_python: Path, workspace: Path) -> Machine:
    return Machine(app, fork_python, workspace)


def steps_kept(folders: Sequence[Path]) -> list[int]:
    return [manifests.step_of(folder) for folder in folders]


def aside(run: RunPaths) -> list[str]:
    return sorted(path.name for path in (run.checkpoints / manifests.QUARANTINE).iterdir())


async def test_weights_that_are_not_finite_are_seen_in_the_file(trained: RunPaths, machine: Machine):
    assert machine.finite(newest(trained))
    ruin(newest(trained) / WEIGHTS)
    assert not machine.finite(newest(trained))


@pytest.mark.parametrize(
    "kind", ["a flipped bit", "NaN in the weights", "no optimizer from the start", "half a manifest"]
)
async def test_an_attempt_goes_on_from_the_older_good_one_to_the_same_curve(
    trained: RunPaths, machine: Machine, kind: str
):
    damage = DAMAGES[kind]
    damage.does(newest(trained))
    damaged = {path.name: path.read_bytes() for path in newest(trained).iterdir()}
    result = machine.attempt(trained, 2)
    assert result["resumed"]["step"] == STEPS - 1
    (told,) = result["quarantined"]
    assert told.startswith(f"checkpoint-{STEPS}: ")
    assert damage.says in told
    # What was damaged is kept to be looked at, as it was; a good one has its name now.
    assert aside(trained) == [f"checkpoint-{STEPS}.1"]
    moved = trained.checkpoints / manifests.QUARANTINE / f"checkpoint-{STEPS}.1"
    assert {path.name: path.read_bytes() for path in moved.iterdir()} == damaged
    assert manifests.verify(newest(trained)).is_good
    first = {row["step"]: row["loss"] for row in records.read_lines(trained.attempt(1).metrics)[0] if "loss" in row}
    assert losses(trained) == {STEPS: first[STEPS]}


async def test_what_is_damaged_again_lies_beside_the_former_and_counts_for_no_rotation(
    trained: RunPaths, machine: Machine
):
    for number in (1, 2):
        flip(newest(trained) / WEIGHTS)
        result = machine.attempt(trained, number + 1, save_total_limit=1)
        # The second time there is none before it: the limit is 1.
        assert (result.get("resumed") or {}).get("step") == (STEPS - 1 if number == 1 else None)
        assert aside(trained)[-1] == f"checkpoint-{STEPS}.{number}"
        # Of those that can be gone on from, the newest stays, whatever lies aside.
        assert steps_kept(manifests.folders(trained.checkpoints)) == [STEPS]
        assert manifests.verify(newest(trained)).is_good
    assert aside(trained) == [f"checkpoint-{STEPS}.1", f"checkpoint-{STEPS}.2"]


async def test_with_nothing_good_left_it_trains_from_the_start_and_says_so(trained: RunPaths, machine: Machine):
    for folder, damage in zip(manifests.folders(trained.checkpoints), list(DAMAGES.values())[:STEPS], strict=True):
        damage.does(folder)
    result = machine.attempt(trained, 2)
    assert "resumed" not in result
    assert [one.partition(":")[0] for one in result["quarantined"]] == [
        f"checkpoint-{step}" for step in range(STEPS, 0, -1)
    ]
    assert aside(trained) == [f"checkpoint-{step}.1" for step in range(1, STEPS + 1)]
    first = {row["step"]: row["loss"] for row in records.read_lines(trained.attempt(1).metrics)[0] if "loss" in row}
    assert losses(trained) == first
    assert result["steps"] == STEPS


#: Ruins the weights after the third step: what is saved from then on holds NaN.
RUINS = """
import torch
from transformers import Trainer
step = Trainer.training_step
def training_step(self, model, *args, **kwargs):
    if self.state.global_step == 3:
        with torch.no_grad():
            next(p for p in model.parameters() if p.requires_grad).view(-1)[0] = float("nan")
    return step(self, model, *args, **kwargs)
Trainer.training_step = training_step
"""


async def test_rotation_keeps_the_last_verified_one_where_the_newest_are_bad(
    app: App, train: Train, workspace: Path, fork_python: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", str(injected(workspace, fork_python, RUINS)))
    run = await train(training={"max_steps": 9, "save_steps": 1, "save_total_limit": 1}, eval_dataset=None)
    assert (await failure_of(app, run)).reason == "diverged"
    good, bad = manifests.last_good(run.checkpoints)
    assert good is not None
    assert good.step == 3
    assert bad
    assert all(verdict.problems == ("the weights hold NaN or infinity",) for verdict in bad)
    assert records.read_json(run.checkpoints / manifests.LAST_GOOD) == {"checkpoint": "checkpoint-3", "step": 3}


async def test_rotation_keeps_the_best_one_and_the_newest(app: App, train: Train):
    run = await train(
        training={
            "max_steps": 4,
            "save_steps": 1,
            "save_total_limit": 1,
            "eval_strategy": "steps",
            "eval_steps": 1,
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_loss",
            # As the loss falls, the "best" is an old one.
            "greater_is_better": True,
        },
        eval_dataset={"fraction": 0.02},
    )
    await result_of(app, run)
    measured = {row["step"]: row["eval_loss"] for row in rows_of(run) if "eval_loss" in row}
    best = max((step for step in measured if step > 0), key=measured.__getitem__)
    assert best < 4
    assert steps_kept(manifests.folders(run.checkpoints)) == [4, best]
    assert all(manifests.verify(folder).is_good for folder in manifests.folders(run.checkpoints))
