"""The derivative of each common operation as textbooks write it, and as a factor that can be multiplied.

z is what the operation reads, s what it makes. `factor` finds the formula by the operation's name; None means that
nobody wrote one here, and autograd's is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eitherway.calculus.links_local import Closed, Entries, Local
from eitherway.graph import Op, Ref


@dataclass
class Call:
    """One operation with one of the places that a value takes among its arguments.

    Args:
        op: the operation.
        env: tensors by value index.
        slot: which of `op.inputs`.
        made: index of the output looked at.
        run: the operation as a function of the value alone.
    """

    op: Op
    env: Mapping[int, Tensor]
    slot: int
    made: int
    run: Callable[[Tensor], Tensor]

    @property
    def z(self) -> Tensor:
        return self.env[self.op.inputs[self.slot]]

    @property
    def s(self) -> Tensor:
        return self.env[self.made]

    def argument(self, name: str, default: Any = None) -> Any:
        """An argument by the name that the operation's schema gives it, as a tensor where it is one."""
        given = self.op.kwargs.get(name, default)
        schema = getattr(self.op.target, "_schema", None)
        for k, argument in enumerate(schema.arguments if schema else ()):
            if argument.name == name and k < len(self.op.args):
                given = self.op.args[k]
        return self.env[given.index] if type(given) is Ref else given

    @property
    def place(self) -> str:
        """The schema's name of the argument that the value is."""
        seen = 0
        for k, argument in enumerate(self.op.args):
            refs = [r for r in (argument if isinstance(argument, list | tuple) else [argument]) if type(r) is Ref]
            if seen <= self.slot < seen + len(refs):
                return self.op.target._schema.arguments[k].name
            seen += len(refs)
        return ""

    def entries(self, rows: Tensor | None, cols: Tensor | None, weights: Tensor | None) -> Entries:
        return Entries(self.s.shape, self.z.shape, self.s, rows, cols, weights)

    def closed(self, push: Any, pull: Any, **more: Any) -> Closed:
        return Closed(self.s.shape, self.z.shape, self.s, push, pull, **more)


Answer = tuple[Local, str, str]
"""The factor, its formula, its structure."""

