"""What the server's side and the trainer must agree on, once: methods, data formats, row mappings, stale names.

Standard library only: it is imported by the server, by the scan of data files and by the trainer in an environment
in which nothing else of ours is installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]

#: The package name under which a run's snapshot of our code is imported.
SNAPSHOT_PACKAGE = "trainer_snapshot"

#: Schema version of run.json and of what stands beside it.
SCHEMA_VERSION = 1

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class DataFormat:
    """A shape of rows that a method can train on."""

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()

    def fits(self, columns: Sequence[str]) -> bool:
        """Whether rows with these columns have all that is required."""
        return set(self.required) <= set(columns)


#: TRL's own dataset formats (and those of transformers for encoder models), the more specific first.
FORMATS: dict[str, DataFormat] = {
    f.name: f
    for f in (
        DataFormat("preference", ("prompt", "chosen", "rejected"), ("tools",)),
        DataFormat("implicit_preference", ("chosen", "rejected"), ("tools",)),
        DataFormat("unpaired_preference", ("prompt", "completion", "label"), ("tools",)),
        DataFormat("prompt_completion", ("prompt", "completion"), ("tools",)),
        DataFormat("messages", ("messages",), ("tools",)),
        DataFormat("labeled_text", ("text", "label"), ("text_pair",)),
        DataFormat("text_pair", ("source", "target")),
        DataFormat("language_modeling", ("text",)),
        DataFormat("prompt_only", ("prompt",), ("tools",)),
    )
}


@dataclass(frozen=True)
class Method:
    """A training method: what it trains on, and which argument class its `training` keys belong to.

    `module` is the trainer's module, None where this version can't train it yet.
    """

    name: str
    title: str
    formats: tuple[str, ...]
    config_class: str
    module: str | None = None
    #: our starting learning rates, (full fine-tuning, LoRA), and where they come from
    learning_rates: tuple[float, float] = (2e-5, 2e-4)
    needs_generation: bool = False


METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        Method(
            "sft",
            "supervised fine-tuning",
            ("prompt_completion", "messages", "language_modeling"),
            "trl.SFTConfig",
            module="sft",
        ),
        Method("dpo", "direct preference optimization", ("preference", "implicit_preference"), "trl.DPOConfig"),
        Method("kto", "Kahneman-Tversky optimization", ("unpaired_preference",), "trl.KTOConfig"),
        Method("orpo", "odds-ratio preference optimization", ("preference",), "trl.experimental.orpo.ORPOConfig"),
        Method("cpo", "contrastive preference optimization", ("preference",), "trl.experimental.cpo.CPOConfig"),
        Method("reward", "reward modelling", ("preference", "implicit_preference"), "trl.RewardConfig"),
        Method("grpo", "group relative policy optimization", ("prompt_only",), "trl.GRPOConfig"),
        Method("rloo", "REINFORCE leave-one-out", ("prompt_only",), "trl.RLOOConfig"),
        Method("ppo", "proximal policy optimization", ("prompt_only",), "model_trainer.PPOConfig"),
        Method("distill", "distillation from a teacher", ("prompt_only", "messages"), "trl.DistillationConfig"),
        Method("classify", "text classification", ("labeled_text",), "transformers.TrainingArguments"),
        Method("seq2seq", "sequence to sequence", ("text_pair",), "transformers.Seq2SeqTrainingArguments"),
        Method("mlm", "masked language modelling", ("language_modeling",), "transformers.TrainingArguments"),
    )
}


def available_methods() -> list[str]:
    """Names of the methods that this version trains."""
    return [m.name for m in METHODS.values() if m.module is not None]


def find_format(columns: Sequence[str]) -> str | None:
    """The most specific format that rows with these columns have; None if they have none."""
    return next((f.name for f in FORMATS.values() if f.fits(columns)), None)


#: Arguments that agents write from memory and that current TRL and transformers refuse, with what to write now.
#: None: removed without replacement; the text says what to do.
STALE_ARGUMENTS: dict[str, tuple[str | None, str]] = {
    "max_seq_length": ("max_length", "renamed in TRL 0.20"),
    "max_prompt_length": (None, "removed; max_length bounds prompt and completion together"),
    "warmup_ratio": ("warmup_steps", "a warmup_steps below 1 is a ratio"),
    "evaluation_strategy": ("eval_strategy", "renamed in transformers 4.46"),
    "group_by_length": (None, "write train_sampling_strategy: group_by_length"),
    "overwrite_output_dir": (None, "removed; each run has its own output folder"),
    "save_safetensors": (None, "removed; safetensors is the only format"),
    "logging_dir": (None, "removed; each run has its own folder"),
    "torch_dtype": (None, "write model.dtype in the config instead"),
    "no_cuda": ("use_cpu", "renamed in transformers 4.34"),
    "per_gpu_train_batch_size": ("per_device_train_batch_size", "renamed in transformers 3"),
    "per_gpu_eval_batch_size": ("per_device_eval_batch_size", "renamed in transformers 3"),
    "push_to_hub_token": (None, "tokens never stand in a config; publishing is a step of its own"),
    "dataset_kwargs": (None, "use datasets[].columns of the config instead"),
    "use_liger_kernel": (None, "deprecated; TRL's fused loss is used anyway"),
    "tokenizer": ("processing_class", "an argument of the trainer, not of its config"),
}

#: Keys of `training` that we set ourselves, with the reason why a config may not.
OWNED_ARGUMENTS: dict[str, str] = {
    "output_dir": "each run has its own folder",
    "run_name": "the run id is its name",
    "hub_token": "tokens never stand in a config",
    "hub_model_id": "publishing is a step of its own",
    "push_to_hub": "publishing is a step of its own",
    "hub_strategy": "publishing is a step of its own",
    "hub_private_repo": "publishing is a step of its own",
    "report_to": "write it under tracking",
    "project": "write it under tracking",
    "trackio_space_id": "publishing is a step of its own",
    "trackio_bucket_id": "publishing is a step of its own",
    "trackio_static_space_id": "publishing is a step of its own",
    "hub_always_push": "publishing is a step of its own",
    "hub_revision": "publishing is a step of its own",
    "chat_template_path": "write model.chat_template instead",
    "enable_jit_checkpoint": "a stopped run saves at the end of its step anyway",
    "resume_from_checkpoint": "resuming is a step of its own",
    "trust_remote_code": "code from model repositories is never run",
    "model_init_kwargs": "write model.dtype and quantization instead",
    "logging_nan_inf_filter": "it hides non-finite losses as 0.0",
    "use_cpu": "resources decides where the run trains",
    "dataset_num_proc": "set from the machine's cores",
    "disable_tqdm": "progress is read from the metrics",
    "local_rank": "set by the launcher",
    "deepspeed": "distributed runs are not in this version",
    "fsdp": "distributed runs are not in this version",
    "fsdp_config": "distributed runs are not in this version",
}


@dataclass(frozen=True)
class Turns:
    """How a foreign chat is written: the keys of a turn, and its role names in ours."""

    role: str = "role"
    content: str = "content"
    roles: Mapping[str, str] = field(default_factory=dict[str, str])


#: Role names of foreign chats (ShareGPT and kin) in the four that chat templates know.
FOREIGN_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "bard": "assistant",
    "instruction": "user",
    "prompter": "user",
    "function_call": "assistant",
    "function": "tool",
    "observation": "tool",
    "function_response": "tool",
}


class MappingError(ValueError):
    """A row doesn't have what its mapping names."""


