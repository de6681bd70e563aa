"""Linear and affine maps by what they do: turn, mirror, stretch, shear, project, move.

Angles are in radians. Every argument may be batched, differentiable, a list or an array.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index
from typing import Any

import torch
from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.linear.affine_map import AffineMap
from eitherway.linear.forms import Diagonal, Orthonormal, Projection, UnitTriangular
from eitherway.linear.given import as_tensor, as_vector, refuse_nonfinite
from eitherway.linear.maps import LinearMap, identity


def rotation(angle: Any, n: int = 2, plane: Any = (0, 1)) -> LinearMap:
    """Turn by an angle in one plane of n dimensions; everything across the plane stays.

    A positive angle turns the plane's first direction towards its second: counter-clockwise in (0, 1).

    Args:
        angle: (...,), radians.
        n: dimensions; taken from the vectors where `plane` has some.
        plane: two axes (i, j), or two vectors (n,) that span the plane.

    Raises:
        ModelError: if the plane is none, or lies outside n dimensions.

    Source: R = 1 + (cos a - 1)(u u^T + v v^T) + sin a (v u^T - u v^T) for orthonormal u, v.

    >>> import math
    >>> rotation(math.pi / 2)
    LinearMap: rotation by 90°; 2 x 2, float64
    """
    angle = as_tensor(angle, "the angle")
    if len(plane) != 2:
        raise ModelError(f"a plane is two axes or two vectors; got {len(plane)} of them")
    if all(isinstance(axis, int) and not isinstance(axis, bool) for axis in plane):
        i, j = (_axis(axis, n, "the plane") for axis in plane)
        if i == j:
            raise ModelError(f"the plane {tuple(plane)} names one axis twice: two different axes span a plane")
        eye = torch.eye(n, dtype=angle.dtype, device=angle.device)
        u, v = eye[i], eye[j]
    else:
        u, v = _orthonormal_pair(*plane)
        dtype = torch.promote_types(angle.dtype, u.dtype)
        angle, u, v = angle.to(dtype), u.to(dtype), v.to(dtype)
    within = _outer(u, u) + _outer(v, v)
    across = _outer(v, u) - _outer(u, v)
    eye = torch.eye(u.shape[-1], dtype=angle.dtype, device=angle.device)
    # -2 sin(a/2)^2 is cos(a) - 1 without cancellation at small angles
    turn = -2 * torch.sin(angle / 2)[..., None, None] ** 2 * within + torch.sin(angle)[..., None, None] * across
    return LinearMap.of(Orthonormal(eye + turn, 1))


def rotation_from_vector(vector: Any) -> LinearMap:
    """The rotation of a rotation vector (3-D), or of n(n-1)/2 turns in the coordinate planes of n dimensions.

    Three numbers: the axis, as long as the angle in radians; the right-hand rule. Otherwise one number for each plane
    (0, 1), (0, 2), ... (n-2, n-1), all turning at once: the exponential of a skew matrix. Any rotation can be had so,
    and the gradient is finite everywhere, at no rotation too.

    Args:
        vector: (..., n(n-1)/2): 1 number for 2-D, 3 for 3-D, 6 for 4-D ...

    Raises:
        ModelError: if the count fits no n.

    >>> rotation_from_vector([0, 0, 0.5]).close(rotation(0.5, 3, plane=(0, 1)))
    True
    """
    vector = as_vector(vector, "the rotation vector")
    count = vector.shape[-1]
    n = (1 + math.isqrt(1 + 8 * count)) // 2
    if n * (n - 1) // 2 != count:
        raise ModelError(
            f"a rotation in n dimensions has n(n-1)/2 numbers: 1, 3, 6, 10 ...; the rotation vector has {count}"
        )
    refuse_nonfinite(vector, "turn by this rotation vector")
    if n == 2:
        return rotation(vector[..., 0])
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    if n == 3:  # the right-hand rule: about x turns y to z, about y z to x, about z x to y
        pairs = [(1, 2), (2, 0), (0, 1)]
    turns = torch.zeros(count, n, n, dtype=vector.dtype, device=vector.device)
    for k, (i, j) in enumerate(pairs):
        turns[k, j, i], turns[k, i, j] = 1, -1
    skew = (vector @ turns.reshape(count, n * n)).reshape(*vector.shape[:-1], n, n)
    eye = torch.eye(n, dtype=vector.dtype, device=vector.device)
    if n == 3:
        sine, cosine = _rodrigues((vector * vector).sum(-1))
        return LinearMap.of(Orthonormal(eye + sine[..., None, None] * skew + cosine[..., None, None] * skew @ skew, 1))
    # torch 2.13 takes too few terms for a lone matrix (2e-10 at an angle of 0.05), not for two
    matrix = torch.linalg.matrix_exp(torch.stack([skew, torch.zeros_like(skew)]))[0]
    # one step of Newton and Schulz (Higham 2008, eq. 8.20): orthonormal to rounding, where the series leaves 1e-14
    return LinearMap.of(Orthonormal(matrix @ (3 * eye - matrix.mT @ matrix) / 2, 1))


def reflection(normal: Any) -> LinearMap:
    """Mirror at the plane through 0 across `normal`: 1 - 2 v v^T, Householder's matrix. Its determinant is -1.

    Args:
        normal: (..., n), of any length but 0.

    Raises:
        ModelError: if a normal is 0.

    >>> reflection([1, 0]) @ [3, 4]
    tensor([-3.,  4.], dtype=torch.float64)
    """
    v = as_vector(normal, "the normal")
    unit = _unit(v, "the normal")
    eye = torch.eye(v.shape[-1], dtype=v.dtype, device=v.device)
    return LinearMap.of(Orthonormal(eye - 2 * _outer(unit, unit), -1))


def scaling(factors: Any, n: int | None = None) -> LinearMap:
    """Stretch every axis by its own factor, or all n axes by one.

    Args:
        factors: (..., n), or with `n` a number (...,) for all axes. A negative factor mirrors, 0 flattens.
        n: dimensions, where one factor serves all axes.

    Raises:
        ModelError: for a lone number without n.

    >>> scaling([2, 3]).det()
    tensor(6., dtype=torch.float64)
    """
    factors = as_tensor(factors, "the factors")
    if n is not None:
        factors = factors[..., None].expand(*factors.shape, identity(n).shape[-1])
    elif factors.ndim == 0:
        raise ModelError(
            f"scaling({factors.item():g}) does not say in how many dimensions: give n=, or a factor an axis"
        )
    return LinearMap.of(Diagonal(as_vector(factors, "the factors")))


def shear(amount: Any, n: int = 2, along: int = 0, by: int = 1) -> LinearMap:
    """Slide every point along one axis, in proportion to where it stands on another: x[along] += amount * x[by].

    Areas and volumes stay: the determinant is 1.

    Args:
        amount: (...,).
        n: dimensions.
        along: the axis that moves.
        by: the axis that says how far.

    Raises:
        ModelError: if both are one axis: that would be a scaling.

    >>> shear(2) @ [0, 1]
    tensor([2., 1.], dtype=torch.float64)
    """
    amount = as_tensor(amount, "the amount")
    i, j = _axis(along, n, "along"), _axis(by, n, "by")
    if i == j:
        raise ModelError(f"shear along axis {along} by axis {by} is one axis: expected two; stretching one is scaling")
    place = torch.zeros(n, n, dtype=amount.dtype, device=amount.device)
    place[i, j] = 1
    eye = torch.eye(n, dtype=amount.dtype, device=amount.device)
    return LinearMap.of(UnitTriangular(eye + amount[..., None, None] * place, upper=i < j))


def projection(onto: Any) -> LinearMap:
    """Drop everything off a line, a plane or a larger subspace, at a right angle. Doing it twice changes nothing more.

    Args:
        onto: (n,) a direction, or (..., k, n) k independent directions that span the subspace.

    Raises:
        ModelError: if the directions are not independent, or more than n.

    >>> projection([0, 1]) @ [2, 3]
    tensor([0., 3.], dtype=torch.float64)
    """
    rows = as_vector(onto, "the directions")
    rows = rows[None] if rows.ndim == 1 else rows
    k, n = rows.shape[-2:]
    if k > n or k == 0:
        raise ModelError(
            f"{k} directions in {n} dimensions: a projection takes 1 to n independent ones, in rows (k, n)"
        )
    refuse_nonfinite(rows, "project onto these directions")
    lengths = rows.detach().norm(dim=-1, keepdim=True)
    spread = torch.linalg.svdvals(rows.detach() / lengths.where(lengths > 0, 1.0))
    if bool((spread[..., -1] <= n * torch.finfo(rows.dtype).eps * spread[..., 0]).any()):
        raise ModelError(
            f"the {k} directions of the projection are not independent (smallest singular value "
            f"{spread[..., -1].amin().item():.3g}): leave out those that others span"
        )
    basis, _ = torch.linalg.qr(rows.mT)
    return LinearMap.of(Projection(basis))


def permutation(order: Sequence[int]) -> LinearMap:
    """Put the axes in another order: y[i] = x[order[i]].

    Args:
        order: every axis 0 ... n - 1 once.

    Raises:
        ModelError: if it is no order of the axes.

    >>> permutation([2, 0, 1]) @ [10, 11, 12]
    tensor([12., 10., 11.], dtype=torch.float64)
    """
    try:
        axes = [index(axis) for axis in order]
    except TypeError:
        axes = []
    if not axes or sorted(axes) != list(range(len(axes))):
        raise ModelError(f"permutation got {order!r:.60}: expected every axis from 0 to n - 1 once")
    swaps = sum(axes[i] > axes[j] for i in range(len(axes)) for j in range(i + 1, len(axes)))
    return LinearMap.of(Orthonormal(torch.eye(len(axes), dtype=torch.float64)[axes], -1 if swaps % 2 else 1))


def translation(b: Any) -> AffineMap:
    """Move every point by b. It moves 0 to b, so it is affine, not linear.

    Args:
        b: (..., n).

    >>> translation([1, 2]) @ [0, 0]
    tensor([1., 2.], dtype=torch.float64)
    """
    b = as_vector(b, "the shift b")
    return AffineMap(identity(b.shape[-1], dtype=b.dtype, device=b.device), b)


def _rodrigues(square: Tensor) -> tuple[Tensor, Tensor]:
    """sin(a) / a and (1 - cos a) / a^2 from a^2 (...): smooth at 0, where a itself is not."""
    small = square.detach() < 0.25
    series, near = torch.where(small, square, 0.0), []
    for first in (1, 2):  # 1/1! - t/3! + t^2/5! ..., 1/2! - t/4! + ...: the ninth term is below 1e-19 at t = 1/4
        terms = [(-1) ** k / math.factorial(2 * k + first) for k in range(8)]
        total = torch.zeros_like(series)
        for term in reversed(terms):
            total = total * series + term
        near.append(total)
    angle = torch.where(small, 1.0, square).sqrt()
    far = torch.sin(angle) / angle, 2 * torch.sin(angle / 2) ** 2 / angle**2
    return torch.where(small, near[0], far[0]), torch.where(small, near[1], far[1])


def _outer(u: Tensor, v: Tensor) -> Tensor:
    return u[..., :, None] * v[..., None, :]


def _axis(axis: int, n: int, what: str) -> int:
    identity(n)  # n itself is checked there
    if isinstance(axis, bool) or not isinstance(axis, int) or not -n <= axis < n:
        raise ModelError(f"{what} names axis {axis!r} of {n} dimensions: axes are whole numbers from 0 to {n - 1}")
    return axis % n


def _unit(vector: Tensor, what: str) -> Tensor:
    refuse_nonfinite(vector, f"take {what}")
    largest = vector.detach().abs().amax(-1, keepdim=True)
    if bool((largest == 0).any()):
        raise ModelError(f"{what} is 0, which has no direction: expected a vector of any other length")
    vector = vector / largest  # lengths of 1e-200 and 1e200 stay finite when squared
    return vector / vector.norm(dim=-1, keepdim=True)


def _orthonormal_pair(first: Any, second: Any) -> tuple[Tensor, Tensor]:
    """Gram and Schmidt's two unit vectors: the first keeps its direction, the second turns to be across."""
    u, v = as_vector(first, "the plane's first vector"), as_vector(second, "the plane's second vector")
    if u.shape[-1] != v.shape[-1]:
        raise ModelError(f"the plane's vectors have {u.shape[-1]} and {v.shape[-1]} entries: expected as many")
    dtype = torch.promote_types(u.dtype, v.dtype)
    u, v = _unit(u.to(dtype), "the plane's first vector"), _unit(v.to(dtype), "the plane's second vector")
    rest = v - (u * v).sum(-1, keepdim=True) * u
    if bool((rest.detach().norm(dim=-1) <= 8 * torch.finfo(dtype).eps).any()):
        raise ModelError("the plane's two vectors point along one line: two independent ones span a plane")
    rest = rest / rest.norm(dim=-1, keepdim=True)
    rest = rest - (u * rest).sum(-1, keepdim=True) * u  # once more: orthonormal to rounding even when nearly parallel
    return u, rest / rest.norm(dim=-1, keepdim=True)
