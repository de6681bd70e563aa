"""The largest and smallest singular values of the model as a map from one sample to its output."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from eitherway.signal.diagnose.measure import NAN, norm, rms
from eitherway.signal.diagnose.run import Run

EXACT = 64
"""Rows or columns up to which every singular value is found: as many backward passes."""
_STEPS = 12
"""Of Lanczos's method where the matrix is larger: the largest value is then right to some per cent."""
_SIGNS = 4
_WORK = 3e9
"""Multiplications that a spectrum may cost: seconds. Beyond it the number of passes is cut."""


@dataclass(frozen=True)
class Spectrum:
    """Singular values of d output / d input of the first sample, all others held."""

    largest: float
    smallest: float
    """Of the min(rows, columns) singular values; nan where only the large ones were found."""
    typical: float
    """Root of the mean square of all of them: the length of the matrix / sqrt(min(rows, columns))."""
    size: tuple[int, int]
    """Outputs x inputs of one sample."""
    exact: bool
    of: str
    """What the columns are: the input, or the first value that has a gradient (embedded ids)."""
    why: str = ""
    """Why there is none."""

    def __str__(self) -> str:
        if self.why:
            return f"Jacobian: {self.why}"
        rows, columns = self.size
        condition = self.largest / self.smallest if self.smallest > 0 else math.inf
        if not self.exact:
            top = f"largest about {self.largest:.3g} (Lanczos), " if self.largest == self.largest else ""
            return (
                f"Jacobian of one sample ({rows} x {columns}, by {self.of}): singular values {top}typical about "
                f"{self.typical:.3g} (Hutchinson)"
            )
        return (
            f"Jacobian of one sample ({rows} x {columns}, by {self.of}): singular values {self.largest:.3g} to "
            f"{self.smallest:.3g}, condition {condition:.2g}"
        )


