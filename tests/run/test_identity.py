"""Which cost a run was begun with: the same in every process, and another as soon as the code says something else."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from eitherway.base.errors import JournalError
from eitherway.run.identity import find, identity


def cost(x, y=1):
    """A cost."""
    return x * x + y


def factory(noise):
    calls = 0

    def made(x):
        nonlocal calls
        calls += 1
        return x + noise

    return made


@dataclass(frozen=True)
class Settled:
    power: int = 2

    def __call__(self, x):
        return x**self.power


settled = Settled(3)


def same(a, b):
    ours, theirs = identity(a), identity(b)
    return all(ours.get(k) == theirs.get(k) for k in ("code", "settings"))


def test_layout_comments_and_the_docstring_do_not_count():
    def square(x):
        """One text."""
        return x * x

    def formatted(x):
        """Another text."""
        return (
            x  # times
            * x
        )

    assert same(square, formatted)
    assert not same(square, lambda x: x * x + 1)


def test_what_else_stands_in_the_statement_of_a_lambda_does_not_count():
    a = [lambda x: x + 1, 1000][0]
    b = [lambda x: x + 1, 2000][0]
    assert same(a, b)


def test_plain_values_closed_over_count_but_counters_do_not():
    one, two = factory(1.0), factory(2.0)
    before = identity(one)
    one(0)
    assert identity(one) == before
    assert not same(one, two)


def test_settings_of_objects_and_partials_count():
    assert not same(Settled(2), Settled(3))
    assert not same(functools.partial(cost, y=1), functools.partial(cost, y=2))
    assert not same(cost, functools.partial(cost, y=2))


@dataclass(frozen=True)
class Ladder:
    survives: Callable
    steps: int = 3
    weights: np.ndarray = field(default_factory=lambda: np.zeros(100))


class Rider:
    """Counts, and holds a frozen object that refers back to it."""

    def __init__(self, steps, road="flat"):
        self.ladder, self.road, self.calls = Ladder(self.survives, steps), road, 0

    def survives(self, x):
        return x > 0

    def __call__(self, x):
        self.calls += 1
        return float(x)


def test_of_other_objects_texts_and_frozen_parts_count_and_counters_do_not():
    rider = Rider(3)
    rider(1)
    assert same(rider, Rider(3))
    assert not same(rider, Rider(4))
    assert not same(rider, Rider(3, "hilly"))
    assert not same(Ladder(len), Ladder(len, weights=np.ones(100)))
    assert not same(Ladder(cost), Ladder(uses_a_set))


def test_the_identity_is_the_same_in_another_process():
    code = (
        "import json; from tests.run.test_identity import cost, settled, uses_a_set; "
        "from eitherway.run.identity import identity; "
        "print(json.dumps([identity(cost), identity(settled), identity(uses_a_set)]))"
    )
    for seed in ("1", "2"):
        out = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": seed}
        )
        here = json.loads(json.dumps([identity(cost), identity(settled), identity(uses_a_set)]))
        assert json.loads(out.stdout) == here, out.stderr


def uses_a_set(x):
    return x in {"a", "b", "c", "d"}


def test_no_address_is_kept():
    text = json.dumps(
        [identity(factory(1)), identity(Settled()), identity(print), identity(functools.partial(cost, object()))]
    )
    assert " at 0x" not in text


def test_functions_and_named_objects_are_found_again():
    assert find(identity(cost), "cost", "give it") is cost
    assert find(identity(settled), "cost", "give it") is settled


def test_what_has_no_name_of_its_own_is_asked_for():
    with pytest.raises(JournalError, match="the cost .*made cannot be imported, since no module holds it.*; give it"):
        find(identity(factory(1)), "cost", "give it")


def test_what_is_gone_is_asked_for():
    kept = identity(cost)
    kept["where"] = {**kept["where"], "name": "gone"}
    with pytest.raises(JournalError, match=r"test_identity.py:gone cannot be imported \(.*; give it"):
        find(kept, "cost", "give it")
    typed = {"name": "f", "where": {"module": "__main__", "file": None, "name": "f"}}
    with pytest.raises(JournalError, match="it was typed in, not read from a file"):
        find(typed, "cost", "give it")
    script = {"name": "f", "where": {"module": "__main__", "file": "/nowhere/script.py", "name": "f"}}
    with pytest.raises(JournalError, match="there is no script /nowhere/script.py"):
        find(script, "cost", "give it")


def test_a_scripts_cost_is_found_in_its_file_and_its_guarded_part_does_not_run(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import json, sys\nfrom eitherway.run.identity import identity\n"
        "def cost(x):\n    return x * x\n"
        "if __name__ == '__main__':\n    print(json.dumps(identity(cost)))\n    open(sys.argv[1], 'x').close()\n"
    )
    ran = tmp_path / "ran"
    kept = json.loads(subprocess.run([sys.executable, script, ran], capture_output=True, text=True, check=True).stdout)
    ran.unlink()
    found = find(kept, "cost", "give it")
    assert found(3) == 9
    assert not ran.exists()
    assert identity(found)["code"] == kept["code"]
