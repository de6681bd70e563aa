"""What builds maps: each does to points what its name says, in any number of dimensions, batched, with gradients."""

import itertools
import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from eitherway import linear
from eitherway.base.errors import ModelError
from eitherway.linear import LinearMap, identity

few = settings(max_examples=25, deadline=None)
angles = st.floats(-10, 10)
seeds = st.integers(0, 10**6)


def vectors(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@few
@given(angles, st.integers(2, 7), st.data())
def test_a_rotation_is_orthonormal_with_determinant_one_and_turns_by_its_angle(angle, n, data):
    i, j = data.draw(st.sampled_from(list(itertools.permutations(range(n), 2))))
    a = linear.rotation(angle, n, plane=(i, j))
    torch.testing.assert_close(a.matrix.mT @ a.matrix, torch.eye(n, dtype=torch.float64))
    torch.testing.assert_close(torch.linalg.det(a.matrix), torch.tensor(1.0, dtype=torch.float64))
    moved = a @ torch.eye(n, dtype=torch.float64)[i]
    assert moved[i].item() == pytest.approx(math.cos(angle)) and moved[j].item() == pytest.approx(math.sin(angle))


@few
@given(seeds, angles, st.integers(2, 6))
def test_a_plane_may_be_spanned_by_two_vectors(seed, angle, n):
    u, v = vectors(seed, 2, n)
    a = linear.rotation(angle, plane=(u, v))
    assert a.kind(1e-10).residuals["rotation"] < 1e-12
    torch.testing.assert_close(a @ u @ u, u @ u * math.cos(angle), rtol=1e-9, atol=1e-9)
    if math.sin(angle) > 1e-3:  # the first turns towards the second
        assert (a @ u @ v - math.cos(angle) * u @ v) > 0
    across = vectors(seed + 1, n)
    for direction in torch.linalg.qr(torch.stack([u, v], -1))[0].mT:
        across = across - (across @ direction) * direction
    torch.testing.assert_close(a @ across, across)


def test_a_small_angle_is_not_rounded_away():
    assert linear.rotation(1e-9).matrix[1, 0] == 1e-9
    assert (1 - linear.rotation(1e-7).matrix[0, 0]).item() == pytest.approx(5e-15, rel=0.05)


@few
@given(seeds)
def test_a_rotation_vector_means_what_it_means_elsewhere(seed):
    w = vectors(seed, 4, 3)
    expected = torch.from_numpy(Rotation.from_rotvec(w.numpy()).as_matrix())
    torch.testing.assert_close(linear.rotation_from_vector(w).matrix, expected)


@few
@given(seeds, st.integers(2, 6))
def test_turns_in_single_planes_are_rotations_in_these_planes(seed, n):
    count = n * (n - 1) // 2
    pairs = [(1, 2), (2, 0), (0, 1)] if n == 3 else list(itertools.combinations(range(n), 2))
    k, angle = seed % count, vectors(seed, 1).item()
    turns = torch.zeros(count, dtype=torch.float64)
    turns[k] = angle
    assert linear.rotation_from_vector(turns).close(linear.rotation(angle, n, pairs[k]))


def test_turns_are_right_to_rounding_at_any_angle():
    for angle in (1e-8, 0.0487, 0.3, 2.0, 9.0):
        for n, axis in ((2, 0), (3, 2), (4, 0), (6, 0)):
            turns = torch.zeros(n * (n - 1) // 2, dtype=torch.float64)
            turns[axis] = angle
            error = linear.rotation_from_vector(turns).matrix - linear.rotation(angle, n).matrix
            assert error.abs().max() < 1e-14


@few
@given(seeds, st.integers(1, 7))
def test_a_reflection_is_an_involution_that_turns_its_normal_round(seed, n):
    normal = vectors(seed, n)
    a = linear.reflection(normal * 1e-3)
    assert (a @ a).close(identity(n)) and a.det() == -1
    torch.testing.assert_close(torch.linalg.det(a.matrix), a.det())
    torch.testing.assert_close(a @ normal, -normal)
    assert (a @ a).structure == "rotation"


@few
@given(seeds, st.integers(2, 6), st.data())
def test_a_shear_is_unipotent_and_keeps_volumes(seed, n, data):
    i, j = data.draw(st.sampled_from(list(itertools.permutations(range(n), 2))))
    k = vectors(seed, 1).item()
    a = linear.shear(k, n, along=i, by=j)
    rest = a.matrix - torch.eye(n)
    assert (rest @ rest == 0).all() and a.det() == 1 == torch.linalg.det(a.matrix).round(decimals=12)
    assert a.inverse().close(linear.shear(-k, n, along=i, by=j)) and a.matrix[i, j] == k
    assert (a @ a).close(linear.shear(2 * k, n, along=i, by=j))


@few
@given(seeds, st.integers(1, 6), st.data())
def test_a_projection_done_twice_changes_nothing_more(seed, n, data):
    k = data.draw(st.integers(1, n))
    onto = vectors(seed, k, n)
    a = linear.projection(onto)
    x = vectors(seed + 1, n)
    torch.testing.assert_close(a @ (a @ x), a @ x)
    torch.testing.assert_close(onto @ (x - a @ x), torch.zeros(k, dtype=torch.float64))  # at a right angle
    torch.testing.assert_close(a @ onto, onto)
    assert a.det() == (1 if k == n else 0)
    if k == n:
        assert a.inverse().close(identity(n))


def test_scalings_stretch_axes():
    assert linear.scaling([2, 3]).matrix.tolist() == [[2, 0], [0, 3]]
    assert linear.scaling(2.0, n=3) == 2 * identity(3)
    assert linear.scaling([2.0, 3.0], n=3).shape == (2, 3, 3)


@few
@given(st.permutations(range(5)))
def test_a_permutation_moves_axes_and_knows_its_sign(order):
    a = linear.permutation(order)
    assert (a @ torch.arange(5)).tolist() == list(order)
    assert a.det() == torch.linalg.det(a.matrix).round() and (a.T @ a) == identity(5)


def test_a_translation_moves_zero():
    assert (linear.translation([1, 2]) @ [0, 0]).tolist() == [1, 2]
    assert linear.translation(torch.ones(4, 2)).batch_shape == (4,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_builders_keep_precision_and_batches(dtype):
    one = torch.ones(5, dtype=dtype)
    made = [
        linear.rotation(one, 3), linear.rotation_from_vector(one[:, None] * torch.ones(3, dtype=dtype)),
        linear.reflection(torch.eye(3, dtype=dtype)[:2].repeat(2, 1, 1)), linear.shear(one, 3),
        linear.scaling(torch.ones(5, 3, dtype=dtype)), linear.translation(torch.ones(5, 3, dtype=dtype)),
        linear.projection(torch.ones(5, 1, 3, dtype=dtype)), linear.rotation(one, plane=([1, 0, 0], [0, 1, 1])),
    ]  # fmt: skip
    assert [a.batch_shape for a in made] == [(5,), (5,), (2, 2), (5,), (5,), (5,), (5,), (5,)]
    assert {a.dtype for a in made[:-1]} == {dtype}


def test_gradients_of_builders_are_right_at_nothing_at_all():
    zero, three = torch.zeros((), dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    six = torch.zeros(6, dtype=torch.float64)
    normal, rows = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64), vectors(1, 2, 3)
    for build, at in (
        (lambda a: linear.rotation(a, 3).matrix, zero),
        (lambda a: linear.rotation(a, plane=(rows[0], rows[1])).matrix, zero),
        (lambda w: linear.rotation_from_vector(w).matrix, three),
        (lambda w: linear.rotation_from_vector(w).matrix, six),
        (lambda v: linear.reflection(v).matrix, normal),
        (lambda r: linear.projection(r).matrix, rows),
        (lambda r: linear.rotation(0.3, plane=(r[0], r[1])).matrix, rows),
    ):
        at = at.clone().requires_grad_()
        assert torch.autograd.gradcheck(build, at) and torch.autograd.gradgradcheck(build, at)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: linear.rotation(1, 3, plane=(0, 3)), "the plane names axis 3 of 3 dimensions"),
        (lambda: linear.rotation(1, 3, plane=(1, 1)), "names one axis twice"),
        (lambda: linear.rotation(1, 3, plane=(1, -2)), "two different axes span a plane"),
        (lambda: linear.rotation(1, 3, plane=(0, 1, 2)), "a plane is two axes or two vectors; got 3"),
        (lambda: linear.rotation(1, plane=([1, 0], [1, 0, 0])), "the plane's vectors have 2 and 3 entries"),
        (lambda: linear.rotation(1, plane=([1, 2], [2, 4])), "two vectors point along one line"),
        (lambda: linear.rotation(1, plane=([1, 2], [0, 0])), "second vector is 0, which has no direction"),
        (lambda: linear.rotation_from_vector([1, 2]), r"a rotation in n dimensions has n\(n-1\)/2 numbers"),
        (lambda: linear.rotation_from_vector([1, math.nan, 0]), "cannot turn by this rotation vector"),
        (lambda: linear.reflection([0, 0]), "is 0, which has no direction"),
        (lambda: linear.reflection([1, math.inf]), "cannot take the normal: entry"),
        (lambda: linear.scaling(2.0), "does not say in how many dimensions"),
        (lambda: linear.shear(1, 2, 1, 1), "stretching one is scaling"),
        (lambda: linear.shear(1, 2, 0, 2), "dimensions: axes are whole numbers from 0 to"),
        (lambda: linear.projection([[1, 0], [0, 1], [1, 1]]), "3 directions in 2 dimensions"),
        (lambda: linear.projection([[1, 0, 0], [2, 0, 0]]), "directions of the projection are not independent"),
        (lambda: linear.projection([0, 0]), "leave out those that others span"),
        (lambda: linear.permutation([0, 2]), "expected every axis from 0 to n - 1 once"),
        (lambda: linear.permutation("ba"), "permutation got 'ba': expected every axis"),
        (lambda: linear.permutation(None), "permutation got None: expected every axis"),
        (lambda: linear.nearest_rotation([[1, 2]]), "nearest_rotation needs a square matrix"),
        (lambda: linear.translation(1.0), "the shift b has shape"),
    ],
)
def test_what_cannot_be_built_gets_a_clear_sentence(wrong, message):
    with pytest.raises(ModelError, match=message):
        wrong()


def test_every_public_name_is_there_and_an_unknown_one_leads_to_the_list():
    for name in linear.__all__:
        found = getattr(linear, name)
        assert found.__name__ == name and found.__doc__ and name in dir(linear)
    with pytest.raises(AttributeError, match="has no attribute 'rotate'; it has LinearMap, AffineMap"):
        linear.rotate


def test_importing_linear_does_not_import_torch():
    code = "import eitherway.linear, sys; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_vectors_of_any_length_serve_as_directions():
    tiny, huge = linear.reflection([1e-200, 1e-200]), linear.reflection([1e200, 1e200])
    assert tiny.close(huge) and tiny.close(LinearMap([[0, -1], [-1, 0]]))
