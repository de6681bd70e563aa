import numpy as np
import pytest

from eitherway.bicycle import noise


def test_a_seed_has_the_same_noise_alone_and_in_a_batch():
    seeds = np.array([5, 2**62 + 1, -3, 0])
    together = noise.uniform(noise.keys(seeds), 17)
    for seed, value in zip(seeds, together):
        assert noise.uniform(noise.keys(np.array([seed])), 17)[0] == value


def test_torch_draws_the_same_numbers_to_the_last_bit():
    torch = pytest.importorskip("torch")
    seeds = np.arange(-500, 500) * 987654321987654
    for step in (-1, 0, 99_999):
        mine = noise.uniform(noise.keys(seeds), step)
        theirs = noise.uniform(noise.keys(torch.as_tensor(seeds), xp=torch), step, xp=torch)
        np.testing.assert_array_equal(mine, theirs.numpy())


def test_the_noise_is_splitmix64():
    """The first outputs of SplitMix64 seeded with 1234567, as published with its reference implementation."""
    published = (6457827717110365317, 3203168211198807973, 9817491932198370423)
    key = np.array([1234567], np.uint64)
    for step, output in enumerate(published):
        assert noise.uniform(key, step)[0] == (output >> 11) * 2.0**-52 - 1.0


def test_the_noise_is_even_and_without_memory():
    # a million numbers: every bound is more than 5 standard errors of a uniform sample
    drawn = np.stack([noise.uniform(noise.keys(np.arange(1000)), step) for step in range(1000)])
    assert drawn.min() >= -1
    assert drawn.max() < 1
    assert abs(drawn.mean()) < 5 / np.sqrt(3e6)
    assert abs(drawn.var() * 3 - 1) < 0.005
    for a, b in ((drawn[:-1], drawn[1:]), (drawn[:, :-1], drawn[:, 1:])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.006
    counts = np.histogram(drawn, 64, (-1, 1))[0]
    assert (
        (counts - 15625) ** 2 / 15625
    ).sum() < 130  # chi-squared with 63 degrees: mean 63, one in a million above 130


def test_steps_may_differ_from_rider_to_rider():
    keys = noise.keys(np.array([1, 2]))
    both = noise.uniform(keys, np.array([4, 9]))
    assert both[0] == noise.uniform(keys, 4)[0]
    assert both[1] == noise.uniform(keys, 9)[1]


def test_negative_seeds_and_zero_are_seeds_like_any_other():
    drawn = noise.uniform(noise.keys(np.arange(-50, 50)), -1)
    assert len(set(drawn.tolist())) == 100
    assert abs(noise.uniform(noise.keys(np.array([0])), -1)[0]) < 1
