"""What a prepared chain promises: live parameters, other batches, memory, operators, its text, and clear refusals."""

import pytest
import torch
from tests.corpora import normal
from torch import nn

from eitherway.base.errors import ModelError
from eitherway.calculus.chain import prepare
from eitherway.graph import capture


def planned(f, x, batched=False, memory=None):
    return prepare(capture(f, x), batched=batched, memory=memory)


def bottleneck(g) -> nn.Module:
    net = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 2), nn.Tanh(), nn.Linear(2, 32), nn.Linear(32, 64))
    for p in net.parameters():
        p.data = torch.randn(p.shape, generator=g, dtype=torch.float64)
    return net.double()


@pytest.fixture
def g():
    return torch.Generator().manual_seed(0)


def test_parameters_are_read_at_each_call(g):
    net, x = bottleneck(g), normal(g, 5, 64)
    chain = planned(net, x, batched=True)
    before = chain(x)
    with torch.no_grad():
        net[0].weight.mul_(2)
    assert not torch.allclose(before, chain(x))
    assert torch.equal(chain(x), planned(net, x, batched=True)(x))


def test_a_call_leaves_no_trace_in_the_module(g):
    net, x = bottleneck(g), normal(g, 5, 64)
    J = planned(net, x, batched=True)(x)
    J.mul_(0)
    assert all(p.grad is None for p in net.parameters())
    assert not J.requires_grad
    lone = planned(nn.Linear(3, 3, bias=False), torch.ones(3))
    first = lone(torch.ones(3)).clone()
    lone(torch.ones(3)).zero_()
    assert torch.equal(lone(torch.ones(3)), first)


def test_batches_of_other_sizes_need_no_new_plan(g):
    net, x = bottleneck(g), normal(g, 7, 64)
    chain = planned(net, x[:4], batched=True)
    assert torch.allclose(chain(x), planned(net, x, batched=True)(x), rtol=1e-12, atol=1e-14)


def test_a_batch_size_that_an_operation_holds_is_named(g):
    x = normal(g, 4, 6)
    chain = planned(lambda x: torch.tanh(x.reshape(4, 3, 2)).flatten(1), x, batched=True)
    assert chain(x).shape == (4, 6, 6)
    with pytest.raises(ModelError, match="reshape.* holds the batch size 4; prepare again"):
        chain(normal(g, 5, 6))
    with pytest.raises(ModelError, match="it was captured with one sample"):
        planned(torch.tanh, x[:1], batched=True)(x)
    with pytest.raises(ModelError, match="it has operations without a rule"):
        planned(lambda x: torch.cumsum(x, -1), x, batched=True)(x[:2])
    with pytest.raises(ModelError, match="for a chain planned for .4, 6.; prepare one for this shape"):
        chain(normal(g, 4, 7))


def test_memory_cuts_a_batch_and_refuses_what_does_not_fit(g):
    net, x = bottleneck(g), normal(g, 9, 64)
    free = planned(net, x, batched=True)
    tight = planned(net, x, batched=True, memory=int(free.cost.peak / 4))
    assert tight.chunk is not None
    assert tight.chunk < 9
    assert torch.allclose(tight(x), free(x), rtol=1e-12, atol=1e-14)
    with pytest.raises(ModelError, match="MB for one sample, the budget is"):
        planned(net, x, batched=True, memory=100)
    held = capture(lambda x: x.reshape(9, 64).cumsum(-1), x)
    with pytest.raises(ModelError, match="a batch cannot be cut to fit"):
        prepare(held, batched=True, memory=80_000)


@pytest.mark.parametrize("batched", [True, False])
def test_an_operator_is_the_jacobian_without_its_last_product(g, batched):
    net, x = bottleneck(g), normal(g, 3 if batched else 1, 64)
    chain = planned(net, x, batched=batched)
    J, operator = chain(x), chain.operator(x)
    assert operator.shape == J.shape
    assert operator.numbers < J.numel() / 4
    lead = (3,) if batched else ()
    v, u = normal(g, *lead, 64, 2), normal(g, *lead, 64)
    assert torch.allclose(operator @ v, J @ v, rtol=1e-12, atol=1e-12)
    assert torch.allclose(operator.T @ u, (J.mT @ u[..., None])[..., 0], rtol=1e-12, atol=1e-12)
    assert torch.equal(operator.rmatmul(u), operator.T.matmul(u))
    assert torch.allclose(operator.T.dense(), J.mT, rtol=1e-12, atol=1e-12)
    assert "2 x 64" in repr(operator)
    with pytest.raises(ModelError, match="takes vectors .*; got"):
        operator @ torch.zeros(65)


def test_an_operator_of_a_lone_batch_and_of_nothing(g):
    x = normal(g, 1, 4)
    J = planned(torch.tanh, x, batched=True).operator(x)
    assert (J @ torch.ones(1, 4, dtype=x.dtype)).shape == (1, 4)
    zero = planned(lambda x: x.detach() * 2, x).operator(x)
    assert torch.equal(zero.dense(), torch.zeros(4, 4, dtype=x.dtype))


