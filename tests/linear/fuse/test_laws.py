"""Laws of the algebra: products are associative, merged maps equal the maps in turn, refusals change nothing."""

import hypothesis.strategies as st
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import nn

from eitherway.linear.fuse import fuse_linear
from eitherway.linear.fuse.branches import total
from eitherway.linear.fuse.merges import Dense, Diagonal, Kernel, Transposed, ZeroPad, merge

SEEDS = st.integers(0, 2**31 - 1)


def normal(g, *shape):
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def number(g, low, high):
    return int(torch.randint(low, high + 1, (), generator=g))


def applied(form, x):
    match form:
        case Diagonal():
            x = x if form.scale is None else x * form.scale
            return x if form.shift is None else x + form.shift
        case Dense():
            return F.linear(x, form.weight, form.bias)
        case Kernel():
            return F.conv2d(x, form.weight, form.bias, form.stride, form.padding, form.dilation, form.groups)
        case Transposed():
            more, groups = form.output_padding, form.groups
            return F.conv_transpose2d(x, form.weight, form.bias, form.stride, form.padding, more, groups, form.dilation)
        case ZeroPad():
            return F.pad(x, [n for amount in reversed(form.amounts) for n in (amount, amount)])


def maybe(g, tensor):
    return tensor if number(g, 0, 2) else None


def dense_or_scale(g, width):
    """A random map of the last axis and the width that it gives."""
    if number(g, 0, 1):
        outer = number(g, 1, 5)
        return Dense(normal(g, outer, width), maybe(g, normal(g, outer))), outer
    return Diagonal(maybe(g, normal(g, 1, width)), maybe(g, normal(g, 1, width))), width


def pair(g, low, high):
    return (number(g, low, high), number(g, low, high))


def image_map(g, channels):
    kind = number(g, 0, 5)
    if kind == 0:
        shape = (1, channels, 1, 1)
        return Diagonal(maybe(g, normal(g, *shape)), maybe(g, normal(g, *shape))), channels
    if kind == 1:
        return ZeroPad(pair(g, 0, 2)), channels
    groups = 2 if number(g, 0, 1) and channels % 2 == 0 else 1
    outer = number(g, 1, 3) * groups
    stride, padding, dilation = pair(g, 1, 2), pair(g, 0, 1), pair(g, 1, 2)
    if kind == 2:
        weight = normal(g, channels, outer // groups, *pair(g, 1, 3))
        return Transposed(weight, maybe(g, normal(g, outer)), stride, padding, (0, 0), dilation, groups), outer
    weight = normal(g, outer, channels // groups, *pair(g, 1, 3))
    return Kernel(weight, maybe(g, normal(g, outer)), stride, padding, dilation, groups), outer


def near(one, two):
    return one.shape == two.shape and bool((one - two).abs().max() <= 1e-9 * (1 + two.abs().max()))


@given(SEEDS)
def test_a_product_of_maps_on_the_last_axis_is_associative(seed):
    g = torch.Generator().manual_seed(seed)
    width = number(g, 1, 5)
    x, forms = normal(g, 3, width), []
    for _ in range(3):
        form, width = dense_or_scale(g, width)
        forms.append(form)
    a, b, c = forms
    left, right = merge(merge(a, b), c), merge(a, merge(b, c))
    assert near(applied(left, x), applied(right, x))
    assert near(applied(left, x), applied(c, applied(b, applied(a, x))))


@given(SEEDS)
@settings(max_examples=80)
def test_two_maps_of_images_are_merged_exactly_or_refused_with_a_sentence(seed):
    g = torch.Generator().manual_seed(seed)
    channels = number(g, 1, 4)
    x = normal(g, 2, channels, 21, 20)
    first, inner = image_map(g, channels)
    second, _ = image_map(g, inner)
    both = merge(first, second)
    if isinstance(both, str):
        assert len(both.split()) > 3
    else:
        assert near(applied(both, x), applied(second, applied(first, x)))


@given(SEEDS)
def test_a_sum_of_branches_is_exact_or_refused_with_a_sentence(seed):
    g = torch.Generator().manual_seed(seed)
    channels, stride = 4, number(g, 1, 2)
    x = normal(g, 2, channels, 9, 8)
    forms = []
    for _ in range(number(g, 2, 4)):
        k, d, groups = number(g, 0, 1) * 2 + 1, number(g, 1, 2), (1, 2, 4)[number(g, 0, 2)]
        weight, same = normal(g, channels, channels // groups, k, k), (d * (k - 1) // 2,) * 2
        forms.append(Kernel(weight, maybe(g, normal(g, channels)), (stride,) * 2, same, (d,) * 2, groups))
    if number(g, 0, 1):
        forms.append(Diagonal(maybe(g, normal(g, 1, channels, 1, 1)), maybe(g, normal(g, 1, channels, 1, 1))))
    both = total(forms, 4)
    if isinstance(both, str):
        assert stride == 2 and "different strides" in both
    else:
        assert near(applied(both, x), sum(applied(form, x) for form in forms))


LAYERS = st.lists(
    st.sampled_from(["linear", "norm", "relu", "skip", "scale", "dropout", "layer"]), min_size=1, max_size=8
)


class Skip(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return x + self.inner(x)


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.linspace(0.5, 2, 6)), nn.Parameter(torch.linspace(-1, 1, 6))

    def forward(self, x):
        return x * self.gain + self.shift


MAKE = {
    "linear": lambda: nn.Linear(6, 6),
    "norm": lambda: nn.BatchNorm1d(6),
    "relu": nn.ReLU,
    "skip": lambda: Skip(nn.Linear(6, 6, bias=False)),
    "scale": Scale,
    "dropout": nn.Dropout,
    "layer": lambda: nn.LayerNorm(6),
}


@given(LAYERS, SEEDS)
@settings(max_examples=12)
def test_random_stacks_equal_the_original_and_leave_as_many_layers_as_stretches(kinds, seed):
    g = torch.Generator().manual_seed(seed)
    model = nn.Sequential(*(MAKE[kind]() for kind in kinds)).double().eval()
    with torch.no_grad():
        for tensor in [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]:
            tensor.copy_(torch.rand(tensor.shape, generator=g, dtype=torch.float64) + 0.2)
    x = normal(g, 3, 6)
    fused = fuse_linear(model, x, sizes="example")
    with torch.no_grad():
        assert near(fused.model(x), model(x))
    weighted = "".join("w" if k in ("linear", "skip") else "|" if k in ("relu", "layer") else "" for k in kinds)
    assert fused.report.layers_after == fused.report.effective_depth == sum(1 for run in weighted.split("|") if run)
