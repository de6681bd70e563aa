"""Products of weights alone are kept from call to call, and no answer is ever of weights that were."""

import threading

import pytest
import torch
from tests.corpora import normal, settle
from torch import nn
from torch.nn.utils import parametrize

from eitherway.calculus.chain import prepare
from eitherway.calculus.chain.kept import LONGEST_WAIT
from eitherway.calculus.jacobian import prepare_jacobian
from eitherway.graph import capture

SIZE = 128


@pytest.fixture
def g():
    return torch.Generator().manual_seed(0)


def runs(g, size: int = SIZE) -> nn.Sequential:
    """Linear layers and norms with one bend between them."""

    def run():
        return [nn.Linear(size, size), nn.BatchNorm1d(size), nn.Linear(size, size), nn.BatchNorm1d(size)]

    net = nn.Sequential(*run(), nn.Tanh(), *run()).double()
    for parameter in net.parameters():
        parameter.data = normal(g, *parameter.shape) / size**0.5
    settle(net, g)
    return net


def planned(net, x):
    return prepare(capture(net, x), batched=False)


def keeps(chain) -> bool:
    return chain.kept is not None and chain.kept.held is not None


def warm(net, x):
    """A chain that keeps something."""
    chain = planned(net, x)
    for _ in range(3):
        chain(x)
    assert keeps(chain)
    return chain


def descend(net):
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    net(torch.ones(1, SIZE, dtype=torch.float64)).sum().backward()
    optimiser.step()


def without_gradient(net):
    with torch.no_grad():
        net[0].weight.mul_(2)


def one_entry(net):
    net[5].weight.data[100, 100] += 1e-12


def in_numpy(net):
    net[2].weight.detach().numpy()[3, 5] = 7.0


def by_state(net):
    other = {name: held * 1.5 for name, held in net.state_dict().items()}
    net.load_state_dict(other)


def moved_elsewhere(net):
    with torch.no_grad():
        net[0].weight.set_(net[0].weight.detach() * 3)


def transposed(net):
    net[7].weight.data = net[7].weight.data.mT


def statistics(net):
    net[1].running_var.mul_(2)


def moved_by_training(net):
    net.train()
    net(torch.rand(9, SIZE, dtype=torch.float64))
    net.eval()


def not_a_number(net):
    net[0].weight.data[0, 0] = torch.nan


