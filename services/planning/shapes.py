"""A model's dimensions from its config.json, and its number of parameters by exact closed forms per family.

The forms follow the modeling files of transformers 5.23, with which the tests compare them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["decoder", "encoder", "encoder_decoder"]


@dataclass(frozen=True)
class Linear:
    """A linear layer of one block, by the name that PEFT's target_modules uses."""

    name: str
    inputs: int
    outputs: int

    @property
    def weights(self) -> int:
        return self.inputs * self.outputs


@dataclass(frozen=True)
class Shape:
    """What memory and time depend on. Widths are in numbers, not bytes."""

    family: str
    """`model_type` of config.json."""
    kind: Kind
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool
    positions: int | None
    """Longest sequence the model knows; None where it has no limit."""
    parameters: int
    """By the closed form."""
    block_parameters: int
    """Of one block, norms and biases included."""
    qk_norm: bool = False
    gated: bool = True
    """The MLP has a gate beside its up projection."""
    rotary: bool = True
    fused_names: bool = False
    """Query, key and value (and gate and up) are one module, as in phi3."""

    @property
    def query(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def linears(self) -> tuple[Linear, ...]:
        """The linear layers of one block; the last is the MLP's way down."""
        h, i, q, kv = self.hidden, self.intermediate, self.query, self.kv
        if self.family == "gpt2":
            return (Linear("c_attn", h, 3 * h), Linear("c_proj", h, h), Linear("c_fc", h, i), Linear("c_proj", i, h))
        if self.fused_names:
            return (
                Linear("qkv_proj", h, q + 2 * kv),
                Linear("o_proj", q, h),
                Linear("gate_up_proj", h, 2 * i),
                Linear("down_proj", i, h),
            )
        mlp = [Linear("gate_proj", h, i)] if self.gated else []
        return (
            Linear("q_proj", h, q),
            Linear("k_proj", h, kv),
            Linear("v_proj", h, kv),
            Linear("o_proj", q, h),
            *mlp,
            Linear("up_proj", h, i),
            Linear("down_proj", i, h),
        )

    @property
    def linear_weights(self) -> int:
        """Weights of the linear layers of one block."""
        return sum(linear.weights for linear in self.linears)


class UnknownShapeError(ValueError):
    """config.json describes no model whose dimensions are known here; the text says why."""


def shape_of(config: Mapping[str, Any]) -> Shape:
    """The dimensions that config.json describes.

    Raises:
        UnknownShapeError: the family is none of ours, or a number is missing or absurd.
    """
    family = config.get("model_type")
    if not isinstance(family, str) or family not in _FAMILIES:
        raise UnknownShapeError(f"model_type {family!r:.60} is none of {', '.join(FAMILIES)}")
    return _FAMILIES[family](_Numbers(config), family)


class _Numbers:
    """config.json with checks: a number is a whole one and above 0."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config

    def number(self, *names: str, default: int | None = None) -> int:
        for name in names:
            value = self.config.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= 10**9:
                raise UnknownShapeError(f"{name} is {value!r:.40} and should be a whole number above 0")
            return value
        if default is None:
            raise UnknownShapeError(f"it has no {names[0]}")
        return default

    def flag(self, name: str, *, default: bool) -> bool:
        value = self.config.get(name, default)
        return value if isinstance(value, bool) else default


def _decoder(numbers: _Numbers, family: str) -> Shape:
    """Decoders of Llama's build: RMS norms, rotary positions, grouped queries, a gated MLP."""
    h, i = numbers.number("hidden_size"), numbers.number("intermediate_size")
    layers, heads = numbers.number("num_hidden_layers"), numbers.number("num_attention_heads")
    kv_heads = numbers.number("num_key_value_heads", default=1 if family == "gemma" else heads)
    head_dim = numbers.number("head_dim", default=256 if family.startswith("gemma") else h // heads)
    vocab = numbers.number("vocab_size")
    tied = numbers.flag("tie_word_embeddings", default=family in _TIED_BY_DEFAULT)
    q, kv = heads * head_dim, kv_heads * head_dim
    qkv_bias = family == "qwen2" or numbers.flag("attention_bias", default=False)
    o_bias = family != "qwen2" and numbers.flag("attention_bias", default=False)
    mlp_bias = numbers.flag("mlp_bias", default=False)
    qk_norm = family in ("qwen3", "gemma3_text")
    norms = 4 if family in ("gemma2", "gemma3_text") else 2
    block = (
        2 * h * q
        + 2 * h * kv
        + 3 * h * i
        + norms * h
        + (2 * head_dim if qk_norm else 0)
        + (q + 2 * kv if qkv_bias else 0)
        + (h if o_bias else 0)
        + (2 * i + h if mlp_bias else 0)
    )
    return Shape(
        family=family,
        kind="decoder",
        hidden=h,
        intermediate=i,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab=vocab,
        tied=tied,
        positions=numbers.number("max_position_embeddings", default=0) or None,
        parameters=layers * block + vocab * h * (1 if tied else 2) + h,
        block_parameters=block,
        qk_norm=qk_norm,
        fused_names=family == "phi3",
    )


_TIED_BY_DEFAULT = frozenset({"gemma", "gemma2", "gemma3_text"})


def _gpt2(numbers: _Numbers, family: str) -> Shape:
    """GPT-2: layer norms with biases, learned positions, a plain MLP, always tied unless said otherwise."""
    h, layers, heads = numbers.number("n_embd"), numbers.number("n_layer"), numbers.number("n_head")
    i, vocab = numbers.number("n_inner", default=4 * h), numbers.number("vocab_size")
    positions = numbers.number("n_positions", "max_position_embeddings", default=1024)
    tied = numbers.flag("tie_word_embeddings", default=True)
    block = 4 * h * h + 4 * h + 2 * h * i + i + h + 4 * h
    return Shape(
        family=family,
        kind="decoder",
        hidden=h,
        intermediate=i,
        layers=layers,
        heads=heads,
        kv_heads=heads,
        head_dim=h // heads,
        vocab=vocab,
        tied=tied,
        positions=positions,
        parameters=layers * block + (vocab * (1 if tied else 2) + positions) * h + 2 * h,
        block_parameters=block,
        gated=False,
        rotary=False,
    )


def _bert(numbers: _Numbers, family: str) -> Shape:
    """BERT and RoBERTa with their masked-language-modelling head."""
    h, i = numbers.number("hidden_size"), numbers.number("intermediate_size")
    layers, heads = numbers.number("num_hidden_layers"), numbers.number("num_attention_heads")
    vocab, positions = numbers.number("vocab_size"), numbers.number("max_position_embeddings", default=512)
    types = numbers.number("type_vocab_size", default=2)
    block = 4 * (h * h + h) + 2 * h * i + i + h + 4 * h
    head = h * h + h + 2 * h + vocab
    return Shape(
        family=family,
        kind="encoder",
        hidden=h,
        intermediate=i,
        layers=layers,
        heads=heads,
        kv_heads=heads,
        head_dim=h // heads,
        vocab=vocab,
        tied=True,
        positions=positions,
        parameters=layers * block + (vocab + positions + types) * h + 2 * h + head,
        block_parameters=block,
        gated=False,
        rotary=False,
    )


def _t5(numbers: _Numbers, family: str) -> Shape:
    """T5 with its language-modelling head: encoder and decoder of equal width, relative positions.

    transformers 5 ties its output layer always, whatever the config says.
    """
    h, i, heads = numbers.number("d_model"), numbers.number("d_ff"), numbers.number("num_heads")
    head_dim, vocab = numbers.number("d_kv"), numbers.number("vocab_size")
    layers = numbers.number("num_layers")
    decoders = numbers.number("num_decoder_layers", default=layers)
    gated = str(numbers.config.get("feed_forward_proj", "relu")).startswith("gated")
    attention = 4 * h * heads * head_dim
    mlp = (3 if gated else 2) * h * i
    encoder, decoder = attention + mlp + 2 * h, 2 * attention + mlp + 3 * h
    buckets = 2 * numbers.number("relative_attention_num_buckets", default=32) * heads
    return Shape(
        family=family,
        kind="encoder_decoder",
        hidden=h,
        intermediate=i,
        layers=layers + decoders,
        heads=heads,
        kv_heads=heads,
        head_dim=head_dim,
        vocab=vocab,
        tied=True,
        positions=None,
        parameters=layers * encoder + decoders * decoder + buckets + 2 * h + vocab * h,
        block_parameters=decoder,
        gated=gated,
        rotary=False,
    )


_FAMILIES: dict[str, Callable[[_Numbers, str], Shape]] = {
    "llama": _decoder,
    "mistral": _decoder,
    "qwen2": _decoder,
    "qwen3": _decoder,
    "phi3": _decoder,
    "gemma": _decoder,
    "gemma2": _decoder,
    "gemma3_text": _decoder,
    "gpt2": _gpt2,
    "bert": _bert,
    "roberta": _bert,
    "t5": _t5,
}

#: Families whose dimensions are read here.
FAMILIES = tuple(_FAMILIES)

#: Families whose peaks were compared with traces of the real training step.
TRACED_FAMILIES = frozenset({"llama", "qwen2", "qwen3"})
