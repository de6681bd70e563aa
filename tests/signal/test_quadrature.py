"""The grid of an activation: its weights, its order, and that panels settle where they must."""

import math

import pytest
import torch

from eitherway.signal.quadrature import grid


def test_the_grid_integrates_polynomials_of_a_normal_exactly():
    points = grid(lambda x: x)
    assert points.expect(torch.ones_like(points.z)) == pytest.approx(1, abs=1e-14)
    for power, moment in ((2, 1), (4, 3), (6, 15), (8, 105)):
        assert points.expect(points.z**power) == pytest.approx(moment, rel=1e-12)


def test_points_rise_and_lie_where_the_pre_activation_does():
    points = grid(torch.relu, mean=0.3, scale=2.0)
    assert bool((points.z.diff() > 0).all())
    assert torch.equal(points.u, 0.3 + 2.0 * points.z)


@pytest.mark.parametrize("place", [0.0, 0.1, 1 / 3, math.pi / 2])
def test_a_jump_is_integrated_rightly_wherever_it_lies(place):
    points = grid(lambda x: (x > place).double())
    assert points.expect(points.values) == pytest.approx(0.5 * math.erfc(place / math.sqrt(2)), abs=1e-12)


def test_thousands_of_jumps_end_in_a_bounded_time():
    points = grid(lambda x: torch.round(500 * x))
    assert points.expect(points.values**2) == pytest.approx(500**2 + 1 / 12, rel=1e-6)
    assert len(points.z) < 2_000_000


def test_fast_waves_are_resolved():
    points = grid(lambda x: torch.sin(200 * x))
    assert points.expect(points.values**2) == pytest.approx(0.5, rel=1e-10)