CHANGES = {
    "data in place": lambda net: net[0].weight.data.add_(1),
    "data replaced": lambda net: setattr(net[0].weight, "data", net[0].weight.data * 2),
    "in place without a gradient": without_gradient,
    "one entry, one bit": one_entry,
    "through NumPy": in_numpy,
    "load_state_dict": by_state,
    "a step of an optimiser": descend,
    "set_": moved_elsewhere,
    "other strides": transposed,
    "running statistics": statistics,
    "a call in training mode": moved_by_training,
    "the gain of a norm": lambda net: net[6].weight.data.neg_(),
    "not a number": not_a_number,
    "swapped": lambda net: torch.utils.swap_tensors(net[0].weight, nn.Parameter(net[0].weight.detach() * 2)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_weight_that_changes_is_seen_at_once(g, change):
    net, x = runs(g), normal(g, 1, SIZE)
    chain = warm(net, x)
    before = chain(x)
    CHANGES[change](net)
    after = chain(x)
    assert not torch.equal(before, after)
    expected = planned(net, x)(x)
    for J in (after, *[chain(x) for _ in range(4)]):
        assert torch.equal(J.nan_to_num(), expected.nan_to_num())
        assert torch.equal(J.isnan(), expected.isnan())


def test_a_weight_that_is_replaced_is_planned_anew(g):
    net, x = runs(g), normal(g, 1, SIZE)
    plan = prepare_jacobian(net, x, mode="chain")
    for _ in range(4):
        plan(x)
    assert keeps(plan.way)
    first = net[0]
    assert isinstance(first, nn.Linear)
    first.weight = nn.Parameter(first.weight.detach() * 2)
    assert torch.equal(plan(x), prepare_jacobian(net, x, mode="chain")(x))


def test_signs_of_zero_are_not_the_same_number(g):
    scale = torch.zeros(SIZE, dtype=torch.float64)
    weight, x = normal(g, SIZE, SIZE), normal(g, SIZE)
    chain = warm(lambda x: ((x / scale) @ weight) @ weight, x)
    assert (chain(x) == torch.inf).any()
    before = chain(x)
    scale.neg_()
    assert torch.equal(scale, torch.zeros(SIZE, dtype=torch.float64))
    assert torch.equal(chain(x), -before)


def test_what_is_kept_gives_the_same_bits(g):
    net, x = runs(g), normal(g, 1, SIZE)
    chain = planned(net, x)
    answers = [chain(x) for _ in range(4)]
    assert all(torch.equal(J, answers[0]) for J in answers)
    assert torch.equal(chain(x + 1), planned(net, x)(x + 1))


def test_nothing_is_kept_of_a_single_call(g):
    net, x = runs(g), normal(g, 1, SIZE)
    chain = planned(net, x)
    chain(x)
    assert chain.kept is not None
    assert not keeps(chain)


def test_weights_that_change_at_every_call_are_copied_ever_less(g):
    net, x = runs(g), normal(g, 1, SIZE)
    chain = warm(net, x)
    copied = 0
    for _ in range(60):
        next(net.parameters()).data.mul_(0.99)
        chain(x)
        copied += keeps(chain)
    assert copied < 8
    for _ in range(LONGEST_WAIT + 2):
        chain(x)
    assert keeps(chain)


def test_what_a_caller_writes_into_an_answer_stays_there(g):
    x = normal(g, SIZE)
    line = nn.Sequential(nn.Linear(SIZE, SIZE), nn.Linear(SIZE, SIZE)).double()
    chain = warm(line, x)
    first = chain(x).clone()
    for _ in range(3):
        assert torch.equal(chain(x), first)
        chain(x).zero_()
    slope = nn.Sequential(*line, nn.Tanh())
    chain = warm(slope, x)
    first = chain(x).clone()
    chain(x).zero_()
    assert torch.equal(chain(x), first)


def test_a_batch_keeps_what_its_samples_share(g):
    net, x = runs(g), normal(g, 5, SIZE)
    chain = prepare(capture(net, x), batched=True)
    first = chain(x)
    chain(x)
    assert keeps(chain)
    assert torch.equal(chain(x), first)
    assert torch.equal(chain(x[:3]), prepare(capture(net, x), batched=True)(x[:3]))
    next(net.parameters()).data.add_(1)
    assert torch.equal(chain(x), prepare(capture(net, x), batched=True)(x))


def test_weights_made_of_weights_are_followed_to_these(g):
    net, x = runs(g), normal(g, 1, SIZE)

    class Doubled(nn.Module):
        def forward(self, w):
            return 2 * w

    parametrize.register_parametrization(net[0], "weight", Doubled())
    chain = warm(net, x)
    dict(net.named_parameters())["0.parametrizations.weight.original"].data.add_(0.5)
    assert torch.equal(chain(x), planned(net, x)(x))


def test_a_budget_holds_what_is_kept(g):
    net, x = runs(g), normal(g, 1, SIZE)
    free = warm(net, x)
    assert free.kept is not None
    held = free.kept.held
    assert held is not None
    copies = sum(one.bits.nbytes for one in held[0])
    assert copies + sum(t.nbytes for t in held[1]) <= free.kept.size
    enough = int(free.cost.peak + free.kept.size)
    assert prepare(capture(net, x), batched=False, memory=enough).kept is not None
    tight = prepare(capture(net, x), batched=False, memory=int(free.cost.peak))
    assert tight.kept is None
    assert torch.equal(tight(x), free(x))
    assert "kept from call to call" not in tight.explain()


def test_the_plan_says_what_it_keeps(g):
    net, x = runs(g), normal(g, 1, SIZE)
    text = str(prepare_jacobian(net, x, mode="chain"))
    assert "kept from call to call, while the weights hold the very same numbers: 2 products" in text
    bent = nn.Sequential(nn.Linear(SIZE, SIZE), nn.Tanh(), nn.Linear(SIZE, SIZE)).double()
    assert "kept from call to call" not in str(prepare_jacobian(bent, x[0], mode="chain"))


def test_threads_share_what_is_kept(g):
    net, x = runs(g), normal(g, 1, SIZE)
    chain = warm(net, x)
    points = [normal(g, 1, SIZE) for _ in range(4)]
    expected = [planned(net, point)(point) for point in points]
    wrong = []

    def work(k):
        for _ in range(50):
            if not torch.equal(chain(points[k]), expected[k]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
