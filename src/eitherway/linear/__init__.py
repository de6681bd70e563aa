"""Linear and affine maps: built by what they do, composed, recognised, taken apart, drawn.

Here live the maps and what can be asked of them; what runs networks or searches does not. Nothing is imported until it
is used. In short: a rotation is orthonormal with determinant +1, a reflection has a negative determinant, and a
translation moves 0, so it is affine, not linear.
"""

from typing import TYPE_CHECKING

from eitherway.base.lazy import lazy

if TYPE_CHECKING:
    from eitherway.linear.affine_map import AffineMap as AffineMap
    from eitherway.linear.builders import permutation as permutation
    from eitherway.linear.builders import projection as projection
    from eitherway.linear.builders import reflection as reflection
    from eitherway.linear.builders import rotation as rotation
    from eitherway.linear.builders import rotation_from_vector as rotation_from_vector
    from eitherway.linear.builders import scaling as scaling
    from eitherway.linear.builders import shear as shear
    from eitherway.linear.builders import translation as translation
    from eitherway.linear.decompose import Decomposition as Decomposition
    from eitherway.linear.kind import Kind as Kind
    from eitherway.linear.maps import LinearMap as LinearMap
    from eitherway.linear.maps import identity as identity
    from eitherway.linear.polar import nearest_rotation as nearest_rotation

_WHERE = {
    "LinearMap": "eitherway.linear.maps",
    "AffineMap": "eitherway.linear.affine_map",
    "identity": "eitherway.linear.maps",
    "rotation": "eitherway.linear.builders",
    "rotation_from_vector": "eitherway.linear.builders",
    "reflection": "eitherway.linear.builders",
    "scaling": "eitherway.linear.builders",
    "shear": "eitherway.linear.builders",
    "projection": "eitherway.linear.builders",
    "permutation": "eitherway.linear.builders",
    "translation": "eitherway.linear.builders",
    "nearest_rotation": "eitherway.linear.polar",
    "Kind": "eitherway.linear.kind",
    "Decomposition": "eitherway.linear.decompose",
}

__all__ = [*_WHERE]  # pyright: ignore[reportUnsupportedDunderAll] - tests/linear/test_builders.py looks them up
__getattr__, __dir__ = lazy(__name__, _WHERE)
