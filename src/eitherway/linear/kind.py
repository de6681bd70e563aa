"""What a map is: the distance of its matrix from every class, the tolerance, and how clear the decision was.

A class is never reported as a bare yes or no: its residual, relative and printed in full, stands beside the tolerance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from html import escape
from numbers import Real

import numpy as np
import torch
from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.linear.affine_map import AffineMap
from eitherway.linear.angles import angle_of, planes_of, vector_of
from eitherway.linear.given import refuse_half, refuse_nonfinite
from eitherway.linear.maps import LinearMap

_DEGREE = 180 / math.pi


@dataclass(frozen=True, eq=False)
class Kind:
    """A map's classes with their evidence. `"rotation" in kind` asks for one label.

    Args:
        name: what it is, in words.
        labels: every class whose residual is within the tolerance, the most telling first.
        residuals: for every class the distance from it, relative to the size of the matrix.
        tolerance: up to which a residual counts as rounding.
        determinant: None where the matrix is not square.
        singular_values: falling.
        angles: of a rotation or a rotoreflection, radians, falling; in 2-D one in (-pi, pi].
        planes: (k, 2, n), the plane each angle turns.
        notes: what else should be heard, sentences.
    """

    name: str
    labels: tuple[str, ...]
    residuals: dict[str, float]
    tolerance: float
    determinant: float | None
    singular_values: tuple[float, ...]
    angles: tuple[float, ...] = ()
    planes: np.ndarray = field(default_factory=lambda: np.empty((0, 2, 0)))
    notes: tuple[str, ...] = ()

    def __contains__(self, label: str) -> bool:
        return label in self.labels

    @property
    def closest_call(self) -> str:
        """The class whose residual lies nearest the tolerance, in ratio, on either side."""
        return min(self.residuals, key=lambda name: abs(self._decades(name)))

    @property
    def margin(self) -> float:
        """Decades between the tolerance and the residual of the closest call: below 1 the decision is a close one."""
        return abs(self._decades(self.closest_call))

    def __str__(self) -> str:
        lines = [self.name, *(f"  {note}" for note in self.notes)]
        lines += [f"  {name}: {text}" for name, text in self._facts()]
        width = max(map(len, self.residuals))
        lines += [f"  {'class':<{width}}  residual  within {self.tolerance:.1e}"]
        lines += [
            f"  {name:<{width}}  {value:8.1e}  {'yes' if value <= self.tolerance else 'no'}"
            for name, value in self.residuals.items()
        ]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        facts = "".join(f"<tr><th>{escape(a)}</th><td colspan=2>{escape(b)}</td></tr>" for a, b in self._facts())
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{value:.1e}</td><td>{'yes' if value <= self.tolerance else 'no'}</td></tr>"
            for name, value in self.residuals.items()
        )
        head = f"<tr><th>class</th><th>residual</th><th>within {self.tolerance:.1e}</th></tr>"
        return f"<p><b>{escape(self.name)}</b></p>{notes}<table>{facts}{head}{rows}</table>"

    def _facts(self) -> list[tuple[str, str]]:
        rows = []
        if self.determinant is not None:
            off = abs(abs(self.determinant) - 1)
            beside = f" (off {math.copysign(1, self.determinant):.0f} by {off:.1e})" if 0 < off < 1e-2 else ""
            rows.append(("determinant", f"{self.determinant:.6g}{beside}"))
        rows.append(("singular values", ", ".join(f"{value:.6g}" for value in self.singular_values)))
        side = "outside" if self.residuals[self.closest_call] > self.tolerance else "inside"
        rows.append(("closest call", f"{self.closest_call}, {self.margin:.1f} decades {side} the tolerance"))
        return rows

    def _decades(self, name: str) -> float:
        tiny = 1e-300  # a residual of 0 is far inside, not at infinity
        return math.log10(max(self.residuals[name], tiny) / max(self.tolerance, tiny))


def kind_of(map: LinearMap | AffineMap, tolerance: float | None = None) -> Kind:
    """What one map is; see `LinearMap.kind`.

    Args:
        map: one map, not a batch.
        tolerance: by default 100 n eps of the dtype, n the larger side.

    Raises:
        ModelError: for a batch, 16-bit or non-finite entries, or a negative tolerance.
    """
    if map.batch_shape:
        raise ModelError(
            f"kind describes one map; this is a batch of {tuple(map.batch_shape)}. Ask one of them, A[0].kind(), "
            "or measure all at once by .residuals() of the linear map"
        )
    if tolerance is not None and not (isinstance(tolerance, Real) and tolerance >= 0):
        raise ModelError(f"the tolerance of kind is {tolerance!r}: expected a small number of 0 or more, such as 1e-6")
    linear = map.linear if isinstance(map, AffineMap) else map
    matrix = linear.matrix.detach()
    if tolerance is None:
        tolerance = 100 * max(matrix.shape) * torch.finfo(matrix.dtype).eps
    found = {name: value.item() for name, value in residuals(matrix).items()}
    square = matrix.shape[0] == matrix.shape[1]
    values = tuple(torch.linalg.svdvals(matrix).tolist())
    det = torch.linalg.det(matrix).item() if square else None
    within = [name for name, value in found.items() if value <= tolerance]
    labels = _labels(within, det, matrix)
    angles, planes = (), np.empty((0, 2, matrix.shape[-1]))
    if {"rotation", "rotoreflection"} & set(labels):
        angles, planes, _ = planes_of(matrix)
        angles = (angle_of(matrix).item(),) if len(matrix) == 2 else angles
    name, notes = _name(labels, matrix, det, angles), []
    if isinstance(map, AffineMap):
        refuse_nonfinite(map.shift.detach(), "tell the kind of the map")
        moved = map.shift.detach().norm().item()
        found = {"linear (0 stays)": moved, **found}
        if moved > tolerance:
            name = "translation" if labels[0] == "identity" else f"affine: {name}, then a translation"
            labels = ("translation", "affine") if labels[0] == "identity" else ("affine", *labels)
            name += f" by {_row(map.shift)}"
            notes.append(f"it moves 0 to {_row(map.shift)}, so it is affine, not linear")
        else:
            labels = (*labels, "linear")
    elif square and len(matrix) > 1:
        notes += _homogeneous_note(matrix, tolerance)
    return Kind(name, labels, found, tolerance, det, values, angles, planes, tuple(notes))


def residuals(matrix: Tensor) -> dict[str, Tensor]:
    """How far (..., n, m) is from every class, each (...), relative to its Frobenius norm or that of a rotation.

    For identity, rotation, rotoreflection, reflection, scalings, similarity, permutation and (skew-)symmetric it is the
    distance to the nearest member; for shear and projection, what the defining equation leaves over; for singular the
    smallest singular value over the largest.
    """
    refuse_half(matrix, "tell the kind")
    refuse_nonfinite(matrix, "tell the kind of the map")
    n, m = matrix.shape[-2:]
    values = torch.linalg.svdvals(matrix)
    norm = _safe(matrix.norm(dim=(-2, -1)))
    if n != m:
        return {
            "isometry": (values - 1).norm(dim=-1) / min(n, m) ** 0.5 if n > m else torch.full_like(norm, torch.inf),
            "orthonormal rows": (values - 1).norm(dim=-1) / n**0.5 if n < m else torch.full_like(norm, torch.inf),
            "rank deficient": values[..., -1] / _safe(values[..., 0]),
        }
    eye = torch.eye(n, dtype=matrix.dtype, device=matrix.device)
    unit, rest = n**0.5, matrix - eye
    sign = torch.where(torch.linalg.det(matrix) < 0, -1.0, 1.0).to(matrix.dtype)
    last = values[..., -1] * sign
    others = ((values[..., :-1] - 1) ** 2).sum(-1)
    symmetric = (matrix + matrix.mT) / 2
    normal = torch.linalg.eigh(symmetric)[1][..., 0]  # the mirror nearest to A is across its lowest eigenvector
    mirror = eye - 2 * normal[..., :, None] * normal[..., None, :]
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    mean = diagonal.mean(-1)[..., None, None]
    u, s, vh = torch.linalg.svd(rest)
    slide = s[..., 0] * (u[..., :, 0] * vh[..., 0, :]).sum(-1)  # v . u of the nearest u v^T; 0 for a shear
    over = (s[..., 1:] ** 2).sum(-1) + slide**2
    size = lambda tensor: tensor.norm(dim=(-2, -1))  # noqa: E731
    return {
        "identity": size(rest) / unit,
        "rotation": (others + (last - 1) ** 2).sqrt() / unit,
        "reflection": size(matrix - mirror) / unit,
        "rotoreflection": (others + (last + 1) ** 2).sqrt() / unit,
        "uniform scaling": size(matrix - mean * eye) / norm,
        "axis scaling": size(matrix - torch.diag_embed(diagonal)) / norm,
        "similarity": (values - values.mean(-1, keepdim=True)).norm(dim=-1) / norm,
        "shear": over.sqrt() / norm,
        "projection": size(matrix @ matrix - matrix) / norm,
        "permutation": size(matrix - _nearest_permutation(matrix)) / unit,
        "symmetric": size(matrix - matrix.mT) / (2 * norm),
        "skew-symmetric": size(matrix + matrix.mT) / (2 * norm),
        "singular": values[..., -1] / _safe(values[..., 0]),
    }


def _nearest_permutation(matrix: Tensor) -> Tensor:
    """The permutation matrix with the largest sum of entries of A under its ones."""
    from scipy.optimize import linear_sum_assignment

    n = matrix.shape[-1]
    flat = matrix.detach().reshape(-1, n, n)
    chosen = np.zeros((len(flat), n), dtype=np.int64)
    for k, one in enumerate(flat.cpu().double().numpy()):
        chosen[k] = linear_sum_assignment(one, maximize=True)[1]
    columns = torch.from_numpy(chosen).to(matrix.device)
    return torch.nn.functional.one_hot(columns, n).to(matrix.dtype).reshape(matrix.shape)


def _labels(within: list[str], det: float | None, matrix: Tensor) -> tuple[str, ...]:
    """The classes that hold, without those that a narrower one makes trivial."""
    found = set(within)
    if det is None:
        return tuple(within) or ("general",)
    if not bool(matrix.any()):
        return ("zero", "singular", "projection", "uniform scaling", "axis scaling", "symmetric", "skew-symmetric")
    if "identity" in found:
        return (
            "identity",
            *[name for name in within if name in ("rotation", "uniform scaling", "axis scaling", "symmetric")],
        )
    if "singular" in found:
        found -= {"similarity", "shear"}  # a similarity and a shear have an inverse
    if "reflection" in found:
        found -= {"rotoreflection"}
    if {"rotation", "reflection", "rotoreflection", "uniform scaling"} & found:
        found -= {"similarity"}
    if "projection" in found and "singular" not in found:
        found -= {"projection"}
    order = (
        "rotation", "reflection", "rotoreflection", "uniform scaling", "projection", "permutation", "axis scaling",
        "similarity", "shear", "symmetric", "skew-symmetric", "singular",
    )  # fmt: skip
    return tuple(name for name in order if name in found) or ("general",)


def _name(labels: tuple[str, ...], matrix: Tensor, det: float | None, angles: tuple[float, ...]) -> str:
    """What a person would call it."""
    first = labels[0]
    n, m = matrix.shape
    if det is None:
        rank = int(torch.linalg.matrix_rank(matrix))
        what = {"isometry": "isometry", "orthonormal rows": "map with orthonormal rows"}.get(first, "general map")
        return f"{what} from R^{m} to R^{n}, rank {rank}"
    if first == "identity":
        return "identity"
    if first == "rotation":
        return _turns(matrix, angles)
    if first == "reflection":
        return f"reflection across {_row(_axis_of(torch.linalg.eigh((matrix + matrix.mT) / 2)[1][:, 0]))}"
    if first == "rotoreflection":
        turned = f"rotation by {_degrees(angles)}" if angles else "rotation by 0°"
        return f"rotoreflection: {turned} and a mirror across"
    if first == "uniform scaling":
        return f"uniform scaling by {matrix.diagonal().mean().item():.4g}" + (" (det < 0: mirrored)" if det < 0 else "")
    if first == "axis scaling":
        mirrored = " (det < 0: mirrored)" if det < 0 else ""
        flat = " (singular)" if "singular" in labels else ""
        return f"axis scaling by {', '.join(f'{v:.4g}' for v in matrix.diagonal().tolist())}{mirrored}{flat}"
    if first == "projection":
        right = "at a right angle" if "symmetric" in labels else "at a slant"
        return f"projection onto {round(matrix.trace().item())} of {n} dimensions, {right}"
    if first == "similarity":
        factor = abs(det) ** (1 / n)
        if det > 0:
            return f"similarity: uniform scaling by {factor:.4g} of a {_turns(matrix / factor)}"
        return f"similarity: uniform scaling by {factor:.4g} of a reflection or rotoreflection"
    if first == "shear":
        return f"shear by {torch.linalg.matrix_norm(matrix - torch.eye(n).to(matrix), 2).item():.4g}"
    if first == "zero":
        return "zero map: everything goes to 0"
    described = [label for label in labels if label != "general"]
    if "singular" not in labels:
        described.append("orientation flipped" if det < 0 else "orientation kept")
    return f"general map ({', '.join(described)})"


def _turns(matrix: Tensor, angles: tuple[float, ...] = ()) -> str:
    n = len(matrix)
    if n == 2:
        return f"rotation by {_degrees([angle_of(matrix).item()])}"
    angles = angles or planes_of(matrix)[0]
    if n == 3:
        vector = vector_of(matrix)
        return f"rotation by {_degrees([vector.norm().item()])} about {_row(vector / _safe(vector.norm()))}"
    return f"rotation by {_degrees(angles)} in {len(angles)} plane{'s' * (len(angles) != 1)}"


def _axis_of(vector: Tensor) -> Tensor:
    """The end of an axis whose largest entry is positive."""
    return vector * (-1.0 if vector[vector.abs().argmax()] < 0 else 1.0)


def _homogeneous_note(matrix: Tensor, tolerance: float) -> list[str]:
    """Whether a linear map has the matrix of an affine map in one dimension less, with a shift."""
    last = matrix.new_zeros(len(matrix))
    last[-1] = 1
    shift = matrix[:-1, -1]
    if bool(((matrix[-1] - last).abs() > tolerance).any()) or bool((shift.abs() <= tolerance).all()):
        return []
    n = len(matrix) - 1
    return [
        f"its last row is {_row(last)}: read as a homogeneous matrix it is the affine map in {n}-D that moves 0 to "
        f"{_row(shift)}, AffineMap.from_homogeneous(matrix)"
    ]


def _safe(norm: Tensor) -> Tensor:
    return torch.where(norm > 0, norm, torch.ones_like(norm))


def _degrees(angles: tuple[float, ...] | list[float]) -> str:
    return " and ".join(f"{angle * _DEGREE:.4g}°" for angle in angles)


def _row(vector: Tensor) -> str:
    return "(" + ", ".join(f"{value + 0.0:.4g}" for value in vector.detach().tolist()) + ")"