Rule = Callable[[Call], Answer | None]
_RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Files a rule under the plain names of operations."""

    def keep(f: Rule) -> Rule:
        _RULES.update(dict.fromkeys(names, f))
        return f

    return keep


def factor(op: Op, env: Mapping[int, Tensor], read: int, made: int, run: Callable[[Tensor], Tensor]) -> Answer | None:
    """The factor of an operation for one value that it reads, by its formula.

    Args:
        op: at training level.
        env: tensors by index.
        read, made: the value read and the value made.
        run: the operation as a function of the value read alone.

    Returns:
        None where no formula is known, or not for these settings.
    """
    found = _RULES.get(op.name.rstrip("_") or op.name)
    if found is None or op.custom:
        return None
    answers = []
    for slot in (k for k, i in enumerate(op.inputs) if i == read):
        answer = found(Call(op, env, slot, made, run))
        if answer is None:
            return None
        answers.append(answer)
    return answers[0] if len(answers) == 1 else _added(answers, env[made], env[read])


def _added(answers: list[Answer], made: Tensor, read: Tensor) -> Answer | None:
    """One value in several places of one operation, as in z * z: the sum."""
    if not all(isinstance(local, Entries) for local, _, _ in answers):
        return None
    parts = [local for local, _, _ in answers if isinstance(local, Entries)]
    text = " + ".join(text for _, text, _ in answers)
    if all(part.rows is None and part.cols is None for part in parts):
        total = sum(torch.ones_like(made).reshape(-1) if w.weights is None else w.weights for w in parts)
        return Entries(made.shape, read.shape, made, None, None, total), text, answers[0][2]  # type: ignore[arg-type]
    places = [part.places for part in parts]
    weights = [made.new_ones(len(r)) if w.weights is None else w.weights for w, (r, _) in zip(parts, places)]
    rows, cols = torch.cat([r for r, _ in places]), torch.cat([c for _, c in places])
    return Entries(made.shape, read.shape, made, rows, cols, torch.cat(weights)), text, "sparse"


# element by element ------------------------------------------------------------------------------------------------

_ROOT_2PI = math.sqrt(2 * math.pi)


def _bell(z: Tensor) -> Tensor:
    return torch.exp(-z * z / 2) / _ROOT_2PI


def _unary() -> dict[str, tuple[str, Callable[[Tensor, Tensor], Tensor]]]:
    one = torch.ones_like
    return {
        "tanh": ("1 - tanh(z)^2", lambda z, s: 1 - s * s),
        "sigmoid": ("s (1 - s)", lambda z, s: s * (1 - s)),
        "relu": ("[z > 0]", lambda z, s: (z > 0).to(z.dtype)),
        "relu6": ("[0 < z < 6]", lambda z, s: ((z > 0) & (z < 6)).to(z.dtype)),
        "exp": ("e^z", lambda z, s: s),
        "exp2": ("2^z ln 2", lambda z, s: s * math.log(2)),
        "expm1": ("e^z", lambda z, s: z.exp()),
        "log": ("1 / z", lambda z, s: 1 / z),
        "log2": ("1 / (z ln 2)", lambda z, s: 1 / (z * math.log(2))),
        "log10": ("1 / (z ln 10)", lambda z, s: 1 / (z * math.log(10))),
        "log1p": ("1 / (1 + z)", lambda z, s: 1 / (1 + z)),
        "sqrt": ("1 / (2 sqrt z)", lambda z, s: 1 / (2 * s)),
        "rsqrt": ("-z^(-3/2) / 2", lambda z, s: -(s**3) / 2),
        "sin": ("cos z", lambda z, s: z.cos()),
        "cos": ("-sin z", lambda z, s: -z.sin()),
        "tan": ("1 + tan(z)^2", lambda z, s: 1 + s * s),
        "asin": ("1 / sqrt(1 - z^2)", lambda z, s: (1 - z * z).rsqrt()),
        "acos": ("-1 / sqrt(1 - z^2)", lambda z, s: -(1 - z * z).rsqrt()),
        "atan": ("1 / (1 + z^2)", lambda z, s: 1 / (1 + z * z)),
        "sinh": ("cosh z", lambda z, s: z.cosh()),
        "cosh": ("sinh z", lambda z, s: z.sinh()),
        "abs": ("sign z", lambda z, s: z.sign()),
        "neg": ("-1", lambda z, s: -one(z)),
        "reciprocal": ("-1 / z^2", lambda z, s: -s * s),
        "square": ("2 z", lambda z, s: 2 * z),
        "erf": ("2 / sqrt(pi) e^(-z^2)", lambda z, s: 2 / math.sqrt(math.pi) * torch.exp(-z * z)),
        "silu": ("σ(z) (1 + z (1 - σ(z)))", lambda z, s: z.sigmoid() * (1 + z * (1 - z.sigmoid()))),
        "log_sigmoid": ("1 - σ(z)", lambda z, s: (-z).sigmoid()),
        "selu": (
            "λ [z > 0] + λ α e^z [z <= 0]",
            lambda z, s: 1.0507009873554805 * torch.where(z > 0, one(z), 1.6732632423543772 * z.exp()),
        ),
        "mish": (
            "t + z σ(z) (1 - t^2), t = tanh(softplus z)",
            lambda z, s: (t := torch.log1p(z.exp()).tanh()) + z * z.sigmoid() * (1 - t * t),
        ),
        "hardsigmoid": ("[-3 < z < 3] / 6", lambda z, s: (z.abs() < 3).to(z.dtype) / 6),
        "hardswish": (
            "[z >= 3] + (2z + 3) / 6 [-3 < z < 3]",
            lambda z, s: torch.where(z.abs() < 3, (2 * z + 3) / 6, (z >= 3).to(z.dtype)),
        ),
        "digamma": ("trigamma(z)", lambda z, s: torch.polygamma(1, z)),
        "lgamma": ("digamma(z)", lambda z, s: z.digamma()),
        "logit": ("1 / (z (1 - z))", lambda z, s: 1 / (z * (1 - z))),
        **{name: ("0", lambda z, s: torch.zeros_like(z)) for name in ("sign", "round", "floor", "ceil", "trunc")},
    }


def _filed(name: str, text: str, slope: Callable[[Tensor, Tensor], Tensor]) -> None:
    structure = {"-1": "diagonal, constant", "0": "zero"}.get(text, "diagonal")
    rule(name)(lambda c: (c.entries(None, None, slope(c.z, c.s)), text, structure))


for _name, (_text, _slope) in _unary().items():
    _filed(_name, _text, _slope)


@rule("gelu")
def _gelu(c: Call) -> Answer:
    z = c.z
    if c.argument("approximate", "none") == "none":
        return c.entries(None, None, torch.special.ndtr(z) + z * _bell(z)), "Φ(z) + z φ(z)", "diagonal"
    k = math.sqrt(2 / math.pi)
    t = torch.tanh(k * (z + 0.044715 * z**3))
    slope = (1 + t) / 2 + z * (1 - t * t) / 2 * k * (1 + 3 * 0.044715 * z * z)
    return c.entries(None, None, slope), "(1 + t)/2 + z t'/2", "diagonal"


@rule("leaky_relu")
def _leaky_relu(c: Call) -> Answer:
    slope = c.argument("negative_slope", 0.01)
    weights = torch.where(c.z > 0, torch.ones_like(c.z), slope)
    return c.entries(None, None, weights), f"1 or {slope:g} if z < 0", "diagonal"


@rule("elu")
def _elu(c: Call) -> Answer | None:
    alpha = c.argument("alpha", 1.0)
    if c.argument("scale", 1.0) != 1 or c.argument("input_scale", 1.0) != 1:
        return None
    text = "1 or e^z if z < 0" if alpha == 1 else f"1 or {alpha:g} e^z if z < 0"
    return c.entries(None, None, torch.where(c.z > 0, torch.ones_like(c.z), alpha * c.z.exp())), text, "diagonal"


@rule("softplus")
def _softplus(c: Call) -> Answer:
    beta, threshold = c.argument("beta", 1), c.argument("threshold", 20)
    weights = torch.where(beta * c.z > threshold, torch.ones_like(c.z), (beta * c.z).sigmoid())
    return c.entries(None, None, weights), "σ(z)" if beta == 1 else f"σ({beta:g} z)", "diagonal"


@rule("hardtanh", "clamp", "clip")
def _clamp(c: Call) -> Answer | None:
    name = "hardtanh" if c.op.name.startswith("hardtanh") else "clamp"
    low = c.argument("min_val", -1.0) if name == "hardtanh" else c.argument("min")
    high = c.argument("max_val", 1.0) if name == "hardtanh" else c.argument("max")
    if isinstance(low, Tensor) or isinstance(high, Tensor) or c.slot:
        return None
    inside = torch.ones_like(c.z, dtype=torch.bool)
    strict = name == "hardtanh"
    if low is not None:
        inside &= c.z > low if strict else c.z >= low
    if high is not None:
        inside &= c.z < high if strict else c.z <= high
    text = f"[{'' if low is None else f'{low:g} < '}z{'' if high is None else f' < {high:g}'}]"
    return c.entries(None, None, inside.to(c.z.dtype)), text, "diagonal"


@rule("pow")
def _pow(c: Call) -> Answer | None:
    n = c.argument("exponent")
    if c.place == "self" and not isinstance(n, Tensor):
        weights = torch.zeros_like(c.z) if n == 0 else n * c.z ** (n - 1)
        powers = {0: "0", 1: "1", 2: "2 z", 3: "3 z^2", 0.5: "1 / (2 sqrt z)", -1: "-1 / z^2"}
        return c.entries(None, None, weights), powers.get(n, f"{n:g} z^{n - 1:g}"), "diagonal"
    base = c.argument("self")
    if c.place == "exponent":
        base = base if isinstance(base, Tensor) else torch.as_tensor(base, dtype=c.z.dtype)
        return _spread(c, c.s * base.log(), "a^z ln a")
    return _spread(c, n * c.z ** (n - 1), "n z^(n-1)") if isinstance(n, Tensor) else None


# two tensors, broadcast --------------------------------------------------------------------------------------------


def _spread(c: Call, weights: Tensor | None, text: str) -> Answer:
    """Element by element, where what is read may be stretched over more elements of the output."""
    constant = ", constant" if weights is None else ""
    weights = None if weights is None else weights.expand(c.s.shape).to(c.s.dtype)
    if c.z.shape == c.s.shape:
        text = "I" if text == "1" else text
        return c.entries(None, None, weights), text, "identity" if text == "I" else f"diagonal{constant}"
    index = torch.arange(c.z.numel(), device=c.z.device).view(c.z.shape).expand(c.s.shape).reshape(-1)
    return c.entries(None, index, weights), text, f"copied to {c.s.numel() // max(1, c.z.numel())}{constant}"


@rule("add", "sub", "rsub")
def _add(c: Call) -> Answer:
    alpha = c.argument("alpha", 1)
    name = c.op.name.rstrip("_")
    sign = 1 if name == "add" else -1
    factor = (sign * alpha if name != "rsub" else 1) if c.place == "other" else (-alpha if name == "rsub" else 1)
    weights = None if factor == 1 else torch.full_like(c.s, factor)
    local, text, structure = _spread(c, weights, f"{factor:g}")
    return local, text, structure if "identity" in structure or "constant" in structure else f"{structure}, constant"


@rule("mul")
def _mul(c: Call) -> Answer:
    other = c.argument("other" if c.place == "self" else "self")
    if not isinstance(other, Tensor):
        return _spread(c, torch.full_like(c.s, other), f"{other:.4g}")
    return _spread(c, other, _what(c, "other" if c.place == "self" else "self"))


@rule("div")
def _div(c: Call) -> Answer | None:
    if c.argument("rounding_mode") is not None:
        return None
    other = c.argument("other")
    if c.place == "self":
        if not isinstance(other, Tensor):
            return _spread(c, torch.full_like(c.s, 1 / other), f"1 / {other:.4g}")
        return _spread(c, 1 / other, f"1 / {_what(c, 'other')}")
    return _spread(c, -c.s / c.z, "-s / z")


def _what(c: Call, name: str) -> str:
    """What a formula calls another operand: a parameter's letter, or `other`."""
    schema = c.op.target._schema.arguments
    given = c.op.args[[a.name for a in schema].index(name)]
    return "z" if type(given) is Ref and given.index == c.op.inputs[c.slot] else "other"


