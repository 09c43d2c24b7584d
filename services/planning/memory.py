"""Peak memory of a training step by a closed form: about 20 microseconds, no torch.

The peak is the largest of six phases, not a sum of everything that ever exists. The bytes were derived from traces of
TRL 1.16's real step (transformers 5.23, PEFT 0.21, torch 2.15) tensor by tensor; `tests/planning/traced_peaks.jsonl`
holds those traces. TRL's fused head never builds [tokens, vocabulary] logits: it works in tiles.

Not compared with traces: pure float32 without autocast (training on a CPU), gemma, gpt2 and phi3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from .shapes import Linear, Shape

GIB = 2**30

Technique = Literal["full", "lora", "qlora"]
Phase = Literal["forward", "loss", "last_layers", "first_layers", "embedding", "optimizer"]

#: Rows and columns of the head's tiles in TRL 1.16.
_TILE_TOKENS, _TILE_VOCAB = 4096, 32768

#: nf4 with double quantization: 4 bits, an 8-bit scale per 64 weights, and a float32 and a float32 mean per 256 scales.
_NF4_BYTES = 0.5 + 1 / 64 + 4 / 16384


@dataclass(frozen=True)
class Step:
    """What a training step is, as far as memory depends on it."""

    shape: Shape
    technique: Technique
    batch: int
    length: int
    weight_bytes: int = 2
    """2 for bfloat16 and float16, 4 for float32."""
    autocast: bool = True
    """float32 weights compute in 16 bits; without it, in float32. Nothing for 16-bit weights."""
    checkpointing: bool = True
    accumulation: int = 1
    optimizer: str = "adamw_torch_fused"
    rank: int = 16
    targets: tuple[str, ...] | None = None
    """Names of adapted linear layers; None adapts all."""
    padded: bool = False
    """Rows of different length in a batch: attention gets a mask."""
    dropout: bool = False
    fused_head: bool = True
    preference: bool = False
    """DPO: chosen and rejected in one batch, and a second copy of a fully trained model."""
    extra_parameters: int = 0
    """Parameters of the files beyond the closed form, held but not trained."""


@dataclass(frozen=True)
class Parts:
    """Bytes alive at the peak."""

    weights: float = 0.0
    """Base weights, adapters and a reference model."""
    gradients: float = 0.0
    optimizer: float = 0.0
    activations: float = 0.0
    head: float = 0.0
    """The output layer's tiles and its gradient in the making."""

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimizer + self.activations + self.head


@dataclass(frozen=True)
class Peak:
    """The closed form's answer, in bytes."""

    phase: Phase
    parts: Parts
    phases: dict[Phase, float]
    trained: int
    """Trainable parameters."""

    @property
    def total(self) -> float:
        return self.parts.total


def trainable_parameters(step: Step) -> int:
    """How many parameters the optimizer changes."""
    if step.technique == "full":
        return step.shape.parameters
    return step.shape.layers * sum(step.rank * (linear.inputs + linear.outputs) for linear in _adapted(step))


def estimate_peak(step: Step) -> Peak:
    """The peak of one optimizer step, by phase and part."""
    form = _Form(step)
    phases = form.phases()
    phase = max(phases, key=lambda name: phases[name].total)
    return Peak(
        phase=phase,
        parts=phases[phase],
        phases={name: parts.total for name, parts in phases.items()},
        trained=form.trained,
    )


def _adapted(step: Step) -> tuple[Linear, ...]:
    """The linear layers of a block that get an adapter."""
    if step.technique == "full":
        return ()
    linears = step.shape.linears
    return linears if step.targets is None else tuple(linear for linear in linears if linear.name in step.targets)