def test_what_is_cut_is_zero_and_what_is_not_changed_is_the_identity(g):
    x = normal(g, 2, 3)
    assert torch.equal(planned(lambda x: x.detach().sin(), x, batched=True)(x), torch.zeros(2, 3, 3, dtype=x.dtype))
    assert torch.equal(planned(lambda x: x, x)(x), torch.eye(6, dtype=x.dtype))
    half = planned(lambda x: x.detach() * x, x, batched=True)(x)
    assert torch.equal(half, torch.diag_embed(x))
    assert "zero, no gradient passes" in planned(lambda x: x.detach() * 2, x).explain()


def test_the_explanation_names_order_factors_and_costs(g):
    net, x = bottleneck(g), normal(g, 5, 64)
    chain = planned(net, x, batched=True)
    text = chain.explain()
    assert "64 x 64" in text
    assert "linear 2 x 32, shared" in text
    assert "[1 (Tanh), tanh]" in text
    assert "all reverse" in text
    assert "(exact)" in text
    assert chain.cost.seconds < chain.cost_reverse.seconds
    assert chain.cost.seconds < chain.cost_forward.seconds
    block = planned(lambda x: x + torch.tanh(x @ torch.ones(64, 64, dtype=x.dtype)), x)
    assert "block of" in block.explain()


def test_branches_follow_the_run(g):
    def f(x):
        return torch.relu(x) if bool(x.sum() > 0) else x.sin()

    x = normal(g, 4).abs()
    chain = planned(f, x)
    assert torch.equal(chain(x), torch.eye(4, dtype=x.dtype))
    with pytest.raises(ModelError, match="a branch would be taken differently here"):
        chain(-x)


class Sideways(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return g.roll(1, 0)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x - x.mean(0),
        lambda x: x.roll(1, 0),
        lambda x: x.softmax(0),
        lambda x: torch.cumsum(x, 0),
        lambda x: nn.functional.batch_norm(x, None, None, training=True),
        lambda x: x + x.T,
        Sideways.apply,
    ],
    ids=["centred", "rolled", "softmax", "cumsum", "batch norm", "transposed", "hand-written"],
)
def test_samples_that_touch_each_other_are_refused_with_the_operation(g, f):
    x = normal(g, 4, 4)
    assert planned(f, x)(x).shape == (16, 16)
    with pytest.raises(ModelError, match="mixes the samples of a batch, so that no sample has"):
        planned(f, x, batched=True)


def test_what_no_chain_can_be_made_of_is_said(g):
    x = normal(g, 4, 4)

    def writes(x):
        y = x * 1
        y[0] = y[1] * 2
        return y

    def escapes(x):
        return x * torch.as_tensor(x.detach().numpy())

    with pytest.raises(ModelError, match="no chain can be made of a run that writes in place: .*"):
        planned(writes, x)
    with pytest.raises(ModelError, match="of a run that its graph does not tell: "):
        planned(escapes, x)
    with pytest.raises(ModelError, match="is random, so a chain planned for one run"):
        planned(nn.Dropout(0.5), x)
    with pytest.raises(ModelError, match="a chain leads from one tensor to one tensor; this run has 2 inputs"):
        prepare(capture(torch.add, x, x), batched=False)
    with pytest.raises(ModelError, match="a chain is made of real numbers, but x holds torch.int64"):
        planned(lambda x: x * 1.0, torch.ones(3, dtype=torch.int64))
    with pytest.raises(ModelError, match="the first axes must agree for every"):
        planned(lambda x: x.sum(), x, batched=True)
    with pytest.raises(ModelError, match="works with complex numbers, whose Jacobians are not planned"):
        planned(lambda x: torch.fft.rfft(x).abs(), x)
    with pytest.raises(ModelError, match="turns .* into .*, and a chain is multiplied in one dtype"):
        planned(lambda x: x.float(), x)


def test_what_the_input_decides_is_decided_at_each_call(g):
    def f(x):
        return x.gather(-1, x.argsort(-1)) * x.amax(-1, keepdim=True)

    x, other = normal(g, 3, 4), normal(g, 3, 4)
    chain = planned(f, x, batched=True)
    assert torch.equal(chain(other), planned(f, other, batched=True)(other))


def test_running_statistics_stay_as_they_are(g):
    net, x = nn.Sequential(nn.BatchNorm1d(4), nn.Tanh()).double(), normal(g, 5, 4)
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    chain = planned(net, x)
    assert chain(x).shape == (20, 20)
    chain.operator(x).dense()
    assert all(torch.equal(buffer, before[name]) for name, buffer in net.named_buffers())


def test_a_training_norm_mixes_samples_and_is_refused_for_a_batch(g):
    with pytest.raises(ModelError, match="mixes the samples of a batch"):
        planned(nn.BatchNorm1d(4).double(), normal(g, 5, 4), batched=True)
