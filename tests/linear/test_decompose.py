"""Maps taken apart: the product is the map again, the factors are the only ones, the gradient exists where it can."""

import math
from itertools import product

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch.autograd import gradcheck, gradgradcheck

from eitherway import linear
from eitherway.base.errors import ModelError
from eitherway.linear import AffineMap, LinearMap, nearest_rotation
from eitherway.linear.angles import vector_of
from eitherway.linear.polar import singular_frames

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 10**6)
sizes = st.integers(1, 8)
ORDERS = ("RFZS", "SZFR", "polar", "svd")


def randn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def signed(seed, n, sign):
    """A random matrix whose determinant has this sign."""
    a = randn(seed, n, n)
    return a if torch.linalg.det(a).sign() == sign else torch.cat([-a[:1], a[1:]])


def error(parts, a):
    return ((parts.recompose().matrix - a).norm() / a.norm()).item()


# round trips ---------------------------------------------------------------------------------------------------------
@few
@given(seeds, sizes, st.sampled_from([-1, 1]))
def test_every_order_gives_the_map_back_for_either_sign_of_the_determinant(seed, n, sign):
    a = signed(seed, n, sign)
    for order in ORDERS:
        parts = LinearMap(a).decompose(order)
        assert error(parts, a) < 1e-13
        for name, factor in parts.factors.items():
            if factor.structure == "rotation":
                assert torch.linalg.det(factor.matrix) > 0 and factor.kind().residuals["rotation"] < 1e-14 * n
            if name == "flip":
                assert factor.matrix.diagonal()[:-1].eq(1).all() and factor.matrix.diagonal()[-1] == sign
            if name == "scale":
                assert (factor.matrix.diagonal() > 0).all()


@few
@given(seeds, st.integers(2, 8), st.sampled_from([-1, 1]))
def test_maps_that_are_nearly_singular_come_back_too(seed, n, sign):
    u, _, v = torch.linalg.svd(randn(seed, n, n))
    values = torch.linspace(2, 1, n, dtype=torch.float64)
    values[-1] = 1e-8
    a = u @ torch.diag(values) @ v
    a = a if torch.linalg.det(a).sign() == sign else torch.cat([-a[:1], a[1:]])
    for order in ORDERS:
        parts = LinearMap(a).decompose(order)
        assert error(parts, a) < 1e-12 and (order == "polar" or parts.conditioning < 1e-8)


@few
@given(seeds, st.integers(1, 5))
def test_a_batch_is_taken_apart_as_each_of_its_maps(seed, n):
    batch = randn(seed, 2, 3, n, n)
    for order in ORDERS:
        together = LinearMap(batch).decompose(order)
        assert together.conditioning.shape == (2, 3)
        for i, j in product(range(2), range(3)):
            alone = LinearMap(batch[i, j]).decompose(order)
            for name, factor in alone.factors.items():
                torch.testing.assert_close(together.factors[name].matrix[i, j], factor.matrix, rtol=1e-6, atol=1e-7)


@few
@given(seeds, st.integers(1, 6))
def test_single_precision_stays_within_its_rounding(seed, n):
    a = randn(seed, n, n) + 3 * torch.eye(n)
    for order in ORDERS:
        parts = LinearMap(a.float()).decompose(order)
        assert parts.recompose().dtype == torch.float32 and parts.recompose().close(LinearMap(a))


def test_an_affine_map_gives_its_translation_last():
    move = linear.translation([1, 2]) @ linear.rotation(0.3) @ linear.scaling([2, 3])
    parts = move.decompose()
    assert parts.recompose().close(move) and parts.translation.tolist() == [1, 2]
    assert LinearMap([[1]]).decompose().translation is None