@rule("maximum", "minimum", "fmax", "fmin")
def _maximum(c: Call) -> Answer:
    other = c.argument("other" if c.place == "self" else "self")
    up = c.op.name in ("maximum", "fmax")
    wins = (c.z > other if up else c.z < other).to(c.s.dtype) + (c.z == other).to(c.s.dtype) / 2
    return _spread(c, wins, f"[z {'>' if up else '<'} other]")


@rule("where")
def _where(c: Call) -> Answer | None:
    condition = c.argument("condition")
    if c.place not in ("self", "other") or not isinstance(condition, Tensor):
        return None
    chosen = condition if c.place == "self" else ~condition
    return _spread(c, chosen.to(c.s.dtype), "[condition]" if c.place == "self" else "[not condition]")


@rule("atan2")
def _atan2(c: Call) -> Answer:
    y, x = c.argument("self"), c.argument("other")
    size = x * x + y * y
    return _spread(c, x / size, "x / r^2") if c.place == "self" else _spread(c, -y / size, "-y / r^2")


# moving data about -------------------------------------------------------------------------------------------------

_MOVES = (
    "view reshape transpose permute t T numpy_T mT flatten unflatten squeeze unsqueeze select slice narrow expand "
    "expand_as flip roll diagonal gather index_select index take unfold repeat tile repeat_interleave split chunk "
    "tensor_split split_with_sizes unbind movedim contiguous clone swapaxes cat concat stack hstack vstack pad "
    "constant_pad_nd triu tril "
    "masked_fill embedding view_as reshape_as broadcast_to diag diag_embed masked_select copy alias to type_as "
    "_to_copy zero_pad2d take_along_dim moveaxis rot90 fliplr flipud float double adjoint swapdims ravel lift_fresh "
    "pixel_shuffle pixel_unshuffle channel_shuffle"
)


