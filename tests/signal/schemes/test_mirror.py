import pytest
import torch
import torch.nn.functional as F

from eitherway.base.errors import ModelError
from eitherway.signal.schemes.mirror import kernel, mirror, pair, weight

EXACT = [
    torch.relu,
    torch.nn.LeakyReLU(0.2),
    F.gelu,
    torch.nn.GELU("tanh"),
    F.silu,
    F.hardswish,
    F.softplus,
    F.logsigmoid,
]


def named(phi):
    return getattr(phi, "__name__", str(phi))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def chain(phi, widths, generator, dtype=torch.float64):
    found, last = mirror(phi), len(widths) - 2
    return [
        weight(
            out,
            into,
            rows=i < last,
            columns=i > 0,
            gain=(found.gain if i else 1) * (found.alpha if i < last else 1),
            generator=generator,
            dtype=dtype,
        )
        for i, (into, out) in enumerate(zip(widths, widths[1:]))
    ]


def run(phi, weights, x):
    for i, w in enumerate(weights):
        x = (phi(x) if i else x) @ w.T
    return x


@pytest.mark.parametrize("phi", EXACT, ids=named)
def test_every_singular_value_of_a_thousand_layers_is_one(phi):
    generator = seeded()
    weights = chain(phi, [8, *[16] * 999, 8], generator)
    x = torch.randn(8, dtype=torch.float64, generator=generator)
    jacobian = torch.func.jacrev(lambda x: run(phi, weights, x))(x)
    assert torch.allclose(torch.linalg.svdvals(jacobian), torch.ones(8, dtype=torch.float64), atol=1e-9)


@pytest.mark.parametrize("phi", EXACT[:3], ids=named)
def test_odd_widths_stay_exact_and_their_last_unit_joins_at_the_first_step(phi):
    generator = seeded()
    weights = [w.requires_grad_() for w in chain(phi, [8, 17, 17, 17, 8], generator)]
    x = torch.randn(8, dtype=torch.float64, generator=generator)
    jacobian = torch.func.jacrev(lambda x: run(phi, weights, x))(x).detach()
    assert torch.allclose(torch.linalg.svdvals(jacobian), torch.ones(8, dtype=torch.float64), atol=1e-9)
    run(phi, weights, torch.randn(9, 8, dtype=torch.float64, generator=generator)).square().sum().backward()
    silent, heard = weights[1][:, -1].detach(), weights[1].grad[:-1, -1]  # the last row is itself not heard yet
    assert not silent.any() and heard.all() and weights[0][-1].detach().any()


@pytest.mark.parametrize("phi, linear", [(F.relu6, 1.0), (F.hardsigmoid, 0.5)])
def test_an_identity_that_ends_somewhere_is_used_inside_its_reach(phi, linear):
    found = mirror(phi)
    assert found.exact and found.alpha == pytest.approx(linear, rel=1e-6)
    u = torch.linspace(-5.9, 5.9, 99, dtype=torch.float64)
    assert torch.allclose(found.gain * (phi(found.alpha * u) - phi(-found.alpha * u)), u)


@pytest.mark.parametrize("phi", [F.elu, F.mish, torch.tanh], ids=named)
def test_other_activations_get_the_gain_of_their_odd_part_and_no_promise(phi):
    found = mirror(phi)
    z = torch.linspace(-10, 10, 20001, dtype=torch.float64)
    density = torch.exp(-z * z / 2)
    odd = found.gain * (phi(z) - phi(-z))
    assert not found.exact and float((density * odd**2).sum() / density.sum()) == pytest.approx(1, rel=1e-6)
    assert found.chi > 1


def test_twins_of_odd_activations_never_part():
    assert not mirror(torch.tanh).parts and not mirror(torch.sigmoid).parts and mirror(F.elu).parts


def test_one_setting_a_channel_is_averaged():
    slopes = torch.nn.PReLU(2)
    with torch.no_grad():
        slopes.weight.copy_(torch.tensor([0.0, 0.5]))
    found = mirror(slopes)
    assert not found.exact and found.gain == pytest.approx(((1 + 1.5**2) / 2) ** -0.5, rel=1e-6)


@pytest.mark.parametrize("groups", [1, 2])
def test_mirrored_kernels_keep_images(groups):
    generator = seeded()
    settings = {"padding": 1, "groups": groups, "generator": generator, "dtype": torch.float64}
    # four blocks of channels, so that both of a pair lie in one group
    first = kernel((32, 16, 3, 3), rows=True, columns=False, blocks_out=4, **{**settings, "groups": 1})
    middle = kernel((32, 32 // groups, 3, 3), rows=True, columns=True, blocks_out=4, blocks_in=4, **settings)
    last = kernel((16, 32, 1, 1), rows=False, columns=True, blocks_in=4, **{**settings, "padding": 0, "groups": 1})
    x = torch.randn(2, 16, 8, 8, dtype=torch.float64, generator=generator)
    y = F.conv2d(F.gelu(F.conv2d(x, first, padding=1)), middle, padding=1, groups=groups)
    y = F.conv2d(F.gelu(y), last)
    assert float(y.norm()) == pytest.approx(float(x.norm()), rel=1e-9)


def test_mirrored_transposed_kernels_keep_images():
    generator = seeded()
    settings = {"generator": generator, "dtype": torch.float64, "padding": 0}
    first = kernel((16, 8, 1, 1), rows=True, columns=False, **settings)
    last = kernel((16, 8, 2, 2), rows=False, columns=True, stride=2, transposed=True, **settings)
    x = torch.randn(2, 8, 4, 4, dtype=torch.float64, generator=generator)
    y = F.conv_transpose2d(F.silu(F.conv2d(x, first)), last, stride=2)
    assert float(y.square().mean()) == pytest.approx(float(x.square().mean()), rel=1e-9)


def test_pairs_lie_side_by_side_in_as_many_blocks_as_asked_for():
    half = torch.arange(4.0)
    assert pair(half, 0, 4).tolist() == [0, -0.0, 1, -1, 2, -2, 3, -3]
    assert pair(half.reshape(1, 4), 1, 2).tolist() == [[0, 1, -0.0, -1, 2, 3, -2, -3]]


def test_even_activations_are_refused():
    with pytest.raises(ModelError, match="mirrored units cancel and pass nothing"):
        mirror(torch.abs)


def test_a_lone_unit_cannot_be_paired():
    with pytest.raises(ModelError, match="cannot be mirrored: expected at least 2 units on a side"):
        weight(1, 4, rows=True, columns=False, generator=seeded())


def test_channels_that_do_not_pair_inside_their_groups_are_refused():
    with pytest.raises(ModelError, match="expected whole pairs in every block"):
        kernel((8, 1, 3), rows=True, columns=True, groups=8, generator=seeded())
