"""Is a function linear, affine or neither; and if it is affine, its matrix and its shift."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from eitherway.base.errors import ModelError
from eitherway.graph import Graph, capture
from eitherway.linear.affine_map import AffineMap
from eitherway.linear.certificate import Certificate, Order, certify
from eitherway.linear.maps import LinearMap

SCALES = (1e-6, 1e-3, 1.0, 1e3, 1e6)
"""Where superposition is tried: a clamp at 10 bends only what is larger, a rounding only what is smaller."""
TRIALS = 4
"""Pairs of points at each scale."""


@dataclass(frozen=True)
class Linearity:
    """Whether a function is linear or affine, and how that is known. True as a condition if it is linear.

    Args:
        linear: f(a x + b y) = a f(x) + b f(y).
        affine: linear up to a shift: f(x) = A x + b.
        proved: shown from the operations of the run, for every x; otherwise only tested.
        residual: the largest relative violation of superposition that was seen.
        shift: f(0), where an affine function moves 0 to.
        breaks: operations that are not affine, each with its line or module.
        scale: where superposition failed first, if it did.
    """

    linear: bool
    affine: bool
    proved: bool
    residual: float
    shift: Tensor
    breaks: tuple[str, ...] = ()
    scale: float | None = None

    def __bool__(self) -> bool:
        return self.linear

    def __str__(self) -> str:
        how = "proved from its operations"
        if not self.proved:
            why = f"{', '.join(self.breaks)} may bend elsewhere" if self.breaks else "its run could not be followed"
            how = f"tested, not proved: superposition holds to {self.residual:.1e}, but {why}"
        if self.linear:
            return f"linear ({how})"
        if self.affine:
            return f"translation moves 0 to {_short(self.shift)}, so it is affine, not linear ({how})"
        named = f" because of {', '.join(self.breaks)}" if self.breaks else ""
        where = f" at points of size {self.scale:g}" if self.scale is not None else ""
        return f"neither linear nor affine{named}: superposition fails by {self.residual:.1e} of the values{where}"


def is_linear(f: Callable[..., Any], size: int | Sequence[int] | Tensor | None = None, *, seed: int = 0) -> Linearity:
    """Whether f is linear, affine or neither: proved from its operations where that is possible, and always tested.

    Args:
        f: a function or module of one tensor, or a `LinearMap` or `AffineMap`.
        size: of its input: a length, a shape, or an example; None finds it from the module, or tries vectors.
        seed: of the points where superposition is tried.

    Raises:
        ModelError: if f does not take an input of that size, is random, or returns no tensor.

    Superposition is tried at five scales from 1e-6 to 1e6, in float64, on a copy of the module in eval mode.

    >>> print(is_linear(lambda x: 2 * x + torch.tensor([1.0, 0.0]), 2))
    translation moves 0 to [1, 0], so it is affine, not linear (proved from its operations)
    >>> bool(is_linear(lambda x: x.flip(0), 3))
    True
    """
    if isinstance(f, LinearMap):
        return Linearity(True, True, True, 0.0, torch.zeros(f.shape[-2], dtype=f.dtype))
    if isinstance(f, AffineMap):
        still = bool((f.shift == 0).all())
        return Linearity(still, True, True, 0.0, f.shift.detach())
    subject = _Subject.of(f, size)
    graph = _captured(subject)
    proof = certify(graph) if graph is not None else Certificate(Order.OTHER, ())
    if graph is not None and graph.random:
        noise = "; ".join(note.text for note in graph.notes if note.kind == "random")
        raise ModelError(f"f is random, so it is no one map: {noise}; call .eval(), or draw the noise outside")
    precision = _precision(subject, graph)
    residual, scale, shift = _superposition(subject, seed, torch.finfo(precision).eps)
    bent = residual > (1e-9 if precision == torch.float64 else 1e-4)  # violations that rounding explains
    proved = proof.order is not Order.OTHER and not bent
    linear = not bent and not bool(shift.any())
    return Linearity(linear, not bent, proved, residual, shift, proof.breaks, scale if bent else None)


def from_function(f: Callable[..., Any], size: int | Sequence[int] | Tensor | None = None) -> AffineMap:
    """The matrix and the shift of an affine function, flattened: f(x) = A x + b.

    Args:
        f: a function or module of one tensor.
        size: of its input, as in `is_linear`.

    Returns:
        An `AffineMap` from R^m to R^n in float64, m and n the numbers of elements in and out.

    Raises:
        ModelError: if f is not affine; the message names the operations that bend it.

    A is read column by column, f(e_j) - f(0): exact for affine functions, with or without gradients.

    >>> from_function(lambda x: 2 * x.flip(0) + 1, 2).homogeneous()
    tensor([[0., 2., 1.],
            [2., 0., 1.],
            [0., 0., 1.]], dtype=torch.float64)
    """
    found = is_linear(f, size)
    if not found.affine:
        raise ModelError(f"no matrix does what f does, since it is {found}; leave the non-linear part outside")
    subject = _Subject.of(f, size)
    zero = subject.zero
    shift = subject(zero).flatten()
    columns = []
    for j in range(zero.numel()):
        unit = torch.zeros_like(zero).flatten()
        unit[j] = 1.0
        columns.append(subject(unit.view(zero.shape)).flatten() - shift)
    return AffineMap(torch.stack(columns, 1), shift)


@dataclass(frozen=True)
class _Subject:
    """A function that is asked for values, never for gradients: a module is copied in float64 and eval mode.

    Args:
        zero: an input of zeros, in the dtype that f takes.
    """

    f: Callable[..., Any]
    zero: Tensor

    @staticmethod
    def of(f: Callable[..., Any], size: int | Sequence[int] | Tensor | None) -> _Subject:
        """Finds an input that f takes: of the size that is given, in float64, or in torch's default if f is in that.

        Raises:
            ModelError: if it takes none.
        """
        if not callable(f):
            raise ModelError(f"f is {f!r:.60}, a {type(f).__name__}; expected a function, a module or a map")
        if isinstance(f, nn.Module):
            f = copy.deepcopy(f).cpu().double().eval()
        shapes = _guesses(f) if size is None else [_shape(size)]
        tried = []
        for shape in shapes:
            for dtype in dict.fromkeys((torch.float64, torch.get_default_dtype())):
                zero = torch.zeros(shape, dtype=dtype)
                try:
                    with torch.no_grad():
                        f(zero.clone())
                except Exception as error:  # f is the user's: whatever it raises, this input was not it
                    first = (str(error).splitlines() or [type(error).__name__])[0]
                    tried.append(f"{list(shape)}: {first[:80]}")
                    continue
                return _Subject(f, zero)
        asked = "no size was found that f takes" if size is None else "f does not take an input of that size"
        raise ModelError(f"{asked} ({'; '.join(dict.fromkeys(tried[:3]))}); give one: is_linear(f, size=...)")

    def __call__(self, x: Tensor) -> Tensor:
        """f's value at x, in float64."""
        with torch.no_grad():
            y = self.f(x.clone())
        try:
            y = torch.as_tensor(y).detach()
        except (TypeError, ValueError, RuntimeError):
            raise ModelError(f"f returned {type(y).__name__}; a map answers one tensor: return that") from None
        if y.is_nested:
            raise ModelError(
                "f returned a nested tensor, whose rows are a map of no one size: torch.nested.to_padded_tensor(y, 0.0)"
            )
        y = y if y.layout == torch.strided else y.to_dense()
        return torch.view_as_real(y) if y.is_complex() else y.to(torch.float64)


