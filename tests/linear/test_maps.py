"""Linear and affine maps obey the algebra, keep their structure, and say clearly what does not go together."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eitherway import linear
from eitherway.base.errors import ModelError
from eitherway.linear import AffineMap, LinearMap, identity

few = settings(max_examples=25, deadline=None)
sizes = st.integers(1, 6)
seeds = st.integers(0, 10**6)


def matrices(seed, n, m=None, batch=()):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*batch, n, m or n, generator=generator, dtype=torch.float64)


def turned(seed, n):
    """A random rotation."""
    return linear.rotation_from_vector(matrices(seed, 1, n * (n - 1) // 2)[0]) if n > 1 else identity(1)


# the algebra ---------------------------------------------------------------------------------------------------------
@few
@given(seeds, sizes, sizes, sizes)
def test_composing_is_multiplying_and_moves_points_one_after_the_other(seed, n, m, k):
    a, b = LinearMap(matrices(seed, n, m)), LinearMap(matrices(seed + 1, m, k))
    points = matrices(seed + 2, 7, k)
    torch.testing.assert_close((a @ b).matrix, a.matrix @ b.matrix)
    torch.testing.assert_close((a @ b) @ points, a(b(points)))


@few
@given(seeds, sizes)
def test_the_determinant_is_multiplicative(seed, n):
    a, b = LinearMap(matrices(seed, n)), LinearMap(matrices(seed + 1, n))
    torch.testing.assert_close((a @ b).det(), a.det() * b.det(), rtol=1e-9, atol=1e-9)


@few
@given(seeds, sizes)
def test_the_inverse_undoes_linear_and_affine_maps(seed, n):
    a = LinearMap(matrices(seed, n) + 4 * torch.eye(n))
    move = AffineMap(a, matrices(seed + 1, 1, n)[0])
    assert (a @ a.inverse()).close(identity(n), 1e-10) and (a.inverse() @ a).close(identity(n), 1e-10)
    assert (move @ move.inverse()).close(identity(n), 1e-10) and (move**-2 @ move**2).close(identity(n), 1e-9)


@few
@given(seeds, sizes, sizes)
def test_the_transpose_moves_to_the_other_side_of_a_product(seed, n, m):
    a, x, y = LinearMap(matrices(seed, n, m)), matrices(seed + 1, 1, m)[0], matrices(seed + 2, 1, n)[0]
    torch.testing.assert_close((a @ x) @ y, x @ (a.T @ y))


@few
@given(seeds, sizes)
def test_rotations_and_reflections_keep_lengths(seed, n):
    x = matrices(seed, 5, n)
    mirror = linear.reflection(matrices(seed + 1, 1, n)[0])
    for a in (turned(seed, n), mirror, mirror @ turned(seed, n)):
        torch.testing.assert_close((a @ x).norm(dim=-1), x.norm(dim=-1))


@few
@given(seeds, sizes)
def test_a_batch_equals_a_loop(seed, n):
    a, b = LinearMap(matrices(seed, n, batch=(2, 3))), LinearMap(matrices(seed + 1, n, batch=(3,)))
    points = matrices(seed + 2, 3, n)
    for i in range(2):
        for j in range(3):
            one = a[i, j]
            torch.testing.assert_close((a @ b).matrix[i, j], (one @ b[j]).matrix)
            torch.testing.assert_close((a @ points)[i, j], one @ points[j])
            torch.testing.assert_close(a.det()[i, j], one.det())
            torch.testing.assert_close(a.inverse().matrix[i, j], one.inverse().matrix, rtol=1e-7, atol=1e-7)


@few
@given(seeds, sizes)
def test_single_precision_stays_within_its_rounding_of_double(seed, n):
    a, b = matrices(seed, n) + 4 * torch.eye(n), matrices(seed + 1, n)
    double, single = LinearMap(a) @ LinearMap(b), LinearMap(a.float()) @ LinearMap(b.float())
    assert single.dtype == torch.float32 and single.close(double)
    assert LinearMap(a.float()).inverse().close(LinearMap(a).inverse(), 1e-4)


@few
@given(seeds, sizes)
def test_maps_are_a_vector_space(seed, n):
    a, b = LinearMap(matrices(seed, n)), LinearMap(matrices(seed + 1, n))
    x = matrices(seed + 2, 4, n)
    torch.testing.assert_close((2 * a - b / 4 + -a)(x), a(x) - b(x) / 4)
    move = AffineMap(a, x[0])
    torch.testing.assert_close((b + move - 0.5 * move)(x), b(x) + 0.5 * move(x))
    torch.testing.assert_close((b - move)(x), b(x) - move(x))


@few
@given(seeds, sizes)
def test_homogeneous_matrices_compose_as_the_maps_do(seed, n):
    a = AffineMap(matrices(seed, n), matrices(seed + 1, 1, n)[0])
    b = AffineMap(matrices(seed + 2, n), matrices(seed + 3, 1, n)[0])
    torch.testing.assert_close((a @ b).homogeneous(), a.homogeneous() @ b.homogeneous())
    assert AffineMap.from_homogeneous(a.homogeneous()).close(a, 0)
    assert AffineMap.from_homogeneous(-3 * a.homogeneous()).close(a)
    torch.testing.assert_close(a.linear.homogeneous(), AffineMap(a.linear, torch.zeros(n)).homogeneous())


def test_linear_and_affine_maps_compose_either_way():
    turn, move = linear.rotation(0.3), linear.translation([1.0, 2.0])
    x = torch.tensor([0.5, -1.0], dtype=torch.float64)
    torch.testing.assert_close((move @ turn)(x), turn(x) + move.shift)
    torch.testing.assert_close((turn @ move)(x), turn(x + move.shift))
    assert move.det() == 1 and turn.close(AffineMap(turn, [0, 0])) and not move.close(identity(2))


def test_powers_are_repeated_maps():
    a = LinearMap(matrices(3, 3))
    assert (a**3).close(a @ a @ a) and (a**0) == identity(3) and (a**-1).close(a.inverse())
    assert a.matrix_power(2) == a @ a
    assert (linear.rotation(0.1) ** 10).close(linear.rotation(1.0))
    move = linear.translation([1, 0])
    assert (move**5).shift.tolist() == [5, 0] and (move**0).shift.tolist() == [0, 0]


def test_the_pseudo_inverse_serves_singular_and_wide_maps():
    for matrix in (matrices(1, 3, 5), matrices(2, 5, 3), torch.ones(2, 2, dtype=torch.float64)):
        a = LinearMap(matrix)
        torch.testing.assert_close((a @ a.pinv() @ a).matrix, matrix)
    turn = linear.rotation(1.0)
    assert turn.pinv() == turn.T


# structure -----------------------------------------------------------------------------------------------------------
def test_products_keep_the_structure_that_products_keep():
    turn, mirror = linear.rotation(0.4, 3), linear.reflection([1, 2, 3])
    stretch, slide = linear.scaling([1, 2, 3]), linear.shear(0.5, 3, along=0, by=2)
    assert (turn @ turn).structure == (mirror @ mirror).structure == (mirror @ turn @ mirror).structure == "rotation"
    assert (mirror @ turn).structure == "reflection" and (mirror @ turn).det() == -1
    assert (stretch @ stretch.inverse()).structure == (stretch + stretch).structure == (2 * stretch).structure
    assert (slide @ slide).structure == slide.inverse().structure == slide.T.structure == "shear"
    assert (turn @ stretch).structure == (slide @ slide.T).structure == "dense"
    drop = linear.projection([1, 1, 0])
    assert (drop @ drop).structure == (drop**3).structure == drop.T.structure == "projection"
    assert (identity(3) @ slide).structure == (slide @ identity(3)).structure == "shear"
    assert (identity(3) + identity(3)).structure == "scaling" and identity(3).inverse().T.structure == "identity"
    moves = linear.translation([1, 2]) @ linear.translation([3, 4])
    assert moves.linear.structure == moves.inverse().linear.structure == "identity" and moves.shift.tolist() == [4, 6]


@pytest.mark.parametrize(
    "made",
    [
        identity(3),
        linear.rotation([0.1, 0.2], 3),
        linear.reflection([1, 2, 3]),
        linear.scaling([[1, 2, 3], [3, 4, 5]]),
        linear.shear(2.0, 3, 2, 0),
        linear.projection([[1, 0, 1], [0, 1, 1]]),
        LinearMap([[1, 2, 0], [3, 4, 0], [0, 0, 1]]),
    ],
    ids=lambda made: made.structure,
)
def test_every_structure_agrees_with_its_matrix(made):
    plain, x = LinearMap(made.matrix), matrices(1, 4, 3)[:, None]
    torch.testing.assert_close(made(x).squeeze(), plain(x).squeeze())
    torch.testing.assert_close(made.det(), plain.det())
    assert made.T.close(plain.T) and (made @ made).close(plain @ plain) and (made + plain).close(2 * plain)
    assert made.to(torch.float32).dtype == made.to(torch.float32).matrix.dtype == torch.float32
    assert (made.to(torch.float32) @ made).dtype == torch.float64
    assert made.pinv().close(plain.pinv()) and made.detach() == made
    if made.structure != "projection":
        assert made.inverse().close(plain.inverse())
    else:
        with pytest.raises(ModelError, match="cannot invert a projection onto 2 of 3 dimensions"):
            made.inverse()


def test_structured_maps_of_unlike_batches_meet():
    turns, stretch = linear.rotation([0.1, 0.2, 0.3]), linear.scaling([2, 3])
    for product in (turns @ stretch, stretch @ turns, turns @ turns[0]):
        assert product.shape == (3, 2, 2)
    move = linear.translation([[1, 0], [2, 0], [3, 0]]) @ turns
    assert move.batch_shape == (3,) and move[1].shift.tolist() == [2, 0] and move[1].linear == turns[1]
    assert (linear.translation([1, 0]) @ turns)[2].linear == turns[2]
    assert linear.translation([[1, 0], [2, 0]])[1].linear == identity(2)
    assert len(turns) == 3 and [one.batch_shape for one in turns] == [(), (), ()]


# what is taken -------------------------------------------------------------------------------------------------------
def test_lists_arrays_whole_numbers_and_tensors_are_taken():
    assert LinearMap([[1, 2], [3, 4]]).dtype == torch.float64
    assert LinearMap(np.ones((2, 2), np.float32)).dtype == torch.float32
    assert LinearMap(np.ones((2, 2), int)).dtype == torch.float64
    assert LinearMap(torch.ones(2, 2, dtype=torch.int32)).dtype == torch.float64
    single = LinearMap(torch.eye(2))
    assert single([1, 2]).dtype == single(torch.tensor([1, 2])).dtype == single(np.array([1, 2])).dtype == torch.float32
    assert single(np.array([1.0, 2.0])).dtype == torch.float64
    assert (np.float64(2) * single).dtype == (torch.tensor(2.0) * single).dtype == torch.float32


def test_maps_are_arrays_are_true_and_add_up():
    turn = linear.rotation(0.3)
    np.testing.assert_array_equal(np.asarray(turn), turn.matrix)
    assert np.asarray(turn, dtype=np.float32).dtype == np.float32
    assert LinearMap(turn).structure == "rotation" and bool(turn)
    assert sum([turn, turn]).close(2 * turn)


def test_lists_of_tensors_keep_their_gradients():
    angle = torch.tensor(0.3, requires_grad=True)
    a = LinearMap([[angle.cos(), 0], [0, angle]])
    assert a.dtype == torch.float32
    a.det().backward()
    torch.testing.assert_close(angle.grad, (angle.cos() - angle * angle.sin()).detach())


def test_gradients_flow_through_everything():
    def through(angle, factors, amount, b):
        move = linear.translation(b) @ linear.rotation(angle) @ linear.scaling(factors) @ linear.shear(amount)
        back = (move.inverse() ** 2 + 2 * move).homogeneous()
        return back, move.det()

    given = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.0, [2.0, 3.0], 0.5, [1.0, -1.0])]
    assert torch.autograd.gradcheck(through, given)
    assert torch.autograd.gradgradcheck(through, given)


def test_equality_is_to_the_last_bit_and_close_allows_rounding():
    a = linear.rotation(0.1) @ linear.rotation(0.2)
    assert a.close(linear.rotation(0.3)) and a == a.detach() and a != linear.rotation(0.4) and a != "a map"
    assert LinearMap([[1, 0], [0, 1]]) == identity(2) and identity(2) != identity(3)
    move = linear.translation([1, 2])
    assert move == linear.translation([1, 2]) and move != linear.translation([1, 3]) and move != identity(2)
    with pytest.raises(TypeError):
        hash(a)


def test_the_repr_names_the_kind():
    assert repr(linear.rotation(math.pi / 2)) == "LinearMap: rotation by 90°; 2 x 2, float64"
    assert repr(linear.translation([1, 2])) == "AffineMap: translation by (1, 2); 2 x 2, float64"
    assert repr(LinearMap(torch.ones(2, 3))) == "LinearMap: general map from R^3 to R^2, rank 1; 2 x 3, float32"
    assert repr(linear.rotation([0.1, 0.2])) == "LinearMap: (2,) maps, rotation; each 2 x 2, float64"
    assert repr(identity(20)) == "LinearMap: identity; 20 x 20, float64"
    assert "entries that are not finite" in repr(LinearMap([[math.nan]]))


def test_maps_work_under_functional_transforms():
    def angle_moved(angle):
        return linear.rotation(angle)(torch.tensor([1.0, 0.0], dtype=torch.float64))

    angles = torch.tensor([0.1, 0.2], dtype=torch.float64)
    jacobians = torch.func.vmap(torch.func.jacrev(angle_moved))(angles)
    torch.testing.assert_close(jacobians, torch.stack([-angles.sin(), angles.cos()], -1))


# what does not go together -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: LinearMap([1, 2]), r"the matrix has shape \(2,\): expected \(..., n, m\)"),
        (lambda: LinearMap(np.empty((0, 0))), "with n and m at least 1"),
        (lambda: LinearMap([[1, 2], [3]]), "cannot be read as numbers"),
        (lambda: LinearMap([["a"]]), "as numbers: got \\[\\[.a.\\]\\]. Give a tensor"),
        (lambda: LinearMap([[1j]]), "is complex: expected real numbers"),
        (lambda: LinearMap(torch.ones(1, 1, dtype=torch.complex64)), "expected real numbers"),
        (lambda: LinearMap([torch.ones(2), torch.ones(3)]), "has rows of unlike shapes"),
        (lambda: identity(2) @ identity(3), "the right one ends in R"),
        (lambda: identity(2) + identity(3), "maps that are added have one shape"),
        (lambda: identity(2) + 1, "to add a matrix A . LinearMap"),
        (lambda: np.eye(2) + identity(2), "is not a linear map: to move by b"),
        (lambda: linear.translation([1]) + 1, "to move further by b write"),
        (lambda: identity(2) * identity(2), "write A @ B to compose them"),
        (lambda: identity(2) * linear.translation([1, 2]), "map is ambiguous: write A @ B"),
        (lambda: np.eye(2) @ identity(2), "LinearMap.M. @ A composes"),
        (lambda: torch.eye(2) @ linear.translation([1, 2]), "A @ points moves points"),
        (lambda: identity(2) ** 0.5, "to the power 0.5: expected a whole number"),
        (lambda: LinearMap(torch.ones(2, 3)).det(), "the determinant needs a square matrix; this map is 2 x 3"),
        (lambda: LinearMap(torch.ones(2, 3)).inverse(), "its pseudo-inverse is .pinv"),
        (lambda: LinearMap(torch.ones(2, 3)) ** 2, "a power needs a square matrix"),
        (lambda: identity(2)([1, 2, 3]), "the last axis should be 2"),
        (lambda: identity(2)(torch.ones(2, 5)), "Are the points in columns"),
        (lambda: linear.rotation([0.1, 0.2])(torch.ones(3, 2)), "batches broadcast as tensors do"),
        (lambda: linear.rotation([0.1, 0.2]) @ linear.rotation([0.1, 0.2, 0.3]), "maps does not go with"),
        (lambda: linear.rotation([0.1, 0.2]) * torch.ones(3), "one for each map, or one for all"),
        (lambda: identity(2).close(None), "close compares with another map, not with a NoneType"),
        (lambda: linear.translation([1, 2]).close(torch.eye(2)), r"not with a Tensor: LinearMap\(M\) makes one of a"),
        (lambda: linear.rotation([0.1, 0.2]).close(linear.rotation([0.1, 0.2, 0.3])), r"\(3,\) maps to compare"),
        (lambda: AffineMap(identity(2), [1, 2, 3]), "its last axis should be"),
        (lambda: AffineMap(linear.rotation([1, 2]), torch.ones(3, 2)), "expected one b for each, or one for all"),
        (lambda: AffineMap(identity(2), 3), r"the shift b has shape \(\): expected \(..., n\) with n at least 1"),
        (lambda: AffineMap.from_homogeneous([[1, 0], [1, 1]]), "a perspective map is neither linear nor affine"),
        (lambda: AffineMap.from_homogeneous([[1]]), "a homogeneous matrix is at least 2 x 2"),
        (lambda: identity(2).to("meta") @ identity(2), "bring both to one device by"),
        (lambda: LinearMap(torch.eye(2).half()).inverse(), "it needs float32 or float64"),
        (lambda: LinearMap(torch.eye(2).half()).det(), "cannot take a determinant in torch.float16"),
        (lambda: LinearMap([[1, math.nan], [0, 1]]).inverse(), "every entry should be finite"),
        (lambda: identity(0), "expected a whole number of dimensions, at least 1"),
    ],
)
def test_what_cannot_be_done_gets_a_clear_sentence(wrong, message):
    with pytest.raises(ModelError, match=message):
        wrong()


def test_a_singular_map_is_named_with_its_singular_value():
    with pytest.raises(
        ModelError, match=r"the map is singular, its smallest singular value is 0 beside a largest of 2"
    ):
        LinearMap([[1, 1], [1, 1]]).inverse()
    with pytest.raises(ModelError, match=r"map \(1,\) of the batch is singular"):
        linear.scaling([[1, 2], [3, 0]]).inverse()


def test_an_index_that_reaches_into_the_matrix_is_refused():
    with pytest.raises(IndexError, match="an index of 2 axes into a batch"):
        linear.rotation([0.1, 0.2])[0, 0]
    with pytest.raises(TypeError, match="one map, not a batch"):
        len(identity(2))


def test_affine_maps_are_a_batch_and_add_up_as_linear_ones_do():
    moves = linear.translation([[1, 0], [0, 2], [3, 3]])
    assert len(moves) == 3 and sum(moves).shift.tolist() == [4, 5] and [m.shift.tolist() for m in moves][2] == [3, 3]
    with pytest.raises(IndexError, match="an index of 1 axes into a batch"):
        moves[0][0]
    with pytest.raises(TypeError, match="one map, not a batch"):
        len(moves[0])
    assert moves[0]
