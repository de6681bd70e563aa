import math
from dataclasses import replace

import numpy as np
import pytest

from eitherway.base.errors import ModelError
from eitherway.bicycle.physics import BICYCLE, Bicycle, State, accelerations, fallen, start, step, to_goal

BEFORE = State(*(np.array([value]) for value in (0.1, 0.2, 0.05, -0.1, 0.3, 1.0, 2.0)))
# our own figures of the published equations, computed once with signs and turning radii as they are printed
AFTER = (
    0.1042805142818373,
    0.4280514281837302,
    0.0489994475325061,
    -0.1000552467493906,
    0.302510877679816,
    0.9917911053705184,
    2.026537124697934,
)


def published_accelerations(theta, theta_rate, omega, omega_rate, torque, displacement):
    """The equations as printed: signs, turning radii, and no turn when the handlebar is straight."""
    b = BICYCLE
    phi = omega + math.atan(displacement / b.mass_height)
    if theta == 0:
        front = rear = centre = 0.0
    else:
        front = abs(math.sin(theta)) / b.wheelbase
        rear = abs(math.tan(theta)) / b.wheelbase
        centre = 1 / math.sqrt((b.wheelbase - b.front_to_mass) ** 2 + b.wheelbase**2 / math.tan(theta) ** 2)
    turn = b.speed**2 * (b.tyre_mass * b.wheel_radius * (front + rear) + b.mass * b.mass_height * centre)
    sign = math.copysign(1, theta) if theta else 0.0
    lean = b.mass * b.mass_height * b.gravity * math.sin(phi)
    lean -= math.cos(phi) * (b.spin_inertia * b.wheel_rate * theta_rate + sign * turn)
    return lean / b.lean_inertia, (torque - b.coupling_inertia * b.wheel_rate * omega_rate) / b.steer_inertia


def test_constants_are_those_of_the_paper():
    assert BICYCLE.wheel_rate == pytest.approx(8.169934640522875, rel=1e-15)
    assert BICYCLE.lean_inertia == pytest.approx(149.69, rel=1e-12)
    assert (BICYCLE.spin_inertia, BICYCLE.coupling_inertia, BICYCLE.steer_inertia) == pytest.approx(
        (0.19652, 0.29478, 0.09826), rel=1e-12
    )


def test_one_step_gives_the_known_numbers():
    later = step(BEFORE, 2.0, np.array([0.02]))
    assert [float(field[0]) for field in later] == pytest.approx(AFTER, rel=1e-14)


def test_one_explicit_step_gives_the_known_numbers():
    later = step(BEFORE, 2.0, np.array([0.02]), integrator="explicit")
    expected = (0.102, AFTER[1], 0.049, *AFTER[3:])
    assert [float(field[0]) for field in later] == pytest.approx(expected, rel=1e-14)


def test_a_rider_who_leans_out_at_rest_falls_at_the_known_rate():
    lean, steer = accelerations(start(1), 0.0, 0.02)
    assert lean[0] == pytest.approx(0.09838110123415438, rel=1e-14)
    assert steer[0] == 0


def test_the_form_without_branches_equals_the_published_one():
    draw = np.random.default_rng(0).uniform(-1, 1, (6, 200)) * np.array([1.39, 2, 0.2, 1, 2, 0.04])[:, None]
    draw[0, 0] = 0.0
    zero = np.zeros(200)
    lean, steer = accelerations(State(*draw[:4], zero, zero, zero), draw[4], draw[5])
    expected = np.array([published_accelerations(*column) for column in draw.T])
    np.testing.assert_allclose(lean, expected[:, 0], rtol=0, atol=2e-14)
    np.testing.assert_allclose(steer, expected[:, 1], rtol=0, atol=2e-14)


def test_left_and_right_are_the_same():
    mirrored = step(State(*(-f for f in BEFORE[:6]), BEFORE.y), -2.0, -np.array([0.02]))
    later = step(BEFORE, 2.0, np.array([0.02]))
    for mine, theirs in zip(mirrored[:6], later[:6]):
        assert mine[0] == -theirs[0]
    assert mirrored.y[0] == later.y[0]


def test_torch_steps_as_numpy_does():
    torch = pytest.importorskip("torch")
    before = State(*(torch.as_tensor(field) for field in BEFORE))
    for integrator in ("semi_implicit", "explicit"):
        later = step(before, 2.0, torch.tensor([0.02], dtype=torch.float64), xp=torch, integrator=integrator)
        plain = step(BEFORE, 2.0, np.array([0.02]), integrator=integrator)
        for mine, theirs in zip(later, plain):
            assert float(mine) == pytest.approx(float(theirs[0]), rel=1e-15)


