import math

import pytest
import torch
import torch.nn.functional as F

from eitherway.base.errors import ModelError
from eitherway.signal.schemes.draw import gaussian, haar, orthogonal, orthogonal_kernel, tiles, uniform


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def rms(x):
    return float(x.double().square().mean().sqrt())


@pytest.mark.parametrize("draw", [gaussian, uniform])
def test_standard_deviation_is_what_was_asked_for(draw):
    w = draw((400, 500), 0.3, generator=seeded(), dtype=torch.float64)
    assert float(w.std()) == pytest.approx(0.3, rel=0.01) and abs(float(w.mean())) < 0.003


@pytest.mark.parametrize("draw", [gaussian, uniform])
def test_one_seed_means_the_same_weights_in_every_precision(draw):
    exact = draw((5, 7), generator=seeded(3), dtype=torch.float64)
    assert torch.equal(draw((5, 7), generator=seeded(3)), exact.float())


@pytest.mark.parametrize("out, into", [(128, 512), (512, 128), (64, 64), (521, 100), (1, 9), (9, 1), (1, 1)])
def test_orthogonal_matrices_keep_the_rms_whatever_their_shape(out, into):
    w = orthogonal(out, into, generator=seeded(), dtype=torch.float64)
    squares = torch.linalg.svdvals(w).square()
    # the mean square over all directions: sum of squares over outputs, for inputs of unit rms
    assert float(squares.sum()) / out == pytest.approx(1.0, abs=1e-12)
    assert torch.allclose(squares, squares[:1], atol=1e-12)


def test_a_rectangular_stack_keeps_signals_where_one_that_mistakes_its_axes_does_not():
    generator = seeded(1)
    x = torch.randn(256, 128, generator=generator)
    down = orthogonal(128, 512, generator=generator)
    up = orthogonal(512, 128, generator=generator)
    assert rms(x @ up.T) == pytest.approx(rms(x), rel=1e-5)
    assert rms(x @ up.T @ down.T) == pytest.approx(rms(x), rel=0.02)


def test_float32_matrices_are_orthogonal_to_a_millionth():
    w = orthogonal(300, 300, generator=seeded()).double()
    assert float((w @ w.T - torch.eye(300)).abs().max()) < 1e-6


def test_haar_matrices_have_the_moments_of_the_uniform_distribution():
    generator = seeded(5)
    q = torch.stack([haar(3, 3, generator) for _ in range(3000)])
    # E q = 0, E q^2 = 1/n, E q^4 = 3 / (n (n + 2)), and determinants of both signs; thresholds are 5 standard errors
    assert float(q.mean(0).abs().max()) < 5 * math.sqrt(1 / 3 / 3000)
    assert float((q.square().mean(0) - 1 / 3).abs().max()) < 5 * math.sqrt((1 / 5 - 1 / 9) / 3000)
    assert float((q.pow(4).mean(0) - 1 / 5).abs().max()) < 5 * 0.3 / math.sqrt(3000)
    assert abs(float(torch.linalg.det(q).mean())) < 5 / math.sqrt(3000)


def test_haar_is_a_gaussian_s_qr_with_a_positive_diagonal_in_its_first_column():
    numbers = torch.randn(6, 4, dtype=torch.float64, generator=seeded(2))
    q = haar(6, 4, seeded(2))
    assert torch.allclose(q[:, 0], numbers[:, 0] / numbers[:, 0].norm())
    assert torch.allclose(q.T @ q, torch.eye(4, dtype=torch.float64), atol=1e-14)


@pytest.mark.parametrize("out, into", [(64, 64), (32, 64), (128, 64)])
def test_centred_matrices_pass_no_mean_and_keep_the_rest(out, into):
    w = orthogonal(out, into, centred=True, generator=seeded(), dtype=torch.float64)
    assert float(w.sum(1).abs().max()) < 1e-12
    squares = torch.linalg.svdvals(w).square()
    assert float(squares.sum()) / out == pytest.approx(1.0, abs=1e-12)
    assert torch.allclose(squares[: min(out, into - 1)], squares[:1])


@pytest.mark.parametrize(
    "shape, settings",
    [
        ((16, 8, 3, 3), {"padding": 1}),
        ((16, 8, 3, 3), {"padding": 1, "stride": 2}),
        ((8, 8, 5, 5), {"padding": 2}),
        ((32, 8, 2, 2), {"stride": 2}),
        ((32, 8, 4, 4), {"stride": 2, "padding": 1}),
        ((8, 1, 3, 3), {"padding": 1, "groups": 8}),
        ((16, 4, 3, 3), {"padding": 1, "groups": 2}),
        ((128, 8, 4, 4), {"stride": 4}),
    ],
)
def test_kernels_keep_whole_images(shape, settings):
    generator = seeded()
    x = torch.randn(2, 8, 16, 16, generator=generator)
    padding = settings.get("padding", 0)
    w = orthogonal_kernel(shape, generator=generator, **{"padding": padding, **settings})
    y = F.conv2d(x, w, **settings)
    out, into = shape[0] * y[0, 0].numel(), x[0].numel()
    expected = rms(x) if out >= into else pytest.approx(rms(x), rel=0.1)  # some directions are left out
    assert rms(y) == (pytest.approx(expected, rel=1e-5) if out >= into else expected)


@pytest.mark.parametrize(
    "shape, settings",
    [
        ((8, 8, 4, 4), {"stride": 2, "padding": 1}),
        ((8, 16, 2, 2), {"stride": 2}),
        ((8, 2, 2, 2), {"stride": 2, "groups": 2}),
        ((8, 8, 3, 3), {"padding": 1}),
    ],
)
def test_transposed_kernels_keep_whole_images(shape, settings):
    generator = seeded()
    x = torch.randn(2, 8, 16, 16, generator=generator)
    w = orthogonal_kernel(shape, transposed=True, generator=generator, **{"padding": 0, **settings})
    assert rms(F.conv_transpose2d(x, w, **settings)) == pytest.approx(rms(x), rel=1e-5)


def test_tiles_begin_where_an_output_s_own_position_lies():
    assert tiles((3,), 1, 1) == ((1,), (1,))
    assert tiles((3,), 2, 1) == ((1,), (2,))  # padding on the left is never read
    assert tiles((3,), 1, 2) == ((2,), (1,))  # a causal convolution reads the present
    assert tiles((2,), 3, 0) == ((0,), (2,))
    assert tiles((4,)) == ((1,), (1,))  # "same" pads one on the left


@pytest.mark.parametrize("out, into, centred", [(0, 3, False), (3, 0, False), (3, 1, True)])
def test_sizes_that_make_no_matrix_are_refused(out, into, centred):
    with pytest.raises(ModelError, match="was asked for; expected at least one row and"):
        orthogonal(out, into, centred=centred, generator=seeded())


def test_groups_that_do_not_divide_the_channels_are_refused():
    with pytest.raises(ModelError, match="channels must divide"):
        orthogonal_kernel((8, 4, 3), groups=3, generator=seeded())
