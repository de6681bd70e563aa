"""The planes and angles of a rotation: one angle in 2-D, a rotation vector in 3-D, a plane for each angle in n-D."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from eitherway.base.errors import ModelError


def angle_of(rotation: Tensor) -> Tensor:
    """(...) the angle in (-pi, pi] of rotations (..., 2, 2), counter-clockwise, radians."""
    return torch.atan2(rotation[..., 1, 0] - rotation[..., 0, 1], rotation[..., 0, 0] + rotation[..., 1, 1])


def vector_of(rotation: Tensor) -> Tensor:
    """(..., 3) the rotation vectors of rotations (..., 3, 3): the axis, as long as the angle in [0, pi].

    Finite gradient at every rotation by less than half a turn, no rotation included. At half a turn both ends of the
    axis serve; the one whose largest entry is positive is taken.

    Source: the quaternion by its largest entry, Shepperd 1978; the angle is 2 atan2(|v|, w).
    """
    m = rotation
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    d = [m[..., i, i] for i in range(3)]
    # four times (w, x, y, z) times one of them: the rows of a symmetric matrix, of which the longest is safe
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    squares = [1 + trace, *(1 + 2 * d[i] - trace for i in range(3))]
    rows = torch.stack(
        [
            torch.stack([squares[0], wx, wy, wz], -1),
            torch.stack([wx, squares[1], xy, xz], -1),
            torch.stack([wy, xy, squares[2], yz], -1),
            torch.stack([wz, xz, yz, squares[3]], -1),
        ],
        -2,
    )
    best = torch.stack(squares, -1).argmax(-1)[..., None, None].expand(*rows.shape[:-2], 1, 4)
    quaternion = torch.take_along_dim(rows, best, -2)[..., 0, :]
    quaternion = quaternion / quaternion.norm(dim=-1, keepdim=True)
    w, v = quaternion[..., :1], quaternion[..., 1:]
    turned = torch.where(w < 0, -1.0, 1.0).to(w.dtype)  # the short way round
    w, v = w * turned, v * turned
    small = (v.detach() ** 2).sum(-1, keepdim=True) < torch.finfo(v.dtype).eps
    safe = torch.where(small, torch.ones_like(v), v)
    length = safe.norm(dim=-1, keepdim=True)
    return v * torch.where(small, 2 / w, 2 * torch.atan2(length, w) / length)  # 2 / w: the limit, to order |v|^2


def planes_of(matrix: Tensor) -> tuple[tuple[float, ...], np.ndarray, int]:
    """The planes in which an orthonormal matrix turns, from its real Schur form.

    Args:
        matrix: (n, n), orthonormal to rounding.

    Returns:
        angles in (0, pi], falling; planes (k, 2, n), each two orthonormal vectors, the first turning towards the
        second; how many directions are mirrored besides (0 for a rotation).

    Raises:
        ModelError: if it is not square.
    """
    from scipy.linalg import schur

    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ModelError(f"planes of rotation are those of one square matrix; got shape {tuple(matrix.shape)}")
    block, frame = schur(matrix.detach().cpu().double().numpy(), output="real")[:2]
    n, k = len(block), 0
    found: list[tuple[float, np.ndarray]] = []
    mirrored = []
    while k < n:
        if k + 1 < n and block[k + 1, k] != 0:
            angle = math.atan2((block[k + 1, k] - block[k, k + 1]) / 2, (block[k, k] + block[k + 1, k + 1]) / 2)
            pair = frame[:, [k, k + 1]] if angle > 0 else frame[:, [k + 1, k]]
            found.append((abs(angle), pair.T))
            k += 2
        else:
            if block[k, k] < 0:
                mirrored.append(frame[:, k])
            k += 1
    # two mirrored directions are half a turn
    while len(mirrored) > 1:
        found.append((math.pi, np.stack([mirrored.pop(), mirrored.pop()])))
    found.sort(key=lambda turn: -turn[0])
    planes = np.stack([plane for _, plane in found]) if found else np.empty((0, 2, n))
    return tuple(angle for angle, _ in found), planes, len(mirrored)
