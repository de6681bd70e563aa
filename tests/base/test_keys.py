"""Randomness is a function of seed, path, turn and purpose."""

import numpy as np
import pytest

from eitherway.base.keys import Key


def test_one_name_gives_one_stream():
    assert Key(3).numpy("a").random(4).tolist() == Key(3).numpy("a").random(4).tolist()


@pytest.mark.parametrize("other", [Key(1), Key(0, 1), Key(0, 0, ("x",)), Key(0).child("a"), Key(2**70)])
def test_another_seed_turn_or_path_gives_another_stream(other):
    assert Key(0).numpy("a").random() != other.numpy("a").random()


def test_a_seed_of_numpys_is_that_number():
    assert Key(np.int64(3)).numpy("a").random() == Key(3).numpy("a").random()


def test_another_purpose_gives_another_stream():
    assert Key(0).numpy("a").random() != Key(0).numpy("b").random()


def test_a_child_keeps_the_seed_and_the_clock():
    assert Key(5, 7).child("cmaes") == Key(5, 7, ("cmaes",)) and Key(5).at(7).child("a").at(2) == Key(5, 2, ("a",))


def test_integers_seed_what_is_not_ours():
    assert 0 <= Key(0).integer("cost") < 2**56 and Key(0).integer("cost") != Key(0).at(1).integer("cost")


def test_torch_generators_differ_beyond_32_bits_of_the_seed():
    torch = pytest.importorskip("torch")
    draws = [torch.rand(1, generator=Key(seed).torch("x")).item() for seed in (5, 5 + 2**32, 5)]
    assert draws[0] == draws[2] != draws[1]