def map_row(row: Mapping[str, Any], columns: Mapping[str, str | Sequence[str]] | None, turns: Turns | None) -> Row:
    """One row in our columns.

    `columns` maps ours to theirs; a list joins several text columns with a blank line, leaving empty ones out
    (Alpaca's instruction and input). Without `columns` the row is taken as it is; with it, only what it names. `turns`
    rewrites the chats under messages, prompt, completion, chosen and rejected to role and content.

    Raises:
        MappingError: a named column is missing, or what should be joined is no text.
    """
    mapped: Row = dict(row) if columns is None else {}
    for ours, theirs in (columns or {}).items():
        if isinstance(theirs, str):
            if theirs not in row:
                raise MappingError(f"no column {theirs!r}")
            mapped[ours] = row[theirs]
            continue
        parts: list[str] = []
        for name in theirs:
            value = row.get(name)
            if name not in row:
                raise MappingError(f"no column {name!r}")
            if value is not None and not isinstance(value, str):
                raise MappingError(f"column {name!r} holds no text to join")
            if value and value.strip():
                parts.append(value)
        mapped[ours] = "\n\n".join(parts)
    if turns is not None:
        for name in ("messages", "prompt", "completion", "chosen", "rejected"):
            if isinstance(mapped.get(name), list):
                mapped[name] = [_map_turn(turn, turns) for turn in mapped[name]]
    return mapped


def _map_turn(turn: object, turns: Turns) -> object:
    if not isinstance(turn, dict):
        raise MappingError("a turn is no object")
    known: dict[str, Any] = dict(turn)  # pyright: ignore[reportUnknownArgumentType]
    if turns.role not in known or turns.content not in known:
        raise MappingError(f"a turn without {turns.role!r} or {turns.content!r}")
    role = known.pop(turns.role)
    content = known.pop(turns.content)
    return {"role": turns.roles.get(str(role), role), "content": content, **known}