@rule(*_MOVES.split())
def _move(c: Call) -> Answer | None:
    """The operation itself, on the numbers 1 to q, says where each element goes."""
    numbers = torch.arange(1, c.z.numel() + 1, dtype=torch.float64, device=c.z.device).view(c.z.shape)
    placed = (c.run(numbers.to(c.z.dtype)) - c.run(torch.zeros_like(c.z))).reshape(-1)
    placed = torch.where(placed.isfinite(), placed, 0).round().long()
    p, q = len(placed), c.z.numel()
    if q >= 2**24 and c.z.dtype != torch.float64:
        return None
    here = torch.arange(1, q + 1, device=placed.device)
    if p == q and torch.equal(placed, here):
        return c.entries(None, None, None), "I", "identity"
    kept = placed > 0
    if bool(kept.all()):
        moved = p == q and torch.equal(placed.sort().values, here)
        text = "permutation" if moved else f"{p} of {q}" if p < q else "copies"
        return c.entries(None, placed - 1, None), text, "permutation" if moved else "gather"
    rows = kept.nonzero().reshape(-1)
    return c.entries(rows, placed[rows] - 1, None), f"{len(rows)} of {q}", "gather"


@rule("dropout", "feature_dropout", "alpha_dropout")
def _dropout(c: Call) -> Answer | None:
    off = not c.argument("train", True) or not c.argument("p", 0.5)
    return (c.entries(None, None, None), "I", "identity") if off else None


