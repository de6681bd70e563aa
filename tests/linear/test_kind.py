"""What a map is: classes recognised in any dimension, distances that are distances, words that never contradict."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eitherway import linear
from eitherway.base.errors import ModelError
from eitherway.linear import AffineMap, LinearMap, identity
from eitherway.linear.angles import planes_of

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 10**6)


def randn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def turned(seed, n):
    return linear.rotation_from_vector(randn(seed, n * (n - 1) // 2))


@few
@given(seeds, st.integers(2, 6), st.sampled_from([torch.float32, torch.float64]))
def test_every_class_is_recognised_in_any_dimension_and_precision(seed, n, dtype):
    turn, mirror, other = turned(seed, n), linear.reflection(randn(seed + 1, n)), turned(seed + 2, n)
    factors = randn(seed + 3, n).abs() + torch.arange(1, n + 1)
    for made, label in (
        (turn, "rotation"),
        (mirror, "reflection"),
        (other @ mirror @ other.T, "reflection"),
        (mirror @ mirror, "identity"),
        (linear.scaling(-2.5, n=n), "uniform scaling"),
        (linear.scaling(factors), "axis scaling"),
        (3 * turn, "similarity"),
        (-0.1 * mirror, "similarity"),
        (other @ linear.shear(2.0, n) @ other.T, "shear"),
        (linear.projection(randn(seed, n - 1, n)), "projection"),
        (linear.projection(randn(seed, n - 1, n)), "singular"),
        (other @ linear.scaling(factors) @ other.T, "symmetric"),
        (LinearMap(turn.matrix - turn.matrix.mT), "skew-symmetric"),
        (identity(n), "identity"),
    ):
        kind = made.to(dtype).kind(1e-4 if dtype == torch.float32 else None)
        assert label in kind, (label, kind)
        assert kind.residuals[label] <= kind.tolerance
    rotoreflection = (turn @ mirror).kind()
    assert ("rotoreflection" in rotoreflection) == (n > 2) and ("reflection" in rotoreflection) == (n == 2)
    assert "rotation" not in rotoreflection and rotoreflection.determinant < 0


@few
@given(seeds, st.integers(2, 6))
def test_a_general_map_is_none_of_the_classes(seed, n):
    kind = LinearMap(randn(seed, n, n)).kind()
    assert kind.labels == ("general",) and kind.name.startswith("general map (orientation")
    assert ("flipped" in kind.name) == (kind.determinant < 0)


@few
@given(seeds, st.integers(2, 5))
def test_residuals_are_distances_to_the_nearest_member(seed, n):
    a = LinearMap(randn(seed, n, n))
    found = a.kind().residuals
    nearest = linear.nearest_rotation(a.matrix)
    assert found["rotation"] == pytest.approx(((a.matrix - nearest).norm() / n**0.5).item())
    for k in range(20):  # no member is nearer
        turn, mirror = turned(seed + k, n).matrix, linear.reflection(randn(seed + k, n)).matrix
        assert (a.matrix - turn).norm() >= found["rotation"] * n**0.5 - 1e-12
        assert (a.matrix - mirror).norm() >= found["reflection"] * n**0.5 - 1e-12
        assert (a.matrix - turn @ mirror).norm() >= found["rotoreflection"] * n**0.5 - 1e-12


@few
@given(seeds, st.integers(2, 7))
def test_the_planes_and_angles_rebuild_the_rotation(seed, n):
    turn = turned(seed, n)
    kind = turn.kind()
    rebuilt = identity(n)
    for angle, (u, v) in zip(kind.angles, kind.planes):
        rebuilt = linear.rotation(angle if n > 2 else abs(angle), plane=(u, v)) @ rebuilt
    assert rebuilt.close(turn) and len(kind.angles) == n // 2
    assert n == 2 or list(kind.angles) == sorted(kind.angles, reverse=True)


def test_half_turns_and_mirrored_axes_are_counted():
    angles, planes, mirrored = planes_of(-torch.eye(5, dtype=torch.float64))
    assert angles == (math.pi, math.pi) and planes.shape == (2, 2, 5) and mirrored == 1
    assert planes_of(torch.eye(3))[0] == ()
    with pytest.raises(ModelError, match="planes of rotation are those of one square matrix"):
        planes_of(torch.ones(2, 3))


@pytest.mark.parametrize(
    "made, name",
    [
        (linear.rotation(math.pi / 6), "rotation by 30°"),
        (linear.rotation(-math.pi / 2), "rotation by -90°"),
        (linear.rotation(math.pi / 6, 3, (0, 1)), "rotation by 30° about (0, 0, 1)"),
        (linear.rotation(math.pi / 6, 4) @ linear.rotation(1.0, 4, (2, 3)), "rotation by 57.3° and 30° in 2 planes"),
        (linear.rotation(math.pi / 6, 5), "rotation by 30° in 1 plane"),
        (linear.reflection([1, 0]), "reflection across (1, 0)"),
        (LinearMap(-torch.eye(3)), "rotoreflection: rotation by 180° and a mirror across"),
        (linear.scaling(-2, n=2), "uniform scaling by -2"),
        (linear.scaling(-2, n=3), "uniform scaling by -2 (det < 0: mirrored)"),
        (linear.scaling([2, 0]), "axis scaling by 2, 0 (singular)"),
        (linear.scaling([2, -3]), "axis scaling by 2, -3 (det < 0: mirrored)"),
        (2 * linear.rotation(math.pi / 6), "similarity: uniform scaling by 2 of a rotation by 30°"),
        (2 * linear.reflection([1, 2]), "similarity: uniform scaling by 2 of a reflection or rotoreflection"),
        (linear.shear(0.5), "shear by 0.5"),
        (linear.projection([1, 1, 0]), "projection onto 1 of 3 dimensions, at a right angle"),
        (LinearMap([[1, 1], [0, 0]]), "projection onto 1 of 2 dimensions, at a slant"),
        (linear.scaling(0, n=3), "zero map: everything goes to 0"),
        (identity(2), "identity"),
        (LinearMap([[0, 1], [0, 0]]), "general map (singular)"),
        (LinearMap([[2, 1], [1, 3]]), "general map (symmetric, orientation kept)"),
        (LinearMap([[1, 0], [0, 1], [0, 0]]), "isometry from R^2 to R^3, rank 2"),
        (LinearMap([[1, 0, 0], [0, 1, 0]]), "map with orthonormal rows from R^3 to R^2, rank 2"),
        (LinearMap([[1, 2, 3], [2, 4, 6]]), "general map from R^3 to R^2, rank 1"),
        (linear.translation([1, 2]), "translation by (1, 2)"),
        (AffineMap(linear.rotation(math.pi / 6), [1, 2]), "affine: rotation by 30°, then a translation by (1, 2)"),
        (AffineMap(linear.shear(1.0), [0, 0]), "shear by 1"),
        (LinearMap([[-3]]), "uniform scaling by -3 (det < 0: mirrored)"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)  # fmt: skip
def test_a_map_is_called_what_a_person_would_call_it(made, name):
    assert made.kind().name == name


def test_permutations_are_seen_beside_what_else_they_are():
    assert set(linear.permutation([1, 2, 0]).kind().labels) == {"rotation", "permutation"}
    assert set(linear.permutation([1, 0]).kind().labels) == {"reflection", "permutation", "symmetric"}


def test_a_translation_is_told_from_a_linear_map_by_where_zero_goes():
    kind = linear.translation([1, 2]).kind()
    assert "linear" not in kind and "affine" in kind and kind.labels[0] == "translation"
    assert "it moves 0 to (1, 2), so it is affine, not linear" in str(kind)
    assert kind.residuals["linear (0 stays)"] == pytest.approx(5**0.5)
    assert "linear" in AffineMap(linear.shear(1.0), [0, 0]).kind()


def test_a_homogeneous_matrix_is_recognised_and_a_turn_about_z_is_not_one():
    kind = LinearMap(linear.translation([3, 4]).homogeneous()).kind()
    assert "the affine map in 2-D that moves 0 to (3, 4)" in str(kind) and "shear" in kind
    assert linear.rotation(0.3, 3).kind().notes == ()


def test_the_determinant_is_never_one_but_one():
    kind = LinearMap([[1 + 3e-9, 0], [0, 1]]).kind()
    assert "rotation" not in kind and "rotation" not in kind.name
    assert "determinant: 1 (off 1 by 3.0e-09)" in str(kind)  # the difference is printed, not rounded away
    row = next(line for line in str(kind).splitlines() if line.split()[0] == "rotation")
    assert "2.1e-09" in row and row.endswith("no") and "within 4.4e-14" in str(kind)
    assert "rotation" in LinearMap([[1 + 3e-9, 0], [0, 1]]).kind(1e-8).labels


def test_the_tolerance_grows_with_the_size_and_the_precision():
    tolerances = [identity(n).to(dtype).kind().tolerance for dtype in (torch.float64, torch.float32) for n in (2, 6)]
    eps = [torch.finfo(torch.float64).eps, torch.finfo(torch.float32).eps]
    assert tolerances == pytest.approx([200 * eps[0], 600 * eps[0], 200 * eps[1], 600 * eps[1]])


@few
@given(seeds, st.floats(-14, -1))
def test_the_margin_says_how_near_the_decision_was(seed, exponent):
    tilted = turned(seed, 3).matrix + 10**exponent * randn(seed + 1, 3, 3)
    kind = LinearMap(tilted).kind()
    assert ("rotation" in kind) == (kind.residuals["rotation"] <= kind.tolerance)
    ratios = {name: abs(math.log10(max(r, 1e-300) / kind.tolerance)) for name, r in kind.residuals.items()}
    assert kind.margin == pytest.approx(min(ratios.values())) and ratios[kind.closest_call] == kind.margin


def test_classes_do_not_depend_on_the_size_of_the_entries():
    for size in (1e-150, 1e-8, 1e8, 1e150):
        assert "similarity" in (size * linear.rotation(0.4, 3)).kind()
        assert "axis scaling" in linear.scaling([size, 2 * size]).kind()
        assert LinearMap(size * randn(1, 3, 3)).kind().labels == ("general",)
        assert "singular" in LinearMap([[size, size], [size, size]]).kind()


def test_a_scaled_and_sheared_rotation_is_not_quietly_taken_for_a_rotation():
    matrix = (linear.rotation(0.3, 3) @ linear.scaling([1.1, 1, 0.9]) @ linear.shear(0.1, 3)).matrix
    kind = LinearMap(matrix).kind()
    assert kind.labels == ("general",) and kind.residuals["rotation"] > 0.05


def test_residuals_of_a_batch_are_those_of_each():
    batch = torch.stack([turned(1, 3).matrix, linear.shear(1.0, 3).matrix, randn(4, 3, 3)])
    together = LinearMap(batch).residuals()
    for k in range(3):
        for name, value in LinearMap(batch[k]).kind().residuals.items():
            assert together[name][k].item() == pytest.approx(value, abs=1e-14)


def test_a_kind_reads_well_in_text_and_on_a_page():
    kind = linear.rotation(math.pi / 6).kind()
    assert str(kind).startswith("rotation by 30°\n  determinant: 1") and repr(kind) == str(kind)
    assert (
        "<b>rotation by 30°</b>" in kind._repr_html_() and "it moves 0" in linear.translation([1]).kind()._repr_html_()
    )
    assert "outside the tolerance" in str(kind) and "inside the tolerance" in str(turned(1, 3).kind(1e-15))
    assert isinstance(kind.planes, np.ndarray)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: LinearMap([[math.nan]]).kind(), "cannot tell the kind of the map: entry"),
        (lambda: AffineMap([[1]], [math.inf]).kind(), "entry .0,. is inf"),
        (lambda: LinearMap([[math.nan]]).residuals(), "cannot tell the kind of the map: entry .0, 0"),
        (lambda: identity(2).to(torch.float16).kind(), "cannot tell the kind in torch.float16"),
        (lambda: identity(2).kind("small"), "the tolerance of kind is 'small': expected a small number"),
        (lambda: identity(2).kind(-1), "the tolerance of kind is -1: expected a small number"),
        (lambda: linear.rotation([0.1, 0.2]).kind(), r"kind describes one map; this is a batch of \(2,\)"),
    ],
)
def test_what_has_no_kind_gets_a_clear_sentence(wrong, message):
    with pytest.raises(ModelError, match=message):
        wrong()