def spectrum(run: Run, trunk: tuple[int, ...], seed: int) -> Spectrum:
    """The extreme singular values, by backward passes over the run that is there already.

    Rows are pulled back one by one where outputs are few; otherwise Golub and Kahan's bidiagonalisation (1965), whose
    forward products are backward passes through the backward.
    """
    start = next((i for i in (*run.graph.inputs, *trunk) if _tracks(run, i)), None)
    end = next((i for i in run.outputs if _tracks(run, i)), None)
    if start is None or end is None or start == end:
        return Spectrum(NAN, NAN, NAN, (0, 0), False, "", "no way from the input to the output has a gradient")
    x, y = run.tensors[start], run.tensors[end]
    if not torch.isfinite(y).all():
        return Spectrum(NAN, NAN, NAN, (0, 0), False, "", "the output is not finite")
    of = "the input" if start in run.graph.inputs else f"its {run.graph.values[start].name}"
    first = y[0] if y.ndim > 1 and y.shape[0] == run.batch else y
    rows, columns = first.numel(), (x[0].numel() if x.ndim > 1 and x.shape[0] == run.batch else x.numel())
    passes = max(6, int(_WORK / max(_work(run), 1.0)))
    try:
        if rows <= min(EXACT, passes):
            return _exact(x, y, rows, columns, of)
        typical = _typical(x, y, rows, columns, seed)
        try:
            largest = _lanczos(x, y, rows, columns, min(_STEPS, passes // 3), seed)
        except (RuntimeError, NotImplementedError):  # an operation whose backward has no derivative, fused attention
            largest = NAN
        return Spectrum(largest, NAN, typical, (rows, columns), False, of)
    except (RuntimeError, NotImplementedError) as error:
        text = (str(error).strip().splitlines() or [""])[0][:80]
        return Spectrum(NAN, NAN, NAN, (rows, columns), False, of, f"torch cannot go back through the run ({text})")


def _tracks(run: Run, i: int) -> bool:
    tensor = run.tensors.get(i)
    return tensor is not None and tensor.requires_grad and tensor.is_floating_point()


def _work(run: Run) -> float:
    """Multiplications of a backward pass, about: twice each weight at each of its positions."""
    work = 0.0
    for op in run.graph.ops:
        weights = [run.graph.values[i] for i in op.inputs if run.graph.values[i].kind == "parameter"]
        heavy = max((w.numel for w in weights if len(w.shape) > 1), default=0)
        if heavy and op.outputs:
            made = run.graph.values[op.outputs[0]]
            channels = made.shape[1] if "conv" in op.name and len(made.shape) > 1 else (made.shape or (1,))[-1]
            work += 2.0 * heavy * made.numel / max(channels, 1)
    return work


def _typical(x: Tensor, y: Tensor, rows: int, columns: int, seed: int) -> float:
    """E |J^T u|^2 = |J|^2 for u of independent signs (Hutchinson 1989), by a few of them."""
    generator = torch.Generator().manual_seed(seed)
    total = 0.0
    for _ in range(_SIGNS):
        given = torch.zeros(y.shape, dtype=y.dtype, device=y.device)
        signs = torch.randint(2, (rows,), generator=generator) * 2 - 1
        given.view(-1)[:rows] = signs.to(y.device, y.dtype)
        (found,) = torch.autograd.grad(y, x, given, retain_graph=True, materialize_grads=True)
        total += norm(_own(found, columns)) ** 2 / _SIGNS
    return math.sqrt(total / min(rows, columns))


def _own(tensor: Tensor, count: int) -> Tensor:
    """The first sample's part, flattened."""
    return tensor.reshape(-1)[:count]


def _exact(x: Tensor, y: Tensor, rows: int, columns: int, of: str) -> Spectrum:
    matrix = torch.zeros(rows, columns, dtype=torch.float64)
    for i in range(rows):
        cotangent = torch.zeros(y.shape, dtype=y.dtype, device=y.device)
        cotangent.view(-1)[i] = 1.0
        (pulled,) = torch.autograd.grad(y, x, cotangent, retain_graph=True, allow_unused=True)
        if pulled is not None:
            matrix[i] = _own(pulled, columns).double().cpu()
    if not torch.isfinite(matrix).all():
        return Spectrum(NAN, NAN, NAN, (rows, columns), True, of, "its entries are not finite")
    top = float(matrix.abs().max()) or 1.0
    values = torch.linalg.svdvals(matrix / top) * top
    return Spectrum(float(values[0]), float(values[-1]), rms(values), (rows, columns), True, of)


def _lanczos(x: Tensor, y: Tensor, rows: int, columns: int, steps: int, seed: int) -> float:
    """Golub-Kahan with full reorthogonalisation; the largest value of the small bidiagonal matrix."""
    dual = torch.zeros_like(y, requires_grad=True)
    (pulled,) = torch.autograd.grad(y, x, dual, create_graph=True, retain_graph=True, materialize_grads=True)
    generator = torch.Generator().manual_seed(seed)

    def push(v: Tensor) -> Tensor:
        given = torch.zeros(x.shape, dtype=x.dtype, device=x.device)
        given.view(-1)[:columns] = v
        if not pulled.requires_grad:
            return x.new_zeros(rows)
        (found,) = torch.autograd.grad(pulled, dual, given, retain_graph=True, materialize_grads=True)
        return _own(found, rows).detach()

    def pull(u: Tensor) -> Tensor:
        given = torch.zeros(y.shape, dtype=y.dtype, device=y.device)
        given.view(-1)[:rows] = u
        (found,) = torch.autograd.grad(y, x, given, retain_graph=True, materialize_grads=True)
        return _own(found, columns).detach()

    v = torch.randn(columns, generator=generator, dtype=torch.float64).to(x.device, x.dtype)
    v /= v.norm()
    u = torch.zeros(rows, dtype=x.dtype, device=x.device)
    vs: list[Tensor] = []
    alphas: list[float] = []
    betas: list[float] = []
    beta = 0.0
    for _ in range(max(1, min(steps, rows, columns))):
        vs.append(v)
        u = push(v) - beta * u
        alpha = norm(u)
        alphas.append(alpha)
        if not 0 < alpha < math.inf:
            break
        u = u / alpha
        w = pull(u) - alpha * v
        for old in vs:
            w = w - (old @ w) * old
        beta = norm(w)
        betas.append(beta)
        if not 0 < beta < math.inf or beta < 1e-6 * alpha:
            break
        v = w / beta
    small = torch.diag(torch.tensor(alphas, dtype=torch.float64))
    for k, b in enumerate(betas[: len(alphas) - 1]):
        small[k, k + 1] = b
    if not torch.isfinite(small).all():
        return NAN
    return float(torch.linalg.matrix_norm(small, 2))
