"""Supervised fine-tuning by TRL's SFTTrainer: full or LoRA, plain or quantized base."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from . import data, models
from .continuing import LoadsExactly
from .failures import Failure


@dataclass(frozen=True)
class Job:
    """A trainer ready to train."""

    trainer: SFTTrainer
    checkpoint_limit: int | None
    rows: dict[str, int]
    """`training`: rows read for training; `dropped`: how many of them TRL left out."""


class Trainer(LoadsExactly, SFTTrainer):
    """TRL's, able to go on exactly."""


def build(
    config: Mapping[str, Any],
    *,
    checkpoints: Path,
    resumes: bool = False,
    on_data: Callable[[list[dict[str, Any]]], None] = lambda _: None,
) -> Job:
    """The trainer that `config` describes.

    `on_data` is told what was read (see `data.load`) before anything heavy happens, and may refuse it.

    Raises:
        Failure: the data can't be used.
    """
    arguments = make_arguments(config, checkpoints, resumes=resumes)
    train, held_out, read = data.load(config, seed=arguments.seed)
    on_data(read)
    tokenizer = models.load_tokenizer(config["model"])
    model = models.load_causal(config)
    trainer = make_trainer(config, model, tokenizer, arguments, train, held_out)
    _refuse_empty(trainer.train_dataset, len(train), arguments)
    # Packed rows are several in one: none is dropped, and their number says nothing.
    dropped = 0 if arguments.packing else len(train) - len(cast("Sized", trainer.train_dataset))
    rows = {"training": len(train), "dropped": max(dropped, 0)}
    return Job(trainer, (config.get("training") or {}).get("save_total_limit", 2), rows)


def _refuse_empty(prepared: Any, rows: int, arguments: SFTConfig) -> None:
    """Refuse data of which nothing is left to learn: TRL would train on nothing, with a loss of 0.0.

    TRL drops a row whose labels are all masked once it is cut to max_length; packed rows it keeps.
    """
    if not any(label != -100 for row in prepared for label in row["labels"]):
        raise Failure(
            "bad_data",
            f"every label of the {rows} rows is masked: nothing would be learned. The prompts alone fill "
            f"max_length {arguments.max_length}, or no row has an assistant turn",
        )


def make_arguments(config: Mapping[str, Any], checkpoints: Path, *, resumes: bool = False) -> SFTConfig:
    """TRL's arguments: what the config says, and what is ours to decide."""
    given = dict(config.get("training") or {})
    evaluates = config.get("eval_dataset") is not None
    defaults: dict[str, Any] = {
        "bf16": config["model"]["dtype"] == "bfloat16",
        "fp16": config["model"]["dtype"] == "float16",
        "logging_steps": 10,
    }
    if evaluates:
        # Without the loss before the first step nobody knows whether the model got better.
        defaults["eval_on_start"] = True
    owned: dict[str, Any] = {
        "output_dir": str(checkpoints),
        "report_to": "none" if config["tracking"]["report_to"] == "none" else [config["tracking"]["report_to"]],
        "use_cpu": config["resources"]["gpus"] == 0,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "push_to_hub": False,
        # We rotate ourselves: what transformers deletes may be the last checkpoint that is whole.
        "save_total_limit": None,
    }
    if resumes:
        # It would measure a half-trained model and call it the start; the first measurement is carried on instead.
        owned["eval_on_start"] = False
    return SFTConfig(**{**defaults, **given, **owned})


def make_trainer(
    config: Mapping[str, Any],
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    arguments: SFTConfig,
    train: Dataset,
    held_out: Dataset | None,
) -> SFTTrainer:
    """TRL's trainer over given parts: also what shows how rows are rendered and masked."""
    return Trainer(
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=tokenizer,
        peft_config=models.peft_config(config),
    )
