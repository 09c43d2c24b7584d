"""Combinations that fail late or train silently wrong, found in the config alone.

Each rule says what would have happened: most of them cost an hour of GPU time before they show.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...trainer.contract import FORMATS, METHODS, find_format
from ...trainer.yaml12 import Key
from .schema import Config, Evaluation
from .text import Document

#: How far from a method's usual learning rate a warning begins.
_RATE_FACTOR = 10.0


@dataclass
class _Check:
    document: Document
    config: Config
    warnings: list[str] = field(default_factory=list[str])

    @property
    def training(self) -> Mapping[str, Any]:
        return self.config.training

    def on(self, name: str) -> bool:
        return self.training.get(name) is True

    def refuse(self, key: Key, message: str, value: object = ...) -> None:
        self.document.refuse("invalid_config", key, message, self.document.correct(key, value))

    def refuse_training(self, name: str, message: str, value: object = ...) -> None:
        self.refuse(("training", name), message, value)

    def warn(self, key: str, message: str) -> None:
        self.warnings.append(f"{key}: {message}.")


def check_rules(document: Document, config: Config) -> list[str]:
    """Warnings about the config's combinations.

    Raises:
        ConfigError: `invalid_config`: a combination that can't train, or trains something else than was asked.
    """
    check = _Check(document, config)
    for rule in _RULES:
        rule(check)
    return check.warnings


def _without_effect(check: _Check) -> None:
    """A key that this version reads and does nothing with is said, never silently dropped."""
    config = check.config
    if config.evaluation.metrics != Evaluation().metrics:
        check.warn("evaluation.metrics", "it has no effect in this version: every metric that TRL logs is reported")
    if config.tracking.project is not None:
        check.warn(
            "tracking.project",
            "it has no effect in this version; inherit_env in settings.toml passes WANDB_PROJECT on",
        )


def _lengths(check: _Check) -> None:
    steps, epochs = check.training.get("max_steps", -1), check.training.get("num_train_epochs")
    if steps > 0 and epochs is not None:
        check.warn("training.max_steps", "it wins over num_train_epochs, which is ignored")
    without_limit = "max_length" in check.training and check.training["max_length"] is None
    if check.on("packing") and without_limit:
        check.refuse_training("max_length", "packing fills rows of this length, so it can't be null", 1024)
    if check.on("padding_free") and not check.on("packing") and not without_limit:
        check.refuse_training(
            "padding_free", "without packing it does not enforce max_length, and TRL refuses it", False
        )
    if check.on("packing") and check.training.get("train_sampling_strategy") == "group_by_length":
        check.warn("training.train_sampling_strategy", "packed rows all have the same length, so grouping does nothing")
    if check.training.get("dataloader_prefetch_factor") and not check.training.get("dataloader_num_workers"):
        message = "rows are only fetched ahead by workers; write dataloader_num_workers above 0"
        check.refuse_training("dataloader_prefetch_factor", message)
    for name in ("logging_steps", "eval_steps", "save_steps"):
        value = check.training.get(name)
        if isinstance(value, float) and value > 1 and not value.is_integer():
            check.refuse_training(name, "above 1 it counts steps and must be whole; below 1 it is a share of all steps")


def _evaluation(check: _Check) -> None:
    strategy = check.training.get("eval_strategy", "no")
    if strategy != "no" and check.config.eval_dataset is None:
        check.refuse_training(
            "eval_strategy", "there is no eval_dataset to evaluate on; write eval_dataset or no", "no"
        )
    if check.on("eval_on_start") and check.config.eval_dataset is None:
        check.refuse_training("eval_on_start", "there is no eval_dataset to evaluate on", False)
    if check.training.get("lr_scheduler_type") in ("reduce_lr_on_plateau", "greedy") and strategy == "no":
        check.refuse_training("lr_scheduler_type", "it follows the evaluation loss, so it needs an eval_strategy")
    _best_model(check, strategy)


def _best_model(check: _Check, strategy: object) -> None:
    saves = check.training.get("save_strategy", "steps")
    if check.training.get("save_strategy") == "best" and strategy == "no":
        check.refuse_training("save_strategy", "the best checkpoint is found by evaluating; write an eval_strategy")
    if not check.on("load_best_model_at_end") or saves == "best":
        return
    if strategy == "no" or strategy != saves:
        message = f"needs eval_strategy and save_strategy to be the same, but they are {strategy} and {saves}"
        check.refuse_training("load_best_model_at_end", message)
    if strategy == "steps":
        every = check.training.get("eval_steps") or check.training.get("logging_steps", 10)
        saved = check.training.get("save_steps", 500)
        if (every < 1) == (saved < 1) and abs(saved / every - round(saved / every)) > 1e-9:
            message = f"load_best_model_at_end needs a multiple of eval_steps ({every:g})"
            check.refuse_training("save_steps", message, every)


def _checkpoints(check: _Check) -> None:
    if check.on("save_only_model"):
        check.warn("training.save_only_model", "a resumed run would silently start its optimizer and schedule anew")
    if check.training.get("save_strategy") == "no":
        check.warn("training.save_strategy", "a run that is interrupted has no checkpoint to go on from")


def _precision(check: _Check) -> None:
    dtype, gpus = check.config.model.dtype, check.config.resources.gpus
    fp16 = check.training.get("fp16", dtype == "float16")
    bf16 = check.training.get("bf16", dtype == "bfloat16")
    if fp16 is True and bf16 is True:
        name = "fp16" if "fp16" in check.training else "bf16"
        check.refuse_training(name, f"fp16 and bf16 exclude each other, and model.dtype is {dtype}", False)
    if gpus == 0 and fp16 is True:
        check.warn("model.dtype" if dtype == "float16" else "training.fp16", "on the CPU bfloat16 or float32 is faster")
    if gpus > 0 and fp16 is True and dtype == "float16" and check.config.peft is None:
        message = "weights in float16 can't be trained with fp16 scaling; write float32 (with fp16) or bfloat16"
        check.refuse(("model", "dtype"), message, "bfloat16")
    if gpus == 0:
        _cpu_only(check)


def _cpu_only(check: _Check) -> None:
    if check.on("tf32"):
        check.refuse_training("tf32", "TF32 is a mode of GPUs, and resources.gpus is 0", False)
    if check.on("activation_offloading"):
        check.refuse_training("activation_offloading", "it moves tensors off a GPU, and resources.gpus is 0", False)
    optimizer = str(check.training.get("optim", ""))
    if optimizer.startswith("paged_"):
        check.warn("training.optim", "paging needs a GPU; on the CPU bitsandbytes trains without it")
    if check.config.quantization is not None:
        check.warn("quantization", "on the CPU it saves memory and costs much time")


def _masking(check: _Check) -> None:
    for index, dataset in enumerate(check.config.datasets):
        if dataset.columns is not None:
            _columns(check, ("datasets", index, "columns"), list(dataset.columns))
    held_out = check.config.eval_dataset
    if held_out is not None and held_out.columns is not None:
        _columns(check, ("eval_dataset", "columns"), list(held_out.columns))


def _columns(check: _Check, key: Key, columns: list[str]) -> None:
    """Rows keep only the columns that the mapping names, so it alone decides their format."""
    method = METHODS[check.config.method]
    found = find_format(columns)
    if found not in method.formats:
        needs = "; or ".join(", ".join(FORMATS[name].required) for name in method.formats)
        check.refuse(key, f"gives {', '.join(columns) or 'no columns'}; {method.name} needs {needs}")
    if check.on("completion_only_loss") and found in ("messages", "language_modeling"):
        message = f"rows with {' and '.join(columns)} have no completion: TRL would train on every token, silently"
        check.refuse_training("completion_only_loss", message, False)
    if check.on("assistant_only_loss") and found == "language_modeling":
        check.refuse_training("assistant_only_loss", "plain text has no assistant turns", False)


def _adapter(check: _Check) -> None:
    rate, peft = check.training.get("learning_rate"), check.config.peft
    full, lora = METHODS[check.config.method].learning_rates
    usual = full if peft is None else lora
    if rate is not None and not usual / _RATE_FACTOR <= rate <= usual * _RATE_FACTOR:
        size = "low" if rate < usual else "high"
        what = "full fine-tuning" if peft is None else "LoRA"
        check.warn("training.learning_rate", f"{rate:g} is {size} for {what}, which usually starts at {usual:g}")
    if peft is None:
        return
    named = [peft.get("target_modules"), peft.get("modules_to_save")]
    if any(isinstance(modules, list | str) and "lm_head" in modules for modules in named):
        check.warn("peft", "lm_head is tied to the embeddings in many models: merging may then change both")
    if peft.get("use_dora") is True and check.config.quantization == "int8":
        check.warn("peft.use_dora", "with int8 it is slow: weights are dequantized at every step")


_RULES: tuple[Callable[[_Check], None], ...] = (
    _without_effect,
    _lengths,
    _evaluation,
    _checkpoints,
    _precision,
    _masking,
    _adapter,
)
