"""A Jacobian that is not multiplied out is the same map in both directions."""

import pytest
import torch

from eitherway.calculus.chain import prepare
from eitherway.graph import capture


@pytest.mark.parametrize(
    "f", [lambda x: x @ x, lambda x: x @ x @ x, lambda x: x * x.tanh()], ids=["two", "three", "gate"]
)
def test_a_value_that_an_operation_reads_twice_is_pulled_back_twice(f):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(3, 3, dtype=torch.float64, generator=g)
    chain = prepare(capture(f, x), batched=False)
    J, operator = chain(x), chain.operator(x)
    v = torch.randn(9, dtype=torch.float64, generator=g)
    assert torch.allclose(operator @ v, J @ v, atol=1e-12)
    assert torch.allclose(operator.T @ v, J.T @ v, atol=1e-12)
