"""The scores of the benchmarks: what counts, when it counts, and how ratios are judged."""

import numpy as np
import pytest
from benchmarks.harness import fingerprint, quartiles, spread, table
from benchmarks.scores import TARGETS, Ledger, Spent, anytime, ratio, solved


def test_a_ledger_notes_when_each_target_was_first_met():
    ledger = Ledger(optimum=10.0, budget=4)
    for value in (210.0, 110.0, 10.5, 12.0):  # gaps 200, 100, 0.5, 2
        ledger.note(value)
    assert ledger.met == [2] + [3] * (int((TARGETS >= 0.5).sum()) - 1)
    assert ledger.left == 0


def test_what_comes_after_the_budget_does_not_count():
    ledger = Ledger(optimum=0.0, budget=1)
    ledger.note(1000.0)
    with pytest.raises(Spent):
        ledger.note(0.0)
    assert ledger.met == []
    assert ledger.evaluations == 1


def test_nan_and_inf_meet_no_target():
    ledger = Ledger(optimum=0.0, budget=2)
    ledger.note(float("nan"))
    ledger.note(float("inf"))
    assert ledger.met == []


def test_the_anytime_score_is_the_area_under_the_run_length_distribution():
    met, D, budget = [3, 40, 41, 900], 5, 1000
    logs = np.linspace(0, np.log10(budget / D), 200_001)
    share = np.mean([[e <= D * 10**x for x in (logs[:-1] + logs[1:]) / 2] for e in met], axis=1)
    area = share.mean() * len(met) / len(TARGETS)
    assert anytime(met, D, budget) == pytest.approx(area, abs=1e-5)
    assert solved(met) == 4 / 51


def test_earlier_is_better_and_more_is_better():
    assert anytime([10, 20], 5, 1000) > anytime([10, 30], 5, 1000) > anytime([10], 5, 1000)


def test_a_ratio_of_equals_is_one_and_its_interval_holds_it():
    scores = np.random.default_rng(0).random(100)
    assert ratio(scores, scores) == (1.0, 1.0, 1.0)
    middle, low, high = ratio(scores * 1.2, scores)
    assert [middle, low, high] == pytest.approx([1.2] * 3)
    noisy = scores + 0.3 * np.random.default_rng(1).random(100)
    middle, low, high = ratio(noisy, scores)
    assert 1 < low < middle < high


def test_spreads_and_tables_read_as_they_should():
    assert quartiles([4.0]) == (4.0, 4.0, 4.0)
    assert spread([1.0, 2.0, 3.0], 1) == "2.0 (1.5 to 2.5)"
    assert table(["a", "b"], [["x", 1]]) == "| a | b |\n|---|---:|\n| x | 1 |"


def test_a_fingerprint_changes_with_the_files_it_covers():
    assert fingerprint("benchmarks/scores.py") == fingerprint("benchmarks/scores.py")
    assert fingerprint("benchmarks/scores.py") != fingerprint("benchmarks/scores.py", "benchmarks/coco.py")