def growth(gyro):
    """Eigenvalues of the motion about straight running: continuous, from the slopes of the accelerations."""
    h, columns = 1e-6, []
    for k in range(4):
        ends = []
        for side in (h, -h):
            fields = [np.zeros(1) for _ in range(7)]
            fields[k] = np.array([side])
            state = State(*fields)
            lean, steer = accelerations(state, 0.0, np.zeros(1), gyro=gyro)
            ends.append(np.array([state.steer_rate[0], steer[0], state.lean_rate[0], lean[0]]))
        columns.append((ends[0] - ends[1]) / (2 * h))
    return np.linalg.eigvals(np.array(columns).T)


def test_the_published_sign_falls_as_fast_as_known():
    found = growth("published")
    for expected in (4.7115, -2.3558 + 3.4294j, -2.3558 - 3.4294j, 0):
        assert min(abs(found - expected)) < 1e-4


def test_the_skew_sign_falls_half_as_fast():
    assert growth("skew").real.max() == pytest.approx(2.34, abs=0.02)


def test_the_handlebar_stops_at_the_frame():
    fields = [np.zeros(2) for _ in range(7)]
    fields[0], fields[1] = np.array([1.39, -1.39]), np.array([5.0, -5.0])
    runs_on = step(State(*fields), 0.0, np.zeros(2))
    stopped = step(State(*fields), 0.0, np.zeros(2), integrator="explicit")
    np.testing.assert_array_equal(runs_on.steer, [1.3963, -1.3963])
    np.testing.assert_array_equal(runs_on.steer_rate, fields[1])
    np.testing.assert_array_equal(stopped.steer_rate, 0)


def test_the_back_wheel_rolls_as_far_as_its_speed_says():
    state = BEFORE
    later = step(state, 0.0, np.zeros(1))
    assert math.hypot(later.x[0] - 1, later.y[0] - 2) == pytest.approx(BICYCLE.speed * 0.01, rel=1e-12)


def test_a_held_handlebar_rides_a_circle():
    # all constants but the geometry are beside the point: the steer is put back each step
    state, steer = start(1)._replace(steer=np.array([0.3])), np.array([0.3])
    radius = BICYCLE.wheelbase / math.tan(0.3)
    for _ in range(int(2 * math.pi * radius / BICYCLE.speed * 100)):
        state = step(state, 0.0, np.zeros(1))._replace(steer=steer, steer_rate=np.zeros(1))
    assert math.hypot(state.x[0], state.y[0]) < 0.1
    assert state.heading[0] == pytest.approx(2 * math.pi, abs=0.02)


def test_the_goal_lies_ninety_degrees_to_the_right():
    angle, distance = to_goal(start(1))
    assert angle[0] == pytest.approx(-math.pi / 2, abs=2e-3)
    assert distance[0] == pytest.approx(math.hypot(1000, BICYCLE.wheelbase))


def test_a_lean_that_is_no_number_is_a_fall():
    state = start(3)._replace(lean=np.array([0.2, 0.21, np.nan]))
    assert fallen(state).tolist() == [False, True, True]


def test_gradients_flow_through_a_ride():
    torch = pytest.importorskip("torch")
    gain = torch.tensor([3.0], dtype=torch.float64, requires_grad=True)

    def lean_after(gain):
        state = start(1, xp=torch)
        for _ in range(30):
            state = step(state, gain * state.lean_rate, torch.tensor([0.02], dtype=torch.float64), xp=torch)
        return state.lean[0]

    slope = torch.autograd.grad(lean_after(gain), gain)[0]
    h = 1e-5
    by_difference = (lean_after(gain.detach() + h) - lean_after(gain.detach() - h)) / (2 * h)
    assert float(slope) == pytest.approx(float(by_difference), rel=1e-6)
    assert abs(float(slope)) > 1e-9


def test_unknown_settings_are_named_with_the_nearest():
    with pytest.raises(ModelError, match=r"integrator='explict' is not known. Did you mean explicit\?"):
        step(start(1), 0.0, np.zeros(1), integrator="explict")  # pyright: ignore
    with pytest.raises(ModelError, match=r"gyro='publishd' is not known. Did you mean published\?"):
        step(start(1), 0.0, np.zeros(1), gyro="publishd")  # pyright: ignore


@pytest.mark.parametrize("name, value", [("speed", 0.0), ("speed", -1.0), ("time_step", 0.0)])
def test_a_bicycle_without_speed_or_time_is_refused(name, value):
    with pytest.raises(ModelError, match=rf"Bicycle\({name}={value}\): expected a number above 0"):
        Bicycle(**{name: value})


def test_a_bicycle_that_may_lean_further_than_flat_is_refused():
    with pytest.raises(ModelError, match="expected radians between 0 and 1.5"):
        replace(BICYCLE, max_lean=12.0)