# uniqueness ----------------------------------------------------------------------------------------------------------
@few
@given(seeds, st.integers(2, 7), st.sampled_from([-1.0, 1.0]))
def test_the_factors_that_made_a_map_are_found_again(seed, n, sign):
    rotation = linear.rotation_from_vector(randn(seed, n * (n - 1) // 2))
    flip = torch.ones(n, dtype=torch.float64)
    flip[-1] = sign
    scale = randn(seed + 1, n).abs() + 0.5
    shear = torch.eye(n, dtype=torch.float64) + randn(seed + 2, n, n).triu(1) / n
    made = {
        "rotation": rotation,
        "flip": linear.scaling(flip),
        "scale": linear.scaling(scale),
        "shear": LinearMap(shear),
    }
    a = rotation @ made["flip"] @ made["scale"] @ made["shear"]
    for found, turned in ((a.decompose("RFZS"), False), (a.T.decompose("SZFR"), True)):
        for name, factor in made.items():
            torch.testing.assert_close(
                getattr(found, name).matrix, (factor.T if turned else factor).matrix, rtol=1e-9, atol=1e-9
            )


@few
@given(seeds, st.integers(2, 6))
def test_turning_the_output_changes_only_the_rotation(seed, n):
    a, turn = LinearMap(randn(seed, n, n)), linear.rotation_from_vector(randn(seed + 1, n * (n - 1) // 2))
    for order, others in (("RFZS", ("flip", "scale", "shear")), ("polar", ("stretch",))):
        before, after = a.decompose(order), (turn @ a).decompose(order)
        torch.testing.assert_close(after.rotation.matrix, turn.matrix @ before.rotation.matrix, rtol=1e-6, atol=1e-6)
        for name in others:
            torch.testing.assert_close(after.factors[name].matrix, before.factors[name].matrix, rtol=1e-6, atol=1e-6)


@few
@given(seeds, st.integers(2, 6), st.sampled_from([-1, 1]))
def test_the_polar_rotation_is_the_nearest_and_the_stretch_symmetric(seed, n, sign):
    a = signed(seed, n, sign)
    parts = LinearMap(a).decompose("polar")
    stretch = parts.stretch.matrix
    torch.testing.assert_close(stretch, stretch.mT, rtol=0, atol=0)
    assert (torch.linalg.eigvalsh(stretch) < 0).sum() == (sign < 0)
    if sign > 0:
        torch.testing.assert_close(parts.rotation.matrix, torch.from_numpy(scipy.linalg.polar(a.numpy())[0]))
    for k in range(20):
        other = linear.rotation_from_vector(randn(seed + k, n * (n - 1) // 2)).matrix
        assert (a - other).norm() >= (a - parts.rotation.matrix).norm() - 1e-12


@few
@given(seeds, st.integers(2, 6))
def test_the_singular_frames_keep_their_sign_convention(seed, n):
    parts = LinearMap(randn(seed, n, n)).decompose("svd")
    right, scale = parts.right.matrix, parts.scale.matrix.diagonal()
    largest = torch.take_along_dim(right, right.abs().argmax(-1, keepdim=True), -1)[:-1]
    assert (largest > 0).all() and (scale.diff() <= 0).all()


def test_conditioning_goes_to_zero_where_the_factors_are_not_unique():
    for gap in (1e-1, 1e-5, 1e-12):
        mirrored = LinearMap(np.diag([2.0, 1 + gap, -1])).decompose("polar").conditioning
        repeated = LinearMap(np.diag([2.0, 1 + gap, 1])).decompose("svd").conditioning
        flat = LinearMap(np.diag([1.0, gap])).decompose("RFZS").conditioning
        assert mirrored == pytest.approx(gap / 4, rel=1e-3) and repeated == pytest.approx(
            min(gap, 0.5) / (2 + 0), rel=1e-3
        )
        assert flat == pytest.approx(gap)
    assert linear.reflection([1, 0, 0]).decompose("polar").conditioning == 0
    assert linear.rotation(0.3, 3).decompose("polar").conditioning == pytest.approx(1)
    assert (
        LinearMap([[0.0]]).decompose("svd").conditioning == 0 and LinearMap([[-2]]).decompose("polar").conditioning == 1
    )
    rank_two = LinearMap(np.diag([2.0, 1, 0])).decompose("polar")
    assert rank_two.conditioning == 0.25 and error(rank_two, torch.diag(torch.tensor([2.0, 1, 0]))) < 1e-15


@few
@given(seeds, st.integers(2, 5))
def test_a_small_change_moves_the_factors_by_little_where_conditioning_is_fair(seed, n):
    a, change = randn(seed, n, n), 1e-9 * randn(seed + 1, n, n)
    for order in ORDERS:
        before, after = LinearMap(a).decompose(order), LinearMap(a + change).decompose(order)
        if order == "svd" and any(row.abs().topk(2).values.diff().abs() < 1e-3 for row in before.right.matrix):
            continue  # which entry is largest is about to change, and the sign with it
        for name, factor in before.factors.items():
            moved = (after.factors[name].matrix - factor.matrix).norm()
            assert moved <= 1e-6 * factor.matrix.norm() / max(before.conditioning.item() ** 2, 1e-12)


# gradients -----------------------------------------------------------------------------------------------------------
PLACES = {
    "the identity": torch.eye(3, dtype=torch.float64),
    "twice the identity": 2 * torch.eye(3, dtype=torch.float64),
    "repeated singular values": torch.diag(torch.tensor([2.0, 2.0, 1.0], dtype=torch.float64)),
    "a negative determinant": torch.diag(torch.tensor([3.0, 2.0, -1.0], dtype=torch.float64)),
    "repeated and negative": torch.diag(torch.tensor([2.0, 2.0, -1.0], dtype=torch.float64)),
    "any": randn(1, 3, 3),
    "any, mirrored": signed(2, 3, -1),
    "a batch": randn(3, 2, 2, 2),
    "one dimension": torch.tensor([[-2.0]], dtype=torch.float64),
}


@pytest.mark.parametrize("at", PLACES.values(), ids=PLACES.keys())
def test_the_gradient_of_the_polar_form_is_right_and_so_is_the_gradient_of_the_gradient(at):
    def polar(a):
        parts = LinearMap(a).decompose("polar")
        return parts.rotation.matrix, parts.stretch.matrix

    at = at.clone().requires_grad_()
    assert gradcheck(polar, at) and gradgradcheck(polar, at)
    assert gradcheck(nearest_rotation, at, check_forward_ad=True, check_batched_grad=True)


def test_the_nearest_rotation_is_differentiable_at_rank_n_minus_one():
    at = torch.diag(torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64)).requires_grad_()
    assert gradcheck(nearest_rotation, at) and gradgradcheck(nearest_rotation, at)


@pytest.mark.parametrize("at", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize("order", ["RFZS", "SZFR"])
def test_the_gradient_of_rotation_flip_scale_shear_is_right(order, at):
    def parts(a):
        found = LinearMap(a).decompose(order)
        return found.rotation.matrix, found.scale.matrix, found.shear.matrix

    at = at.clone().requires_grad_()
    assert gradcheck(parts, at) and gradgradcheck(parts, at)


@pytest.mark.parametrize("at", PLACES.values(), ids=PLACES.keys())
def test_the_gradient_through_singular_frames_is_right_for_the_nearest_rotation_and_sums_over_values(at):
    def symmetric(a):
        left, values, right = singular_frames(a)
        return (values**2).sum(-1), values.prod(-1), left @ right.mT

    assert gradcheck(symmetric, at.clone().requires_grad_())


def test_the_gradient_of_each_singular_frame_is_right_where_they_are_unique():
    assert gradcheck(singular_frames, randn(4, 3, 3).requires_grad_())
    assert gradcheck(singular_frames, signed(5, 2, -1).requires_grad_())


@pytest.mark.parametrize("order", ORDERS)
def test_gradients_are_finite_even_where_frames_are_not_unique(order):
    for at in (torch.eye(3), torch.diag(torch.tensor([2.0, 1.0, -1.0])), torch.diag(torch.tensor([1.0, 1.0, -1.0]))):
        a = at.double().requires_grad_()
        parts = LinearMap(a).decompose(order)
        weight = randn(1, 3, 3)
        sum((weight * factor.matrix).sum() for factor in parts.factors.values()).backward()
        assert a.grad.isfinite().all()


def test_the_nearest_rotation_works_under_functional_transforms():
    batch = randn(6, 4, 3, 3)
    mapped = torch.func.vmap(torch.func.jacrev(nearest_rotation))(batch)
    forward = torch.func.vmap(torch.func.jacfwd(nearest_rotation))(batch)
    torch.testing.assert_close(mapped, forward)


# angles --------------------------------------------------------------------------------------------------------------
@few
@given(seeds, st.floats(0, math.pi - 1e-6))
def test_rotation_vectors_come_back(seed, angle):
    axis = randn(seed, 5, 3)
    w = angle * axis / axis.norm(dim=-1, keepdim=True)
    parts = linear.rotation_from_vector(w).decompose("polar")
    torch.testing.assert_close(parts.rotation_vector(), w, rtol=1e-7, atol=1e-12)


@few
@given(seeds)
def test_half_a_turn_has_an_axis(seed):
    axis = randn(seed, 3)
    w = math.pi * axis / axis.norm()
    turn = linear.rotation_from_vector(w)
    assert linear.rotation_from_vector(vector_of(turn.matrix)).close(turn, 1e-12)


@few
@given(st.floats(-math.pi + 1e-9, math.pi))
def test_angles_in_the_plane_come_back(angle):
    assert linear.rotation(angle).decompose().angle().item() == pytest.approx(angle, abs=1e-14)


def test_angles_and_rotation_vectors_are_differentiable_at_no_rotation():
    eye = torch.eye(3, dtype=torch.float64)
    for at in (eye, linear.rotation_from_vector([0.1, 3.0, -0.2]).matrix, linear.rotation(1e-9, 3).matrix):
        assert gradcheck(lambda a: LinearMap(a).decompose("polar").rotation_vector(), at.clone().requires_grad_())
    assert gradcheck(lambda a: LinearMap(a).decompose().angle(), torch.eye(2).double().requires_grad_())


# what others got wrong -----------------------------------------------------------------------------------------------
def test_a_mirrored_axis_in_the_plane_comes_back():
    # scikit-image 0.26 reads diag(-1, 1) as a turn by pi with a shear, and rebuilds it with an error of 2
    parts = LinearMap([[-1, 0], [0, 1]]).decompose()
    assert error(parts, torch.tensor([[-1.0, 0], [0, 1]])) < 1e-15
    assert parts.flip.matrix.diagonal().tolist() == [1, -1] and parts.shear.matrix[0, 1] == 0


def test_a_negative_factor_on_an_inner_axis_is_no_half_turn_with_a_negative_zoom():
    # transforms3d 0.4 reads diag(1, -2, 1) as R = diag(-1, -1, 1) with zooms (-1, 2, 1)
    parts = LinearMap(np.diag([1.0, -2, 1])).decompose()
    assert (parts.scale.matrix.diagonal() > 0).all() and parts.flip.matrix.diagonal().tolist() == [1, 1, -1]
    assert error(parts, torch.diag(torch.tensor([1.0, -2, 1]))) < 1e-15


def test_a_sheared_rotation_is_never_quietly_made_orthonormal():
    # scipy's Rotation.from_matrix takes it for a rotation and changes it by 0.2
    a = (linear.rotation(0.3, 3) @ linear.scaling([1.1, 1, 0.9]) @ linear.shear(0.1, 3)).matrix
    assert np.abs(Rotation.from_matrix(a.numpy()).as_matrix() - a.numpy()).max() > 0.05
    for order in ORDERS:
        assert error(LinearMap(a).decompose(order), a) < 1e-14


def test_there_is_no_gimbal_lock():
    # Euler angles lose a degree of freedom here; a rotation vector does not
    w = Rotation.from_euler("xyz", [0.3, math.pi / 2, 0.2]).as_rotvec()
    parts = linear.rotation_from_vector(w).decompose()
    torch.testing.assert_close(parts.rotation_vector(), torch.from_numpy(w))


def test_turns_in_space_are_decomposed():
    # scikit-image's AffineTransform has no rotation beyond the plane
    parts = (linear.rotation(0.7, 3, (1, 2)) @ linear.scaling([2, 3, 4])).decompose()
    assert parts.rotation_vector().tolist() == pytest.approx([0.7, 0, 0])
    angles, planes = linear.rotation(0.7, 5, (1, 2)).decompose().planes()
    assert angles == pytest.approx((0.7,)) and planes.shape == (1, 2, 5)


def test_torchs_svd_has_no_gradient_at_the_identity_and_ours_has():
    a = torch.eye(3, dtype=torch.float64, requires_grad=True)
    u, _, vh = torch.linalg.svd(a)
    (u @ vh).sum().backward()
    assert not a.grad.isfinite().all()  # the day this fails, torch has learned it
    a.grad = None
    nearest_rotation(a).sum().backward()
    torch.testing.assert_close(a.grad, torch.zeros_like(a))


# what is said --------------------------------------------------------------------------------------------------------
def test_a_decomposition_reads_well():
    parts = (linear.translation([1, 2]) @ linear.rotation(math.pi / 6) @ linear.scaling([2, 3])).decompose()
    text = str(parts)
    assert "rotation by 30°" in text and "axis scaling by 2, 3" in text and "translation  (1, 2)" in text
    assert (
        "conditioning 0.667" in text
        and "Unique for invertible A" in text
        and repr(parts).startswith("Decomposition by")
    )
    assert "<th>scale</th>" in parts._repr_html_()
    assert "(2,) shifts in 1 dimensions" in str(AffineMap([[2]], [[1], [2]]).decompose("polar"))
    assert str(LinearMap(torch.empty(0, 2, 2)).decompose("svd"))


def test_factors_are_attributes_and_others_are_named():
    parts = linear.rotation(0.3).decompose("svd")
    assert parts.left is parts.factors["left"]
    with pytest.raises(AttributeError, match="a decomposition by svd has left, flip, scale, right, not shear"):
        parts.shear


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: LinearMap([[1, 1], [1, 1]]).decompose(), "cannot separate scale and shear: the map is singular"),
        (lambda: LinearMap([[1, 1], [1, 1]]).decompose("SZFR"), 'order="polar" and order="svd" serve every map'),
        (lambda: LinearMap(torch.ones(2, 3)).decompose(), "a decomposition needs a square matrix"),
        (lambda: LinearMap([[math.nan]]).decompose("polar"), "cannot decompose the map: entry"),
        (lambda: LinearMap(torch.eye(2).half()).decompose(), "cannot decompose the map in torch.float16"),
        (lambda: LinearMap([[1]]).decompose("euler"), "decompose got order='euler': expected one of RFZS"),
        (lambda: linear.rotation(1.0).decompose().rotation_vector(), "a rotation vector describes a rotation in 3 dim"),
        (lambda: linear.rotation(1.0, 3).decompose().angle(), "an angle describes a rotation in 2 dimensions"),
        (
            lambda: linear.rotation(1.0).decompose("svd").angle(),
            "is no rotation of a decomposition by svd; it has left",
        ),
    ],
)
def test_what_cannot_be_taken_apart_gets_a_clear_sentence(wrong, message):
    with pytest.raises(ModelError, match=message):
        wrong()
