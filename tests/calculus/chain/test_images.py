"""Transposed convolutions, by whichever way, are torch's."""

import pytest
import torch
from tests.corpora import normal

from eitherway.calculus.chain.images import FEW, SMALL, conv_transpose2d, spread

OPTIONS = [
    {},
    {"stride": 2, "padding": 1},
    {"stride": (3, 2), "padding": (0, 1), "output_padding": (2, 1), "dilation": (1, 2)},
    {"stride": [2], "groups": 2},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("lead", [(), (2,), (40,)], ids=["one image", "few", "many"])
@pytest.mark.parametrize("channels", [FEW, 3 * FEW])
def test_a_transposed_convolution_is_that_of_torch(options, lead, channels):
    g = torch.Generator().manual_seed(0)
    x, weight = normal(g, *lead, 6, 5, 7), normal(g, 6, channels, 3, 4)
    bias = normal(g, channels * options.get("groups", 1))
    expected = torch.nn.functional.conv_transpose2d(x, weight, bias, **options)
    assert torch.allclose(conv_transpose2d(x, weight, bias, **options), expected, rtol=1e-12, atol=1e-12)
    bare = torch.nn.functional.conv_transpose2d(x, weight, **options)
    assert torch.allclose(conv_transpose2d(x, weight, **options), bare, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("images", [1, 2 * SMALL // (35 * 12 * 12)], ids=["folded", "by the kernel"])
@pytest.mark.parametrize("channels", [FEW, 3 * FEW])
def test_a_convolution_is_pulled_back_as_by_autograd(images, channels):
    g = torch.Generator().manual_seed(0)
    x, weight = normal(g, images, channels, 9, 11).requires_grad_(), normal(g, 6, channels, 3, 4)
    y = torch.nn.functional.conv2d(x, weight, stride=2, padding=1)
    back = normal(g, *y.shape)
    (expected,) = torch.autograd.grad(y, x, back)
    over = (9 - ((y.shape[2] - 1) * 2 - 2 + 2 + 1), 11 - ((y.shape[3] - 1) * 2 - 2 + 3 + 1))
    found = spread(back, weight, (2, 2), (1, 1), (1, 1), over, 1)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_no_images_are_taken_and_half_precision_is_left_to_torch():
    weight = torch.ones(3, 2, 2, 2)
    assert conv_transpose2d(torch.ones(0, 3, 4, 4), weight).shape == (0, 2, 5, 5)
    x = torch.ones(1, 3, 4, 4, dtype=torch.float16)
    assert torch.equal(conv_transpose2d(x, weight.half()), torch.conv_transpose2d(x, weight.half()))
