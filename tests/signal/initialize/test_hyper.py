"""What a hypernetwork puts out is the matrix of another product, and as large as a matrix should be."""

import pytest
import torch
from torch import nn

from eitherway.signal.initialize import initialize_
from tests.signal.initialize.models import Gpt, numbers, tokens, transformer

PRODUCTS = {
    "bmm": lambda w, x: torch.bmm(w, x.unsqueeze(-1)).squeeze(-1),
    "matmul": lambda w, x: (w @ x.unsqueeze(-1)).squeeze(-1),
    "einsum": lambda w, x: torch.einsum("boi,bi->bo", w, x),
    "second": lambda w, x: (x.unsqueeze(1) @ w.transpose(1, 2)).squeeze(1),
}


class Hyper(nn.Module):
    """y = W(c) x: each sample has a matrix of its own."""

    def __init__(self, product):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 16 * 32))
        self.product = product

    def forward(self, x, c):
        return self.product(self.net(c).view(-1, 16, 32), x)


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_matrix_that_is_put_out_keeps_what_it_multiplies(name):
    model, given = Hyper(PRODUCTS[name]), (numbers(256, 32), numbers(256, 8, seed=1))
    report = initialize_(model, given)
    assert report.layers[1].measured == pytest.approx(32**-0.5, rel=0.05)
    assert float(model(*given).detach().square().mean().sqrt()) == pytest.approx(1, abs=0.1)
    assert "serves as a matrix that sums 32 products" in report["net.2.weight"].why


@pytest.mark.parametrize(
    "make",
    [lambda: (Gpt(), tokens(50, 16, 12)), lambda: (transformer(True), numbers(16, 6, 32))],
    ids=["gpt", "encoder"],
)
def test_queries_and_keys_are_no_matrices(make):
    model, example = make()
    assert not any("serves as a matrix" in entry.why for entry in initialize_(model, example).entries)