@rule("sort", "topk", "kthvalue", "max", "min", "median", "cummax", "cummin", "mode", "nanmedian")
def _chosen(c: Call) -> Answer | None:
    """Values that were picked out along a dimension."""
    if len(c.op.outputs) == 1:
        return _extreme(c) if c.op.name in ("max", "min") and len(c.op.inputs) == 1 else None
    if c.made != c.op.outputs[0]:
        return None
    places = c.env[c.op.outputs[1]]
    dim = c.argument("dim", -1)
    dim = dim if isinstance(dim, int) else -1
    if places.dim() < c.z.dim():
        places = places.unsqueeze(dim)
    numbers = torch.arange(c.z.numel(), device=c.z.device).view(c.z.shape)
    cols = numbers.gather(dim, places).reshape(-1) if c.z.dim() else numbers.reshape(-1)
    text = {"max": "[z is the largest]", "min": "[z is the smallest]", "sort": "permutation"}.get(c.op.name, "[chosen]")
    return c.entries(None, cols, None), text, "permutation" if c.op.name == "sort" else "gather"


@rule("amax", "amin")
def _extreme(c: Call) -> Answer:
    """Ties share."""
    groups = _groups(c)
    wins = (c.z == c.s.reshape(-1)[groups].view(c.z.shape)).to(c.s.dtype)
    shares = wins.new_zeros(c.s.numel()).index_add_(0, groups, wins.reshape(-1))
    weights = wins.reshape(-1) / shares[groups]
    return c.entries(groups, None, weights), f"[z is the {'largest' if 'max' in c.op.name else 'smallest'}]", "gather"


