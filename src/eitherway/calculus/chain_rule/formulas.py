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

from eitherway.calculus.chain_rule.local import Closed, Entries, Local
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
