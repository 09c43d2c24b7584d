"""What was saved is looked at before a run is called succeeded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer
from training_runs import Train, failure_of, rows_of, write_rows

from model_trainer.services.app import App
from model_trainer.services.runs import view as run_view

pytestmark = pytest.mark.anyio

TEXTS = [f"The number {i} comes after {i - 1}." for i in range(20)]


@pytest.fixture
def ruined_model(tiny_model: Path, tmp_path: Path) -> Path:
    """A model with NaN in the embedding of a token that the texts don't have: no loss can show it."""
    folder = tmp_path / "ruined"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    # Tied to the head, the embedding would reach every loss.
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}), encoding="utf-8")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    used = {token for text in TEXTS for token in tokenizer.encode(text).ids}
    unused = next(token for token in reversed(range(tokenizer.get_vocab_size())) if token not in used)
    tensors = load_file(folder / "model.safetensors")
    embedding = tensors["model.embed_tokens.weight"]
    tensors["lm_head.weight"] = embedding.copy()
    embedding[unused] = np.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


async def test_weights_that_are_not_finite_are_no_success_though_the_loss_never_showed_it(
    app: App, workspace: Path, train: Train, ruined_model: Path
):
    data = write_rows(workspace / "texts.jsonl", [{"text": text} for text in TEXTS])
    run = await train(
        model={"name": str(ruined_model), "dtype": "float32"},
        datasets=[{"path": data}],
        eval_dataset=None,
        peft=None,
        training={"max_steps": 2, "save_strategy": "no"},
    )
    failed = await failure_of(app, run)
    assert failed.reason == "diverged"
    assert "model.embed_tokens.weight" in failed.detail
    losses = [row["loss"] for row in rows_of(run) if "loss" in row]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    assert (await run_view.get(app, run.id)).output is None