@rule("max_pool1d", "max_pool2d", "max_pool3d")
def _max_pool(c: Call) -> Answer | None:
    pool = getattr(torch.nn.functional, c.op.name)
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    kernel, stride, padding, dilation, ceil_mode = (c.argument(n, d) for n, d in zip(names, (2, None, 0, 1, False)))
    _, places = pool(c.z, kernel, stride or None, padding, dilation, ceil_mode, return_indices=True)
    planes = places.dim() - int(c.op.name[-2])
    lead = c.z.shape[:planes].numel()
    within = c.z.shape[planes:].numel()
    cols = (places.reshape(lead, -1) + within * torch.arange(lead, device=c.z.device)[:, None]).reshape(-1)
    return c.entries(None, cols, None), "[z is the largest]", "gather"


# sums over groups --------------------------------------------------------------------------------------------------


def _groups(c: Call) -> Tensor:
    """(q,) for each element read, the element made that it counts in."""
    dim = c.argument("dim")
    dims = range(c.z.dim()) if dim in (None, [], ()) else [dim] if isinstance(dim, int) else dim
    kept = list(c.z.shape)
    for d in dims:
        kept[d] = 1
    return torch.arange(c.s.numel(), device=c.z.device).view(kept).expand(c.z.shape).reshape(-1)


@rule("sum", "mean")
def _sum(c: Call) -> Answer:
    groups, n = _groups(c), c.z.numel() // max(1, c.s.numel())
    if c.op.name == "sum":
        return c.entries(groups, None, None), "1^T", f"sums of {n}, constant"
    return c.entries(groups, None, torch.full_like(c.z, 1 / n)), f"1^T / {n}", f"means of {n}, constant"


@rule("var", "std")
def _variance(c: Call) -> Answer | None:
    if c.argument("unbiased") is not None or c.slot:
        return None
    groups, n = _groups(c), c.z.numel() // max(1, c.s.numel())
    correction = c.argument("correction", 1)
    free = n - (1 if correction is None else correction)
    mean = c.z.new_zeros(c.s.numel()).index_add_(0, groups, c.z.reshape(-1)) / n
    weights = 2 * (c.z.reshape(-1) - mean[groups]) / free
    if c.op.name == "var":
        return c.entries(groups, None, weights), f"2 (z - mean)^T / {free:g}", f"groups of {n}"
    weights = weights / (2 * c.s.reshape(-1)[groups])
    return c.entries(groups, None, weights), f"(z - mean)^T / ({free:g} s)", f"groups of {n}"


@rule("logsumexp")
def _logsumexp(c: Call) -> Answer:
    groups = _groups(c)
    weights = (c.z.reshape(-1) - c.s.reshape(-1)[groups]).exp()
    return c.entries(groups, None, weights), "softmax(z)^T", f"groups of {c.z.numel() // max(1, c.s.numel())}"


@rule("linalg_vector_norm", "norm", "frobenius_norm")
def _norm(c: Call) -> Answer | None:
    order = c.argument("ord", c.argument("p", 2))
    if order not in (2, 2.0, None, "fro") or (c.op.name == "norm" and c.argument("dim") is None and c.s.dim()):
        return None
    groups = _groups(c)
    sizes = c.s.reshape(-1)[groups]
    weights = torch.where(sizes > 0, c.z.reshape(-1) / sizes, torch.zeros_like(sizes))
    return c.entries(groups, None, weights), "z^T / |z|", f"groups of {c.z.numel() // max(1, c.s.numel())}"


@rule("cumsum")
def _cumsum(c: Call) -> Answer:
    dim = c.argument("dim")
    k = dim % c.z.dim() - c.z.dim() if c.z.dim() else -1
    back = lambda u: u.flip(k).cumsum(k).flip(k)  # noqa: E731
    return c.closed(lambda v: v.cumsum(k), back), "lower triangle of ones", "triangular, constant"
