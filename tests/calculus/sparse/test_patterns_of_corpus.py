"""Every function of the corpus: its pattern misses nothing, and most patterns are exactly the non-zeros."""

from functools import cache

import pytest
from tests.corpora import generator
from tests.corpora.functions import CASES, Case, dense, non_zeros

from eitherway.calculus.sparse.follow import follow
from eitherway.graph import capture


@cache
def judged(case: Case) -> tuple[int, int]:
    """Non-zeros that the pattern misses, and entries it has to spare."""
    f, x = case.make(generator(case.name))
    true = non_zeros(dense(f, x)).numpy()
    found = follow(capture(f, x)).rows.toarray().reshape(true.shape)
    return int((true & ~found).sum()), int((found & ~true).sum())


def test_most_patterns_are_exactly_the_non_zeros() -> None:
    exact = sum(judged(case) == (0, 0) for case in CASES)
    assert exact / len(CASES) >= 0.85


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_patterns_miss_nothing_and_are_tight_where_they_can_be(case: Case) -> None:
    missed, spare = judged(case)
    assert missed == 0
    if case.tight and not case.name.startswith("custom Function"):  # what is inside one is its own affair
        assert spare == 0