class _Form:
    """The formulas, with the short names they are known by: h hidden, i intermediate, q and kv widths, t tokens."""

    def __init__(self, step: Step) -> None:
        self.step, self.shape = step, step.shape
        self.full, self.wide = step.technique == "full", step.weight_bytes == 4
        self.mixed = self.wide and step.autocast
        #: bytes of a number in the linear layers' inputs and outputs
        self.c = 2 if not self.wide or step.autocast else 4
        self.tokens = step.batch * step.length * (2 if step.preference else 1)
        self.adapted = _adapted(step)
        self.trained = trainable_parameters(step)
        self.trained_bytes = step.weight_bytes if self.full else 2 if step.technique == "qlora" else 4
        #: whether the MLP's way down keeps its input for a gradient
        self.keeps_down = self.full or self.shape.linears[-1] in self.adapted
        self.cache = 2.0 * self.shape.layers * self.shape.linear_weights if self.full and self.mixed else 0.0

    def phases(self) -> dict[Phase, Parts]:
        """What is alive in each phase of the step."""
        step, shape = self.step, self.shape
        layers, gradient = shape.layers, float(self.trained_bytes * self.trained)
        kept = step.accumulation > 1
        base = Parts(weights=self._weights(), optimizer=self._optimizer(), gradients=gradient if kept else 0.0)
        inputs = float(step.batch * step.length**2) if step.padded else 0.0
        checkpoint = float(self.tokens * step.weight_bytes * shape.hidden)
        layer, last = self._layer(), self._head_inputs()
        head_forward, head_backward = self._head()
        saved = layers * checkpoint if step.checkpointing else layers * layer + self.cache
        backward = layers * checkpoint + layer if step.checkpointing else saved
        head_gradient = float(shape.vocab * shape.hidden * step.weight_bytes) if self.full and not kept else 0.0
        block_gradient = 0.0 if kept else float(self.trained_bytes * self._block_trained())
        work = self._work()
        tied = 2.0 * shape.vocab * shape.hidden * step.weight_bytes if shape.tied and self.full else 0.0
        optimizer_work = gradient if "foreach" in step.optimizer or step.optimizer == "adamw_torch" else 0.0
        if step.optimizer == "adafactor":
            optimizer_work += 16.0 * shape.vocab * shape.hidden
        all_gradients = replace(base, gradients=gradient)

        def with_activations(amount: float, head: float = 0.0, gradients: float = 0.0) -> Parts:
            return replace(base, activations=amount + inputs, head=head, gradients=base.gradients + gradients)

        cache = self.cache if step.checkpointing else 0.0
        return {
            "forward": with_activations(saved + cache + last, head_forward),
            "loss": with_activations(saved + last, head_backward),
            "last_layers": with_activations(backward + work, gradients=head_gradient),
            "first_layers": with_activations(
                checkpoint + layer + work, gradients=head_gradient + (layers - 1) * block_gradient
            ),
            "embedding": replace(all_gradients, gradients=gradient + tied, activations=inputs),
            "optimizer": replace(all_gradients, optimizer=base.optimizer + optimizer_work),
        }

    def _weights(self) -> float:
        step, shape = self.step, self.shape
        total = shape.parameters + step.extra_parameters
        if step.technique == "qlora":
            linears = shape.layers * shape.linear_weights
            base = linears * _NF4_BYTES + (total - linears) * step.weight_bytes
        else:
            base = float(total * step.weight_bytes)
        if self.full:
            return base * (2 if step.preference else 1)
        return base + self.trained_bytes * self.trained

    def _optimizer(self) -> float:
        name, n = self.step.optimizer, self.trained
        if name == "adafactor":
            # Rows and columns of each matrix, in float32; one number per parameter of what is no matrix.
            shape = self.shape
            linears = shape.layers * sum(linear.inputs + linear.outputs for linear in shape.linears)
            return 4.0 * (linears + (1 if shape.tied else 2) * (shape.vocab + shape.hidden))
        if name.startswith("paged_"):
            return 0.0
        if "8bit" in name:
            return (2 + 8 / 256) * n
        return 2.0 * self.trained_bytes * n

    def _block_trained(self) -> float:
        return self.shape.block_parameters if self.full else self.trained / self.shape.layers

    def _layer(self) -> float:
        """Bytes that one block keeps for its backward pass."""
        step, shape, c = self.step, self.shape, self.c
        h, i, q, kv, heads = shape.hidden, shape.intermediate, shape.query, shape.kv, shape.heads
        norms = 2 * (4 * h + 4) + (2 * step.weight_bytes * h if self.full else 0)
        if shape.qk_norm:
            norms += 4 * (q + kv) + 4 * (heads + shape.kv_heads) + (c * (q + kv) if self.full else 0)
        # A mask makes attention repeat keys and values for each query head.
        attention = c * 4 * q + 4 * heads + c * step.length if step.padded else c * (2 * q + 2 * kv) + 4 * heads
        mlp = (3 if shape.gated else 2) * c * i
        per_token = norms + attention + mlp + self._linear_inputs()
        if step.checkpointing and self.wide:
            # The first norm keeps the block's float32 input itself, which is the checkpoint.
            per_token -= 4 * h
        cast = 2.0 * shape.linear_weights if self.mixed and not (self.full and not step.checkpointing) else 0.0
        return self.tokens * per_token + cast

    def _linear_inputs(self) -> int:
        """Bytes per token of what linear layers keep of their inputs."""
        h, i, c = self.shape.hidden, self.shape.intermediate, self.c
        if self.full:
            # Under autocast each layer keeps a 16-bit copy of its own; query, key, value, gate and up share an input.
            copies = (5 if self.shape.gated else 4) if self.mixed else 2
            return c * h * copies + c * i
        if not self.adapted:
            return 0
        dropped = sum(linear.inputs for linear in self.adapted) if self.step.dropout else 0
        if self.trained_bytes == 4 and not (self.wide and not self.mixed):
            # float32 adapters on 16-bit activations: each keeps its own copy.
            return 2 * sum(linear.inputs for linear in self.adapted) + dropped
        last = self.shape.linears[-1]
        groups = {linear.inputs for linear in self.adapted if linear is not last}
        return c * h * (2 if groups else 0) + (c * i if last in self.adapted else 0) + dropped

    def _work(self) -> float:
        """Bytes in passing while a block's backward pass runs."""
        h, i, c = self.shape.hidden, self.shape.intermediate, self.c
        last = self.shape.linears[-1]
        if not self.full and self.trained_bytes == 4 and self.c == 2 and self.keeps_down:
            return self.tokens * float(6 * i + 6 * h + 2 * self.step.weight_bytes * h)
        residual = self.step.weight_bytes * h
        passing = self.tokens * c * i * (2 if self.keeps_down else 3)
        if self.full:
            return float(self.tokens * residual + passing + last.weights * self.step.weight_bytes)
        if self.step.technique == "qlora":
            # One matrix is there in full while its gradient is taken, when less else is.
            largest = max(linear.weights for linear in self.shape.linears)
            passing = max(passing, self.tokens * c * i + c * largest)
        return float(self.tokens * residual + passing)

    def _head_inputs(self) -> float:
        """The last norm and the copies of its output that the head works on."""
        h = self.shape.hidden
        if not self.step.fused_head:
            return 8.0 * self.tokens * h
        return float(self.tokens * h * (16 if self.wide else 10) + self._cast_tile())

    def _cast_tile(self) -> int:
        return min(self.shape.vocab, _TILE_VOCAB) * self.shape.hidden * 2 if self.mixed else 0

    def _head(self) -> tuple[float, float]:
        """The head's own bytes, forward and backward."""
        shape, n = self.shape, self.tokens
        if not self.step.fused_head:
            return 10.0 * n * shape.vocab, 14.0 * n * shape.vocab
        tile = float(min(n, _TILE_TOKENS) * min(shape.vocab, _TILE_VOCAB) * self.c)
        table = shape.vocab * shape.hidden
        backward = tile + (self._cast_tile() if self.mixed else 4.0 * n * shape.hidden)
        if self.full:
            # Summed in float32, then in the weights' own precision.
            backward += 4.0 * table + (2.0 * table if not self.wide else 0.0)
        return tile, backward
