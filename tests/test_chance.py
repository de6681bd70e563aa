"""Nothing in the house draws from a global generator: the same seeds before every test would hide it."""

import ast
from pathlib import Path

import pytest

import eitherway
from tests.sources import parsed

HOUSE = Path(eitherway.__file__).parent
DRAWS = {
    *("rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "poisson"),
    *("normal_", "uniform_", "random_", "bernoulli_", "exponential_", "cauchy_", "geometric_", "log_normal_"),
}
"""Torch's functions and methods that take a `generator`."""
ALIKE = {"rand_like", "randn_like", "randint_like"}
SEEDS = {"torch.manual_seed", "torch.seed", "torch.random.manual_seed", "np.random.seed", "np.random.set_state"}


def chances(tree: ast.Module) -> list[str]:
    """Calls that draw from a global generator or seed one."""
    modules = {a.asname or a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "random":
            found.append(f"line {node.lineno}: from random")
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner, name = ast.unparse(node.func.value), node.func.attr
        torchs = owner == "torch" or name.endswith("_")
        given = any(keyword.arg == "generator" for keyword in node.keywords)
        plain = owner == "random" and "random" in modules and name not in ("Random", "getstate")
        legacy = (
            owner in ("np.random", "numpy.random") and name[0].islower() and name not in ("default_rng", "get_state")
        )
        seeds = f"{owner}.{name}" in SEEDS
        if plain or legacy or seeds or (torchs and not given and name in DRAWS) or (owner == "torch" and name in ALIKE):
            found.append(f"line {node.lineno}: {owner}.{name}")
    return found


@pytest.mark.parametrize("path", sorted(HOUSE.rglob("*.py")), ids=lambda path: str(path.relative_to(HOUSE)))
def test_no_file_draws_without_a_generator(path):
    assert chances(parsed(path)) == []


@pytest.mark.parametrize(
    "source",
    [
        "torch.rand(3)",
        "weight.normal_(0, 1)",
        "torch.randn_like(x)",
        "torch.manual_seed(0)",
        "import random\nrandom.shuffle(rows)",
        "from random import random",
        "np.random.rand(3)",
    ],
)
def test_what_draws_is_seen(source):
    assert len(chances(ast.parse(source))) == 1


def test_what_is_given_its_chance_passes():
    assert not chances(
        ast.parse("torch.randn(3, generator=g); x.normal_(generator=g); np.random.default_rng(0); r.rand()")
    )
