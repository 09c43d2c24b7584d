"""The config file as a model: one small YAML file that agent and user both edit.

`training` and `peft` hold TRL's and PEFT's own names and are checked against what is installed
(`services.configs.keys`); everything else is checked here, at every level.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from ...trainer.contract import METHODS


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a boolean is not a number")  # TypeError would escape pydantic
    return value


#: Numbers in which `true` is refused (pydantic would read it as 1), NaN and infinity too.
Integer = Annotated[int, BeforeValidator(_no_boolean)]
Number = Annotated[float, BeforeValidator(_no_boolean), Field(allow_inf_nan=False)]

#: Bounds as pydantic names them in the JSON Schema of a number with a validator before it, to what the standard calls
#: them: under pydantic's own names no client knows them.
BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}

MethodName = Literal[
    "sft", "dpo", "kto", "orpo", "cpo", "reward", "grpo", "rloo", "ppo", "distill", "classify", "seq2seq", "mlm"
]
assert set(MethodName.__args__) == set(METHODS), "MethodName and the method table differ"  # noqa: S101


class Section(BaseModel):
    """A part of the config: unknown keys are errors."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema)["properties"]
        properties.update({name: _with_standard_bounds(one) for name, one in properties.items()})
        return schema


def _with_standard_bounds(schema: JsonSchemaValue) -> JsonSchemaValue:
    found = {BOUNDS.get(name, name): value for name, value in schema.items()}
    if "anyOf" in found:
        found["anyOf"] = [_with_standard_bounds(one) for one in found["anyOf"]]
    return found


class Model(Section):
    name: Annotated[str, Field(min_length=1, description="Hub id or folder of the model")]
    revision: Annotated[str | None, Field(description="Commit, tag or branch of a Hub model")] = None
    dtype: Annotated[
        Literal["bfloat16", "float32", "float16"], Field(description="Precision in which weights are loaded")
    ] = "bfloat16"
    chat_template: Annotated[
        str | None, Field(description="File with a chat template, for a model whose tokenizer has none")
    ] = None


class Turns(Section):
    role: Annotated[str, Field(description="Key of a turn's role")] = "role"
    content: Annotated[str, Field(description="Key of a turn's text")] = "content"
    roles: Annotated[dict[str, str], Field(description="Their role names to system, user, assistant, tool")] = {}


class Dataset(Section):
    path: Annotated[str, Field(min_length=1, description="File, folder, glob or Hub id")]
    split: Annotated[str | None, Field(description="Split of a Hub dataset; train where not given")] = None
    revision: Annotated[str | None, Field(description="Commit, tag or branch of a Hub dataset")] = None
    columns: Annotated[
        dict[str, str | list[str]] | None,
        Field(description="Our column to theirs; a list joins text columns with a blank line"),
    ] = None
    turns: Annotated[Turns | None, Field(description="How a foreign chat is written")] = None
    weight: Annotated[Number, Field(gt=0, le=1000, description="Share in a mixture, relative to the others")] = 1.0


class EvalDataset(Section):
    fraction: Annotated[
        Number | None, Field(gt=0, lt=1, description="Part of the training data held out, by a seeded shuffle")
    ] = None
    path: Annotated[str | None, Field(description="File, folder, glob or Hub id")] = None
    split: Annotated[str | None, Field(description="Split, of `path` or of the first Hub dataset")] = None
    revision: Annotated[str | None, Field(description="Commit, tag or branch of `path` on the Hub")] = None
    columns: Annotated[dict[str, str | list[str]] | None, Field(description="As in datasets")] = None
    turns: Annotated[Turns | None, Field(description="As in datasets")] = None

    @model_validator(mode="after")
    def _one_way(self) -> EvalDataset:
        if self.fraction is not None and (self.path is not None or self.split is not None):
            raise ValueError("give either fraction, or path and split")
        if self.fraction is None and self.path is None and self.split is None:
            raise ValueError("give fraction, path or split; or null for no evaluation")
        if self.revision is not None and self.path is None:
            raise ValueError("revision is of path; the first dataset has its own")
        return self


class Resources(Section):
    where: Annotated[Literal["local"], Field(description="Where the run trains")] = "local"
    gpus: Annotated[Integer, Field(ge=0, le=1, description="Number of GPUs; 0 trains on the CPU")] = 0
    max_hours: Annotated[Number, Field(gt=0, le=720, description="The run is ended with a checkpoint by then")] = 24.0


class Guards(Section):
    nonfinite_steps: Annotated[
        Integer, Field(ge=1, le=1000, description="Consecutive log steps with NaN or infinity that end the run")
    ] = 3
    stall_minutes: Annotated[
        Literal["auto"] | Number, Field(description="Minutes without a step that count as hung")
    ] = "auto"

    @model_validator(mode="after")
    def _positive(self) -> Guards:
        if self.stall_minutes != "auto" and self.stall_minutes <= 0:
            raise ValueError("stall_minutes is auto or a number above 0")
        return self


class Recovery(Section):
    """What a run does by itself after a failure, each as a new attempt; method, data and effective batch stay."""

    interrupted: Annotated[
        Literal["resume", "stop"], Field(description="After preemption or a restart of the machine")
    ] = "resume"
    oom_gpu: Annotated[
        Literal["shrink_batch", "stop"],
        Field(description="Out of GPU memory: smaller batch, more accumulation, then gradient checkpointing"),
    ] = "shrink_batch"
    communication_retries: Annotated[
        Integer, Field(ge=0, le=10, description="Tries after a failed connection (ranks, Hub)")
    ] = 2


class Evaluation(Section):
    metrics: Annotated[
        list[Literal["loss", "mean_token_accuracy", "entropy"]], Field(description="Metrics to report")
    ] = ["loss", "mean_token_accuracy"]


class Tracking(Section):
    report_to: Annotated[
        Literal["none", "wandb", "trackio", "tensorboard", "mlflow"], Field(description="Experiment tracker")
    ] = "none"
    project: Annotated[str | None, Field(description="The tracker's project name")] = None


class Config(Section):
    """A fine-tuning, whole. Key order is the file's order."""

    version: Annotated[Literal[1], Field(description="Version of this format")] = 1
    method: Annotated[MethodName, Field(description="Training method")] = "sft"
    model: Annotated[Model, Field(description="What is trained")]
    datasets: Annotated[list[Dataset], Field(min_length=1, max_length=64, description="What it is trained on")]
    eval_dataset: Annotated[
        EvalDataset | None, Field(description="What the loss is measured on; null for no evaluation")
    ] = EvalDataset(fraction=0.05)
    peft: Annotated[dict[str, Any] | None, Field(description="type: lora, and PEFT's own LoraConfig fields")] = None
    quantization: Annotated[Literal["nf4", "int8"] | None, Field(description="Of the base weights; needs peft")] = None
    training: Annotated[dict[str, Any], Field(description="The method's own TRL config fields")] = {}
    resources: Annotated[Resources, Field(description="Where, on what and how long")] = Resources()
    guards: Annotated[Guards, Field(description="What ends a run that goes wrong")] = Guards()
    recovery: Annotated[Recovery, Field(description="What is recovered without asking")] = Recovery()
    evaluation: Annotated[Evaluation, Field(description="What is measured")] = Evaluation()
    tracking: Annotated[Tracking, Field(description="Where else metrics go")] = Tracking()
    environment: Annotated[str, Field(pattern="^[a-z][a-z0-9_-]{0,31}$", description="Training environment")] = (
        "default"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if self.quantization is not None and self.peft is None:
            raise ValueError("quantization needs peft: quantized weights can't be trained themselves")
        return self
