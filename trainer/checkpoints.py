"""Checkpoints that can be trusted: described when saved, rotated by us, so that a verified one always remains."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from . import manifests


class CheckpointKeeper(TrainerCallback):
    """Writes a manifest for each save, moves `last-good`, and deletes the oldest beyond `limit`.

    The newest good one and the best one (load_best_model_at_end) are never deleted.
    """

    def __init__(self, checkpoints: Path, *, limit: int | None, complete: Callable[[Path], None]) -> None:
        """`complete` adds to a saved folder what transformers leaves out, before it is described."""
        self._checkpoints = checkpoints
        self._limit = limit
        self._complete = complete

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        folder = self._checkpoints / f"checkpoint-{state.global_step}"
        if not folder.is_dir():
            return
        # A pickle that nothing of ours reads.
        (folder / "training_args.bin").unlink(missing_ok=True)
        self._complete(folder)
        finite = all_finite(folder)
        manifests.write(folder, finite=finite)
        if finite:
            manifests.mark_good(folder)
            self._rotate(folder, state.best_model_checkpoint)

    def _rotate(self, newest: Path, best: str | None) -> None:
        if self._limit is None:
            return
        kept = {newest.name, Path(best).name if best else newest.name}
        older = [folder for folder in manifests.folders(self._checkpoints) if folder.name not in kept]
        for folder in older[max(0, self._limit - len(kept)) :]:
            shutil.rmtree(folder)


def all_finite(folder: Path) -> bool:
    """Whether no tensor of the folder's safetensors files holds NaN or infinity."""
    return all(not bad_tensors(path) for path in sorted(folder.glob("*.safetensors")))


def bad_tensors(path: Path) -> list[str]:
    """Names of the tensors in a safetensors file that hold NaN or infinity."""
    bad: list[str] = []
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118  not a mapping
            tensor = file.get_tensor(name)
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                bad.append(name)
    return bad
