"""The formulas: each is what autograd's backward does and what differences say, and reads as it does in books."""

import pytest
import torch
from torch.nn import functional as F

from eitherway.calculus.chain_rule import chain_rule


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


W, B = draw(4, 3, seed=1), draw(2, 3, 5, seed=2)
KERNEL, IMAGE = draw(4, 2, 3, 3, seed=3), draw(2, 2, 6, 6, seed=4)
MASK = draw(2, 3, seed=5) > 0

FORMULAS = [
    (torch.tanh, "1 - tanh(z)^2", "diagonal"),
    (torch.sigmoid, "s (1 - s)", "diagonal"),
    (torch.relu, "[z > 0]", "diagonal"),
    (F.relu6, "[0 < z < 6]", "diagonal"),
    (torch.exp, "e^z", "diagonal"),
    (torch.exp2, "2^z ln 2", "diagonal"),
    (torch.expm1, "e^z", "diagonal"),
    (torch.sin, "cos z", "diagonal"),
    (torch.cos, "-sin z", "diagonal"),
    (torch.tan, "1 + tan(z)^2", "diagonal"),
    (torch.atan, "1 / (1 + z^2)", "diagonal"),
    (torch.sinh, "cosh z", "diagonal"),
    (torch.cosh, "sinh z", "diagonal"),
    (torch.abs, "sign z", "diagonal"),
    (torch.neg, "-1", "diagonal, constant"),
    (torch.reciprocal, "-1 / z^2", "diagonal"),
    (torch.square, "2 z", "diagonal"),
    (torch.erf, "2 / sqrt(pi) e^(-z^2)", "diagonal"),
    (F.silu, "σ(z) (1 + z (1 - σ(z)))", "diagonal"),
    (F.logsigmoid, "1 - σ(z)", "diagonal"),
    (F.selu, None, "diagonal"),
    (F.mish, "t + z σ(z) (1 - t^2), t = tanh(softplus z)", "diagonal"),
    (F.hardsigmoid, "[-3 < z < 3] / 6", "diagonal"),
    (F.hardswish, "[z >= 3] + (2z + 3) / 6 [-3 < z < 3]", "diagonal"),
    (F.gelu, "Φ(z) + z φ(z)", "diagonal"),
    (lambda x: F.gelu(x, approximate="tanh"), "(1 + t)/2 + z t'/2", "diagonal"),
    (lambda x: F.leaky_relu(x, 0.2), "1 or 0.2 if z < 0", "diagonal"),
    (F.elu, "1 or e^z if z < 0", "diagonal"),
    (F.softplus, "σ(z)", "diagonal"),
    (F.hardtanh, "[-1 < z < 1]", "diagonal"),
    (lambda x: x.clamp(-0.5, 0.5), "[-0.5 < z < 0.5]", "diagonal"),
    (lambda x: x**3, "3 z^2", "diagonal"),
    (lambda x: 2.0**x, "a^z ln a", "diagonal"),
    (lambda x: x + 1, "I", "identity"),
    (lambda x: 1 - x, "-1", "diagonal, constant"),
    (lambda x: 2 * x, "2", "diagonal"),
    (lambda x: x / 4, "1 / 4", "diagonal"),
    (lambda x: 3 / (x**2), None, None),
    (lambda x: torch.maximum(x, x.new_tensor(0.1)), "[z > other]", "diagonal"),
    (lambda x: torch.where(MASK, x, 0.0), "[condition]", "diagonal"),
    (lambda x: x.sum(0), "1^T", "sums of 2, constant"),
    (lambda x: x.mean(), "1^T / 6", "means of 6, constant"),
    (lambda x: x.var(1), "2 (z - mean)^T / 2", "groups of 3"),
    (lambda x: x.std(1), "(z - mean)^T / (2 s)", "groups of 3"),
    (lambda x: x.logsumexp(1), "softmax(z)^T", "groups of 3"),
    (lambda x: x.norm(), "z^T / |z|", "groups of 6"),
    (lambda x: torch.linalg.vector_norm(x, dim=1), "z^T / |z|", "groups of 3"),
    (lambda x: x.amax(1), "[z is the largest]", "gather"),
    (lambda x: x.min(), "[z is the smallest]", "gather"),
    (lambda x: x.max(1).values, "[z is the largest]", "gather"),
    (lambda x: x.sort(1).values, "permutation", "permutation"),
    (lambda x: x.cumsum(1), "lower triangle of ones", "triangular, constant"),
    (lambda x: x.t(), "permutation", "permutation"),
    (lambda x: x.reshape(3, 2), "I", "identity"),
    (lambda x: x[:, 1], "2 of 6", "gather"),
    (lambda x: F.pad(x, (1, 1)), "6 of 6", "gather"),
    (lambda x: x.expand(4, 2, 3), "copies", "gather"),
    (lambda x: x.softmax(-1), "diag(s) - s s^T", "diagonal + rank 1, a block a row"),
    (lambda x: x.log_softmax(0), "I - 1 softmax(z)^T", "diagonal + rank 1, a block a row"),
    (lambda x: F.linear(x, W), "W", "dense, constant, a block a row"),
    (lambda x: F.linear(W[:, :3], x), "I ⊗ x^T", "outer product"),
    (lambda x: x @ W.T, "B^T", "dense, a block a row"),
    (lambda x: W[:, :2] @ x, "A", "dense, a block a row"),
    (lambda x: x @ B, "B^T", "dense, a block a row"),
    (lambda x: B.mT @ x.t(), None, None),
    (lambda x: torch.addmm(x.new_zeros(2, 4), x, W.T), "B^T", "dense, a block a row"),
    (lambda x: F.layer_norm(x, (3,), W[0], W[1]), "g/sd (I - 1 1^T/n - n n^T/n)", "diagonal + rank 2"),
    (lambda x: F.rms_norm(x, (3,), W[0], eps=1e-6), "g/rms (I - n n^T/n)", "diagonal + rank 1"),
    (
        lambda x: F.batch_norm(x, W[0], W[1] ** 2 + 1, W[2], W[3]),
        "g / sqrt(var + eps)",
        "diagonal, constant",
    ),
    (lambda x: F.mse_loss(x, W[:2]), "2 (z - t)^T / 6", "row"),
    (lambda x: F.binary_cross_entropy_with_logits(x, W[:2].sigmoid()), "(σ(z) - t)^T / 6", "row"),
    (lambda x: F.cross_entropy(x, torch.tensor([1, 2])), "(softmax(z) - onehot)^T / 2", "row"),
    (lambda x: x.round(), "0", "zero"),
    (lambda x: F.embedding(torch.tensor([1, 0, 1]), x), "copies", "gather"),
    (lambda x: torch.atan2(x, W[:2]), "x / r^2", "diagonal"),
]
IMAGES = [
    (lambda x: F.conv2d(x, KERNEL, stride=2, padding=1), "W * ", "convolution, constant"),
    (lambda x: F.conv2d(IMAGE, x[:, :, :3, :3]), "x * ", "convolution"),
    (lambda x: F.conv2d(x[0], KERNEL), "W * ", "convolution, constant"),
    (lambda x: F.conv1d(x.flatten(2), KERNEL[:, :, 0]), "W * ", "convolution, constant"),
    (lambda x: F.max_pool2d(x, 2), "[z is the largest]", "gather"),
    (lambda x: F.max_pool2d(x, 3, 2, 1), "[z is the largest]", "gather"),
    (lambda x: F.avg_pool2d(x, 2), "means of windows", "sparse, constant"),
    (lambda x: F.adaptive_avg_pool2d(x, 2), "means of windows", "sparse, constant"),
]


