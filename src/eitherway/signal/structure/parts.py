"""What a model is made of: producers, the functions between them, norms, residual adds, and a role for each parameter.

All indices called *value* or *op* are those of the captured graph; *producer* indices are places in
`Structure.producers`. A producer is one USE of a weight: a weight that is used twice has two producers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from eitherway.graph import Graph

Weighted = Literal["linear", "conv", "conv_transpose", "bilinear", "embedding", "recurrent"]
PathKind = Literal["same", "activation", "gate", "measured"]
SourceKind = Literal["producer", "norm", "input", "sum", "embedding", "concat", "measured"]


@dataclass(frozen=True)
class Block:
    """Rows of a weight that do one thing.

    Roles are "" for no particular one, "query", "key", "value" for those that reach an attention, and "input gate",
    "forget gate", "cell gate", "output gate", "reset gate", "update gate", "new gate", "hidden" for recurrent kernels.
    """

    role: str
    rows: slice
    """On the out axis of the weight as the model holds it, also where this use reads a part of it alone."""


@dataclass(frozen=True)
class Producer:
    """One use of a weight: an operation that sums many products of a weight and its source."""

    index: int
    op: int
    name: str
    """The weight's dotted name; of a parametrised weight the name it goes by, `head.weight`; a buffer's, or ""."""
    weight: int
    """Value of the parameter, or of what was computed from parameters where `parametrised`."""
    bias: str | None
    """The dotted name of what is added to each channel, also by an `+ b` written after it."""
    kind: Weighted
    source: int
    """Value of its data input. Deeper layers of a recurrent kernel read what is never seen: there it is the output."""
    sources: tuple[int, ...]
    """All data inputs: two of a bilinear map."""
    output: int
    """The value it puts out, after its bias."""
    out_axis: int
    in_axis: int
    out_axes: tuple[int, ...]
    """All axes of the weight that its output's channels are made of; the first is `out_axis`."""
    in_axes: tuple[int, ...]
    """All axes that are summed over, but for the kernel's taps; the first is `in_axis`."""
    groups: int
    """Independent maps beside each other: of a convolution, or one per head where a weight has a batch axis."""
    taps: int
    """Elements of the kernel, 1 where there is none."""
    fan_in: float
    """Products in one output, inside, far from any padding: variance of the output / variance of weight x input^2."""
    fan_out: float
    """Outputs that one input takes part in, strides left aside."""
    coverage: float
    """Share of `fan_in` that an average output position sees: below 1 where taps fall on zero padding."""
    blocks: tuple[Block, ...]
    """What the rows read by this use do; one Block of role "" where they are all alike."""
    part: tuple[slice, ...]
    """Region of the weight that this use reads, one slice an axis; () for the whole."""
    parametrised: bool
    """Whether the weight is computed from parameters (weight_norm, spectral_norm, LoRA's sum) and not one itself."""
    parameters: tuple[str, ...]
    """Dotted names of all parameters behind the weight."""
    module: str
    where: str

    @property
    def reads(self) -> float:
        """Products in an average output: `fan_in` times `coverage`."""
        return self.fan_in * self.coverage


@dataclass(frozen=True)
class Source:
    """A value that element-wise functions start from: about Gaussian, or in need of measuring.

    Kinds: "producer", "embedding", "norm", "input"; "sum", an add of different things (a residual stream, tokens and
    positions, two weighted sums); "concat"; "measured", all else. A piece of one (`chunk`, a slice) is of its kind.
    """

    value: int
    kind: SourceKind
    mean: float | None
    """None where it must be measured."""
    second: float | None
    """Mean of squares as theory tells: 1 for a producer, weight^2 + bias^2 for a norm; None: measure it."""
    producer: int | None = None
    """Which one puts it out; also of a piece (one of `chunk(3)`) of what it puts out."""
    parts: tuple[int, ...] = ()
    """The values that were added or concatenated."""
    text: str = ""
    """What made it, for reports: "conv2d", "x + branch", "mean over [2, 3]"."""


@dataclass(frozen=True)
class Path:
    """What a value is made of since its sources.

    Kinds: "same" (moves alone: reshape, transpose, dropout, slices), "activation" (element-wise, one source), "gate"
    (element-wise, several sources), "measured" (the value is itself the end of something else: attention, pooling).
    """

    value: int
    sources: tuple[int, ...]
    """Values, each a key of `Structure.sources`, in the order they are first read; glu reads one as two halves."""
    ops: tuple[int, ...]
    """In the order they ran."""
    kind: PathKind
    text: str
    """`gelu`, `u * sigmoid(u)`, `silu(a) * b`."""
    replay: Callable[..., Tensor] = field(repr=False, compare=False)

    def __call__(self, *points: Tensor) -> Tensor:
        """The function itself: its operations on points in place of the sources, with today's parameters.

        Args:
            points: one tensor for each source, of one shape and any floating type: a grid (N,), or (N, 1) where the
                functions of the channels differ (PReLU with one slope each).

        Returns:
            The shape of the points; (N, C) for points (N, 1) if the channels differ.

        Raises:
            ModelError: if it is no element-wise function, or its channels differ and the points are (N,).
        """
        return self.replay(*points)