def _precision(subject: _Subject, graph: Graph | None) -> torch.dtype:
    """What f computes in, where a float64 goes in: float32 if it casts to that anywhere. Narrower numbers bend."""
    through = {value.dtype for value in graph.values if value.depends} if graph is not None else set()
    single = {torch.float32, torch.complex64} & {subject.zero.dtype, *through}
    return torch.float32 if single else torch.float64


def _superposition(f: _Subject, seed: int, eps: float) -> tuple[float, float | None, Tensor]:
    """(largest relative violation of f(a x + (1 - a) y) = a f(x) + (1 - a) f(y), the scale where it is, f(0)).

    Args:
        eps: the rounding unit of what f computes in.
    """
    generator = torch.Generator().manual_seed(seed)
    shape, dtype = f.zero.shape, f.zero.dtype
    zero = f(f.zero)
    worst, where = 0.0, None
    for scale in SCALES:
        for _ in range(TRIALS):
            x, y = (scale * torch.randn(shape, dtype=dtype, generator=generator) for _ in range(2))
            a = 4 * float(torch.rand((), generator=generator, dtype=torch.float64)) - 1.5  # beyond both ends, too
            ends, between = (f(x), f(y)), f(a * x + (1 - a) * y)
            if any(value.shape != zero.shape for value in (*ends, between)):
                raise ModelError(f"f answers {tuple(zero.shape)} at 0 and another shape elsewhere, so it is no one map")
            violation = _violation(between, a * ends[0] + (1 - a) * ends[1], zero, ends, eps)
            if not violation <= worst:
                worst, where = violation, scale
    return worst, where, zero


def _violation(found: Tensor, expected: Tensor, zero: Tensor, ends: tuple[Tensor, Tensor], eps: float) -> float:
    """How far off a value is, of the size of what moves; f(0) itself is known to rounding only. NaN is infinite."""
    if not found.numel():
        return 0.0
    off = float((found - expected).abs().max()) - 8 * eps * float(zero.abs().max())
    size = max(float((end - zero).abs().max()) for end in ends)
    if off != off:
        return math.inf
    if off <= 0:
        return 0.0
    return off / size if size > 0 else math.inf


def _captured(subject: _Subject) -> Graph | None:
    try:
        return capture(subject.f, subject.zero)
    except (ModelError, RuntimeError, TypeError, NotImplementedError):
        return None  # NumPy inside, a plain number answered: superposition alone decides


def _shape(size: int | Sequence[int] | Tensor) -> torch.Size:
    if isinstance(size, Tensor):
        return size.shape
    whole = [size] if isinstance(size, int) else list(size)
    if any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in whole):
        raise ModelError(f"size is {size!r}; expected a length, a shape, or an example tensor")
    return torch.Size(whole)


def _guesses(f: Callable[..., Any]) -> list[tuple[int, ...]]:
    if isinstance(f, nn.Module):
        first = next((p for p in f.parameters() if p.ndim >= 2), None)
        if first is not None and first.ndim == 2:
            return [(first.shape[1],), (1, first.shape[1])]
        if first is not None:
            return [(1, channels, *[9] * (first.ndim - 2)) for channels in (first.shape[1], first.shape[0])]
    return [(2,), (3,), (4,), (1, 4), ()]


def _short(values: Tensor) -> str:
    numbers = [f"{value:.4g}" for value in values.flatten()[:6].tolist()]
    return f"[{', '.join(numbers)}{', ...' if values.numel() > 6 else ''}]"
