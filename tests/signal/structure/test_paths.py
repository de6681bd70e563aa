"""What lies between producers, read from the run and replayed on points."""

import pytest
import torch
import torch.nn.functional as F
from tests.signal.structure.nets import POINTS, Between, between, gated
from torch import nn

from eitherway.base.errors import ModelError


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * x

    @staticmethod
    def backward(ctx, g):
        return g


class Whitened(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x - x.mean()

    @staticmethod
    def backward(ctx, g):
        return g


def in_place(u):
    u = u * 1
    u.relu_()
    u += 0.5
    return u.mul_(2)


ACTIVATIONS = {
    "ReLU": nn.ReLU(),
    "LeakyReLU": nn.LeakyReLU(0.2),
    "ELU": nn.ELU(0.7),
    "GELU": nn.GELU(),
    "GELU tanh": nn.GELU("tanh"),
    "SiLU": nn.SiLU(),
    "Mish": nn.Mish(),
    "Softplus": nn.Softplus(2.0),
    "Hardswish": nn.Hardswish(),
    "Softsign": nn.Softsign(),
    "Tanhshrink": nn.Tanhshrink(),
    "LogSigmoid": nn.LogSigmoid(),
    "Threshold": nn.Threshold(0.1, 0.3),
    "PReLU": nn.PReLU(),
    "SELU": nn.SELU(),
    "CELU": nn.CELU(0.5),
    "Hardtanh": nn.Hardtanh(),
    "Softshrink": nn.Softshrink(),
    "silu by hand": lambda u: u * torch.sigmoid(u),
    "x + sin^2": lambda u: u + torch.sin(u) ** 2,
    "where": lambda u: torch.where(u > 0.5, u, 0.1 * u.exp()),
    "clamp": lambda u: u.clamp(-1, 2),
    "in place": in_place,
    "scaled": lambda u: F.gelu(u) * 1.7,
    "gelu by hand": lambda u: 0.5 * u * (1 + torch.erf(u / 2**0.5)),
    "add of its own": lambda u: u + torch.tanh(u),
    "reverse subtraction": lambda u: 1 - torch.relu(u),
    "maximum of two": lambda u: torch.maximum(u, 0.2 * u),
    "after moves": lambda u: F.relu(u.reshape(-1, 2, 3).transpose(1, 2)).transpose(1, 2).flatten(1),
    "with dropout": lambda u: F.dropout(torch.tanh(u), 0.3),
    "custom": Square.apply,
    "casts": lambda u: torch.tanh(u.double()).float(),
    "addcmul": lambda u: torch.addcmul(u, u, u, value=0.5),
    "masked fill": lambda u: u.masked_fill(u < 0, 0.0),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_one_function_of_one_source(name):
    structure, path = between(ACTIVATIONS[name])
    assert path.kind == "activation" and len(path.sources) == 1
    source = structure.sources[path.sources[0]]
    assert (source.kind, source.producer, source.second, source.mean) == ("producer", 0, 1.0, 0.0)
    assert structure.residuals == ()
    assert [c.producers for c in structure.chains] == [(0, 1)] and structure.chains[0].paths[0].text == path.text


@pytest.mark.parametrize("name", [n for n in ACTIVATIONS if n != "with dropout"])
def test_the_path_is_the_function_itself_in_double_precision(name):
    phi = ACTIVATIONS[name]
    _, path = between(phi)
    wanted = POINTS[:, None].repeat(1, 6)
    if isinstance(phi, nn.Module):
        wanted = wanted.float() if name == "PReLU" else wanted
    with torch.no_grad():
        expected = phi(wanted)[:, 0].double()
    found = path(POINTS)
    assert found.shape == POINTS.shape and found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_dropout_is_no_function():
    _, path = between(lambda u: F.dropout(torch.tanh(u), 0.3))
    assert torch.equal(path(POINTS), torch.tanh(POINTS)) and path.text == "tanh"


def test_moves_alone_are_the_same():
    _, path = between(lambda u: F.dropout(u.view(-1, 2, 3).transpose(1, 2).flatten(1).contiguous(), 0.1))
    assert path.kind == "same" and torch.equal(path(POINTS), POINTS)


@pytest.mark.parametrize(
    ("phi", "text"),
    [
        (nn.GELU(), "gelu"),
        (nn.Softsign(), "softsign"),
        (nn.Tanhshrink(), "tanhshrink"),
        (lambda u: u * torch.sigmoid(u), "u * sigmoid(u)"),
        (lambda u: u + torch.sin(u) ** 2, "u + sin(u)**2"),
        (lambda u: F.relu(u) * 1.5, "relu(u) * 1.5"),
    ],
    ids=["gelu", "softsign", "tanhshrink", "silu", "snake", "scaled"],
)
def test_the_text_is_what_a_person_would_write(phi, text):
    assert between(phi)[1].text == text


def test_constants_from_buffers_belong_to_the_function():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("by", torch.full((6,), 1.5))

        def forward(self, u):
            return torch.tanh(u * self.by)

    _, path = between(Scaled())
    torch.testing.assert_close(path(POINTS), torch.tanh(1.5 * POINTS))


def test_channels_with_functions_of_their_own_take_a_column_of_points():
    slopes = nn.PReLU(6)
    with torch.no_grad():
        slopes.weight.copy_(torch.arange(6.0) / 6)
    structure, path = between(slopes)
    found = path(POINTS[:, None])
    torch.testing.assert_close(found, slopes(POINTS[:, None].repeat(1, 6).float()).double())
    with pytest.raises(ModelError, match=r"give points of shape \(N, 1\)"):
        path(POINTS)
    assert structure.roles["phi.weight"].kind == "slope"


def test_todays_parameters_are_read():
    model = Between(nn.PReLU())
    _, path = between(None, model)
    with torch.no_grad():
        model.phi.weight.fill_(0.75)
    torch.testing.assert_close(path(torch.tensor([-1.0, 2.0])), torch.tensor([-0.75, 2.0]))


def test_a_constant_that_differs_along_more_than_channels_has_no_one_function():
    table = torch.arange(42.0).reshape(7, 6)
    _, path = between(lambda u: torch.tanh(u * table))
    with pytest.raises(ModelError, match="differs along more than its"):
        path(POINTS)


def test_as_many_points_as_sources():
    _, path = between(torch.tanh)
    with pytest.raises(ModelError, match=r"2 tensors of points for a function of 1"):
        path(POINTS, POINTS)


def test_a_constant_is_no_function():
    structure, _ = between(torch.tanh)
    bias = next(v.index for v in structure.graph.values if v.name == "first.bias")
    path = structure.path(bias)
    assert path.kind == "measured"
    with pytest.raises(ModelError, match="is no function of a signal"):
        path()


def test_what_cannot_run_on_points_says_so():
    class Stubborn(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            if x.shape[-1] != 6:
                raise RuntimeError("six columns, please")
            return x.exp()

        @staticmethod
        def backward(ctx, g):
            return g

    _, path = between(Stubborn.apply)
    assert path.kind == "activation"
    with pytest.raises(ModelError, match="cannot be run on points of its own: six columns"):
        path(POINTS)


# several sources ----------------------------------------------------------------------------------------------------


def two_halves(net, x):
    a, b = net.both(x).chunk(2, dim=-1)
    return F.silu(a) * b


GATES = {
    "two layers": lambda net, x: F.silu(net.a(x)) * net.b(x),
    "two halves": two_halves,
}


@pytest.mark.parametrize("name", GATES)
def test_gates_have_two_independent_sources(name):
    structure, path = gated(GATES[name])
    assert path.kind == "gate" and path.text == "silu(a) * b"
    assert len(set(path.sources)) == 2
    assert all(structure.sources[i].kind == "producer" for i in path.sources)
    torch.testing.assert_close(path(POINTS, POINTS.flip(0)), F.silu(POINTS) * POINTS.flip(0))


def test_glu_reads_two_halves_of_one_value():
    structure, path = gated(lambda net, x: F.glu(net.both(x)))
    assert path.kind == "gate" and len(path.sources) == 2 and path.text == "a * sigmoid(b)"
    assert structure.sources[path.sources[0]].producer == 0
    torch.testing.assert_close(path(POINTS, POINTS.flip(0)), POINTS * torch.sigmoid(POINTS.flip(0)))


def test_halves_cut_after_an_activation_are_measured_when_multiplied():
    def gate(net, x):
        a, b = torch.tanh(net.both(x)).chunk(2, dim=-1)
        return a * b

    assert gated(gate)[1].kind == "measured"


def test_differences_of_all_pairs_are_no_function_of_one_number():
    structure, path = gated(lambda net, x: (net.a(x)[:, None] - net.a(x)[None]).abs().sum(1))
    assert path.kind == "measured" and "sum over" in path.text
    assert structure.residuals == ()


@pytest.mark.parametrize(
    ("pool", "text"),
    [
        (lambda u: u.relu().mean(0, keepdim=True), "mean over [0]"),
        (lambda u: F.max_pool1d(u, 3, 1, 1), "max_pool1d"),
        (lambda u: u.softmax(-1), "softmax"),
        (lambda u: u.cumsum(-1), "cumsum"),
        (Whitened.apply, "Whitened"),
        (lambda u: torch.fft.fft(u).real, "real"),
    ],
    ids=["mean", "max", "softmax", "cumsum", "custom", "fft"],
)
def test_what_is_not_element_wise_is_measured_and_never_an_error(pool, text):
    structure, path = between(pool)
    assert path.kind == "measured" and text in path.text
    source = structure.sources[path.sources[0]]
    assert (source.kind, source.second) == ("measured", None)


def test_a_measured_source_tells_what_it_read():
    structure, path = between(lambda u: F.max_pool1d(torch.relu(u), 3, 1, 1))
    (before,) = structure.sources[path.sources[0]].parts
    assert structure.path(before).text == "relu"