@dataclass(frozen=True)
class Norm:
    """A normalisation: module, functional or written by hand."""

    op: int
    kind: Literal["layer", "batch", "group", "instance", "rms", "l2", "running"]
    """"running": batch norm in eval mode, which scales by what it remembers and normalises nothing."""
    weight: str | None
    bias: str | None
    source: int
    output: int


@dataclass(frozen=True)
class Residual:
    """An add of a stream and of a branch that was computed from it, through producers.

    No residual adds: functions of one source (x + tanh(x)), sums of weighted sums of one input (W x + U h, low-rank
    corrections), convex mixtures (highways, recurrent cells), an early value added to the stream once more.
    """

    op: int
    stream: int
    branch: int
    """Values: the two sides of the add, as they are added."""
    producers: tuple[int, ...]
    """Inside the branch, in order."""
    last: tuple[int, ...]
    """Those that end it: no other producer between them and the add; a gate or a modulation beside it ends nothing."""
    ends_in_norm: str | None
    """The weight of a norm between the last producer and the add; "" for one without a weight."""
    scale: str | None
    """A learned scale of the branch: LayerScale, ReZero."""
    depth: int
    """How many residual adds its stream has."""
    stream_id: int
    """Adds on one stream share it."""
    projection: tuple[int, ...] = ()
    """Producers on the stream's own side: the 1 x 1 convolution of a shortcut."""
    output: int = -1
    """The value of the sum."""


@dataclass(frozen=True)
class Attention:
    """Softmax of products of queries and keys, times values."""

    op: int
    """The fused kernel, or the softmax."""
    query: int
    key: int
    value: int
    """Values as the kernel, or the first product, reads them."""
    output: int
    probabilities: int | None
    """The value of the softmax's answer; None for the fused kernel."""


@dataclass(frozen=True)
class Chain:
    """Producers in a row with only element-wise functions between them: nothing else reads a value in between.

    Maximal, of two producers at least: linear, conv or conv_transpose, each with a weight of its own.
    """

    producers: tuple[int, ...]
    paths: tuple[Path, ...]
    """paths[i] leads from producers[i] to producers[i + 1]: one fewer than producers."""


@dataclass(frozen=True)
class Role:
    """What a parameter is for.

    Kinds: "weight", "bias", "norm weight", "norm bias", "slope" (PReLU), "scale" (LayerScale, ReZero, temperature,
    whatever multiplies the signal), "shift" (whatever is added to it, one number a channel), "table" (positions, class
    tokens, learned queries: added, concatenated or read as data), "parametrised" (behind a computed weight),
    "unreached" (the run never read it), "other" (read by something unknown, or for nothing that counts).
    """

    kind: str
    text: str
    ops: tuple[int, ...] = ()
    producers: tuple[int, ...] = ()
    aliases: tuple[str, ...] = ()
    """Further names of the same tensor."""
    needed: bool = True
    """Whether the run's answer depends on it: not for what is never read, or read for something thrown away."""


@dataclass(frozen=True, eq=False)
class Structure:
    """A model as its captured run shows it."""

    graph: Graph
    producers: tuple[Producer, ...]
    norms: tuple[Norm, ...]
    residuals: tuple[Residual, ...]
    attentions: tuple[Attention, ...]
    chains: tuple[Chain, ...]
    heads: tuple[int, ...]
    """Producers that the answer depends on, and from which no other producer is reached."""
    tied: Mapping[str, tuple[int, ...]]
    """Weights with several uses of the same elements, or several names."""
    roles: Mapping[str, Role]
    """For every name of `model.named_parameters()`."""
    paths: Mapping[int, Path]
    """Of each producer's source."""
    sources: Mapping[int, Source]
    _path: Callable[[int], Path] = field(repr=False)

    def path(self, value: int) -> Path:
        """What a value is made of since its sources; of a source itself the empty path of kind "same"."""
        return self._path(value)

    def __repr__(self) -> str:
        counts: dict[str, Any] = {
            "producers": self.producers, "norms": self.norms, "residuals": self.residuals, "chains": self.chains,
            "parameters": self.roles,
        }  # fmt: skip
        return f"Structure({', '.join(f'{len(found)} {name}' for name, found in counts.items())})"