@pytest.mark.parametrize("f, formula, structure", FORMULAS, ids=map(str, range(len(FORMULAS))))
def test_a_formula_is_what_autograd_and_differences_say(f, formula, structure):
    _judge(f, draw(2, 3, seed=7), formula, structure)


@pytest.mark.parametrize("f, formula, structure", IMAGES, ids=map(str, range(len(IMAGES))))
def test_a_formula_of_images_is_what_autograd_and_differences_say(f, formula, structure):
    _judge(f, IMAGE, formula, structure)


@pytest.mark.parametrize("f", [torch.log, torch.sqrt, torch.rsqrt, torch.log1p, torch.log2, torch.log10, torch.lgamma])
def test_a_formula_of_positive_numbers_is_what_autograd_and_differences_say(f):
    _judge(f, draw(2, 3).abs() + 0.1, None, "diagonal")


@pytest.mark.parametrize("f", [torch.asin, torch.acos, torch.logit])
def test_a_formula_on_the_unit_interval_is_what_autograd_and_differences_say(f):
    _judge(f, draw(2, 3).sigmoid(), None, "diagonal")


def _judge(f, x, formula, structure):
    table = chain_rule(f, x)
    link = table.every[-1]
    assert not link.formula.startswith("vjp")
    assert link.autograd is not None and link.autograd < 1e-7  # torch's own 1 / 6 of hardsigmoid is a float32
    assert link.differences is not None and link.differences < 1e-6
    assert formula in (None, link.formula) and structure in (None, link.structure)
    dense = torch.func.jacrev(f)(x).reshape(table.shape)
    assert torch.allclose(table.derivative.reshape(table.shape), dense, rtol=1e-7, atol=1e-12)
    # pushed and pulled factors are one matrix, and its singular values are those shown
    p, q = link.shape
    pulled = torch.stack([link.pull(e.view(link.local.output)).reshape(-1) for e in torch.eye(p).double()])
    pushed = torch.stack([link.push(e.view(link.local.input)).reshape(-1) for e in torch.eye(q).double()], 1)
    assert torch.allclose(pulled, pushed, atol=1e-10) and torch.allclose(link.jacobian, pushed, atol=1e-10)
    values = torch.linalg.svdvals(pushed)
    assert link.largest == pytest.approx(float(values[0]), rel=2e-2)
    if link.smallest is not None:
        assert link.smallest == pytest.approx(float(values[-1]), abs=1e-9) or "block" in link.structure


def test_what_has_no_formula_here_is_autograds_and_says_so():
    link = chain_rule(lambda x: torch.cdist(x, x.roll(1, 0)).sum(), draw(4, 3)).every[1]
    assert link.formula == "vjp of cdist" and link.autograd is None
    assert link.differences is not None and link.differences < 1e-6


def test_nothing_is_said_to_be_wrong_at_a_kink():
    link = chain_rule(torch.relu, [0.0, 1.0]).links[0]
    assert link.kink and link.wrong is None
