"""One run of f: what a forward that replaces a tensor's `.data` may be asked, and threads that share a model."""

import threading

import pytest
import torch
from tests.corpora import generator, normal, seeded
from torch import Tensor, nn
from torch.autograd.functional import jacobian as plain

from eitherway.base.errors import ModelError
from eitherway.calculus.jacobian import jacobian, prepare_jacobian


class Bounded(nn.Linear):
    """Keeps its rows within a length, as max-norm layers do."""

    def forward(self, input: Tensor) -> Tensor:
        self.weight.data = self.weight.data.renorm(2, 0, 0.5)
        return super().forward(input)


def bounded() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Linear(5, 5), nn.Tanh(), Bounded(5, 3)), generator("bounded"))


@pytest.mark.parametrize("batched", (False, True))
def test_a_replaced_data_leaves_one_way_and_python_alive(batched):
    net, x = bounded(), normal(generator("bounded"), *([4] if batched else []), 5).float()
    plan = prepare_jacobian(net, x, batched=batched)
    expected = torch.stack([plain(net, row) for row in x]) if batched else plain(net, x)  # type: ignore[arg-type]
    assert torch.allclose(plan(x), expected, atol=1e-6)
    assert torch.allclose(jacobian(net, x, batched=batched), expected, atol=1e-6)
    assert plan.choice is not None and "which torch.func does not bear" in plan.choice.why


@pytest.mark.parametrize("how", ({"mode": "forward"}, {"mode": "chain"}, {"form": "operator"}))
def test_other_ways_are_closed_with_the_line_that_closes_them(how):
    told = r"is replaced \(test_run.py:\d+.*while f runs; use mode='auto', form='dense', or replace"
    with pytest.raises(ModelError, match=told):
        prepare_jacobian(bounded(), torch.ones(5), **how)


def test_threads_may_share_a_model_in_training_mode():
    net = seeded(
        lambda: nn.Sequential(nn.Linear(6, 6), nn.GroupNorm(2, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3)),
        generator("threads"),
    ).train()
    x = normal(generator("threads"), 4, 6).float()
    expected = jacobian(net, x)
    state = {name: part.clone() for name, part in net.state_dict().items()}
    failures: list[BaseException] = []
    start = threading.Barrier(3)

    def work() -> None:
        try:
            start.wait(30)
            for _ in range(4):
                assert torch.allclose(jacobian(net, x), expected, atol=1e-5)
                assert torch.allclose(prepare_jacobian(net, x)(x), expected, atol=1e-5)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []
    for name, part in net.state_dict().items():
        assert part.dtype == state[name].dtype and torch.equal(part, state[name])
