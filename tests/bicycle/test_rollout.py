"""The compiled ride and the plain one: laws that both obey, and that they are the same ride."""

import subprocess
import sys

import numpy as np
import pytest

from eitherway.base.errors import MissingExtra, ModelError
from eitherway.bicycle import kernel, simulate
from eitherway.bicycle.physics import BICYCLE
from eitherway.bicycle.tasks import FALL, GOAL_REACHED, TIME, TRACK, Task

# the most robust of 20,000 random ones: 100 of 100 roads at 2, 4 and 6 cm of noise and with either gyro sign
RIDER = np.array([-20.3, -9.1, 7.1, 11.6, -21.6, -5.0, 3.3, -6.1])
SETTINGS = [
    {},
    {"integrator": "explicit"},
    {"gyro": "skew"},
    {"levels": "continuous"},
    {"policy": "mlp"},
    {"policy": "mlp", "hidden": 3, "task": "goal"},
    {"task": "goal"},
    {"task": "goal", "levels": "continuous", "speed": 4.0},
    {"task": "whipple", "speed": 4.0},
    {"task": "whipple", "speed": (1.0, 8.0), "policy": "mlp"},
    {"noise": 0.0},
]
NAMES = [",".join(map(str, setting.values())) or "default" for setting in SETTINGS]


def riders(count, setting, seed=0):
    """Random riders of the right size for a setting; scale 10 so that some ride for long."""
    from eitherway.bicycle.policies import make_policy

    task = Task(setting.get("task", "balance"))
    policy = make_policy(
        setting.get("policy", "linear"), task.observations, task.controls, hidden=setting.get("hidden", 8)
    )
    return np.random.default_rng(seed).normal(size=(count, policy.weights)) * 10


@pytest.mark.parametrize("setting", SETTINGS, ids=NAMES)
def test_a_ride_is_the_same_alone_and_in_a_batch(setting):
    weights, seeds = riders(200, setting), np.arange(200) * 7919
    together = kernel.rollout(weights, seeds, horizon=1500, record=1, **setting)
    for i in range(0, 200, 9):
        alone = kernel.rollout(weights[i], [seeds[i]], horizon=1500, record=1, **setting)
        np.testing.assert_array_equal(alone.tracks[0], together.tracks[i])
        assert alone.cause[0] == together.cause[i]
        np.testing.assert_array_equal(alone.closest_distance_m[0], together.closest_distance_m[i])


@pytest.mark.parametrize("setting", SETTINGS, ids=NAMES)
def test_a_plain_ride_is_the_same_alone_and_in_a_batch(setting):
    weights, seeds = riders(60, setting), np.arange(60) * 7919
    together = simulate.rollout(weights, seeds, horizon=300, **setting)
    for i in range(0, 60, 13):
        alone = simulate.rollout(weights[i], [seeds[i]], horizon=300, **setting)
        for mine, theirs in zip(alone[:5], together[:5]):
            np.testing.assert_array_equal(mine[0], theirs[i])


def test_a_ride_in_torch_is_the_same_alone_and_in_a_batch():
    torch = pytest.importorskip("torch")
    weights, seeds = torch.as_tensor(riders(40, {"task": "goal"})), torch.arange(40)
    together = simulate.rollout(weights, seeds, horizon=200, task="goal", xp=torch)
    for i in range(0, 40, 13):
        alone = simulate.rollout(weights[i], seeds[i], horizon=200, task="goal", xp=torch)
        assert alone.steps[0] == together.steps[i]
        assert alone.final_distance_m[0] == together.final_distance_m[i]


@pytest.mark.parametrize("setting", SETTINGS, ids=NAMES)
def test_the_compiled_ride_is_the_plain_one(setting):
    """Their sines differ in the last bit; until a policy's threshold magnifies that, the states agree."""
    weights, seeds = riders(300, setting), np.arange(300)
    fast = kernel.rollout(weights, seeds, horizon=1000, **setting)
    plain = simulate.rollout(weights, seeds, horizon=1000, **setting)
    assert (fast.steps == plain.steps).mean() > 0.97
    assert (fast.cause == plain.cause).mean() > 0.98
    same = fast.steps == plain.steps
    np.testing.assert_allclose(fast.path_m, fast.steps * plain.path_m / plain.steps, rtol=1e-12)
    if setting.get("task") == "goal":
        early = same & (fast.steps < 100)
        np.testing.assert_allclose(fast.final_distance_m[early], plain.final_distance_m[early], rtol=1e-9)


def test_early_states_agree_to_rounding():
    setting = Task()
    fast = kernel.rollout(RIDER, np.arange(20), horizon=60, record=1)
    batch = simulate.begin(setting, np.arange(20))
    for k in range(60):
        for column, field in enumerate(batch.state):
            np.testing.assert_allclose([track[k, column] for track in fast.tracks], field, rtol=0, atol=1e-12)
        actions = np.array([track[k, 7:9] / [2.0, 0.02] for track in fast.tracks])
        batch = simulate.advance(setting, batch, actions)


def test_torch_rides_as_numpy_does():
    torch = pytest.importorskip("torch")
    weights = riders(200, {})
    plain = simulate.rollout(weights, np.arange(200), horizon=1000)
    theirs = simulate.rollout(torch.as_tensor(weights), torch.arange(200), horizon=1000, xp=torch)
    assert (plain.steps == theirs.steps).mean() > 0.97


def test_an_idle_rider_falls_after_one_and_a_half_to_two_seconds():
    rides = kernel.rollout(np.zeros(8), np.arange(1000))
    assert set(rides.cause.tolist()) == {FALL}
    assert 120 < rides.steps.min()
    assert rides.steps.max() < 300
    assert 150 < np.median(rides.steps) < 200


def test_a_good_rider_stays_up_for_a_thousand_seconds():
    rides = kernel.rollout(RIDER, np.arange(20))
    assert set(rides.cause.tolist()) == {TIME}
    assert set(rides.steps.tolist()) == {100_000}
    np.testing.assert_allclose(rides.path_m, 1000 * BICYCLE.speed)


def test_without_noise_nobody_falls_who_starts_upright_and_does_nothing():
    rides = kernel.rollout(np.zeros((1, 8)), [3], noise=0.0, horizon=5000)
    assert rides.cause[0] == TIME


def test_a_rider_whose_sums_are_no_numbers_ends_all_the_same():
    for levels in ("three", "continuous"):
        rides = kernel.rollout([[1e308, -1e308] * 4], [0], levels=levels)
        assert rides.cause[0] == FALL


def goal_seekers():
    weights = riders(4000, {"task": "goal"}, seed=0)
    rides = kernel.rollout(weights, np.arange(4000), task="goal")
    return weights, rides


def test_some_random_riders_reach_the_goal_and_the_distances_say_so():
    weights, rides = goal_seekers()
    arrived = rides.cause == GOAL_REACHED
    assert arrived.any()
    assert (rides.final_distance_m[arrived] < 10).all()
    assert (rides.final_distance_m[~arrived] >= 10).all()
    assert (rides.closest_distance_m <= rides.final_distance_m).all()
    assert (rides.path_m[arrived] >= 990 - 1.2).all()
    best = int(arrived.argmax())
    again = kernel.rollout(weights[best], [best], task="goal", record=1).tracks[0]
    heading, x, y = again[-1, 4:7]
    front = x - 1.11 * np.sin(heading), y + 1.11 * np.cos(heading)
    assert np.hypot(1000 - front[0], front[1]) < 10 + 0.03


def test_tracks_are_kept_as_sparsely_as_asked():
    every = kernel.rollout(RIDER, [1, 2], horizon=100, record=1)
    sparse = kernel.rollout(RIDER, [1, 2], horizon=100, record=7)
    assert every.tracks[0].shape == (100, len(TRACK))
    np.testing.assert_array_equal(sparse.tracks[1], every.tracks[1][::7])
    np.testing.assert_array_equal(every.tracks[0][0], 0)


def test_a_whipple_ride_draws_its_speed_from_its_seed():
    rides = kernel.rollout(np.zeros(4), np.arange(200), task="whipple", speed=(1.0, 8.0), horizon=1)
    speeds = rides.path_m / 0.01
    assert speeds.min() > 1
    assert speeds.max() < 8
    assert speeds.std() > 1.5


def test_one_rider_meets_many_seeds_and_many_riders_one():
    assert kernel.rollout(RIDER, np.arange(5), horizon=10).steps.shape == (5,)
    assert kernel.rollout(np.zeros((3, 8)), 1, horizon=10).steps.shape == (3,)
    with pytest.raises(ModelError, match=" seeds: expected one seed a rider, or one of either"):
        kernel.rollout(np.zeros((3, 8)), [1, 2])
    with pytest.raises(ModelError, match="seeds of dtype .*: expected whole numbers"):
        kernel.rollout(np.zeros((1, 8)), [1.5])


@pytest.mark.parametrize("rollout", [kernel.rollout, simulate.rollout], ids=["compiled", "plain"])
@pytest.mark.parametrize(
    "given, message",
    [
        ({"task": "balanc"}, r"task='balanc' is not known. Did you mean balance\?"),
        ({"policy": "mpl"}, r"policy='mpl' is not known. Did you mean mlp\?"),
        ({"integrator": "implicit"}, r"integrator='implicit' is not known. Did you mean semi_implicit\?"),
        ({"gyro": "screw"}, r"gyro='screw' is not known. Did you mean skew\?"),
        ({"levels": "continous"}, r"levels='continous' is not known. Did you mean continuous\?"),
        ({"noise": -0.01}, ": expected metres, 0 or more; 0.02"),
        ({"speed": 0.0}, "speed=0.0: expected metres per second above 0"),
        ({"speed": (1.0, 2.0)}, "only the Whipple bicycle takes a range of speeds"),
        ({"horizon": 0}, ": expected a whole number of steps of 0.01 s"),
        ({"task": "goal"}, r"weights of shape \(1, 8\) do not fit Linear.*expected \(riders, 10\)"),
    ],
)
def test_bad_settings_say_what_was_expected(rollout, given, message):
    with pytest.raises(ModelError, match=message):
        rollout(np.zeros((1, 8)), [0], **given)


@pytest.mark.parametrize("rollout", [kernel.rollout, simulate.rollout], ids=["compiled", "plain"])
@pytest.mark.parametrize(
    "given, message",
    [
        ({"policies": [[float("nan")] * 8, [0.0] * 8]}, "policies hold 8 weights that are no finite number"),
        ({"policies": [0.0] * 7 + [float("-inf")]}, "policies hold 1 weights that are no finite number"),
        ({"policies": [["a"] * 8]}, r"policies are \[\['a', .*expected rows of numbers, one a rider"),
        ({"policies": None}, "weights that are no finite number|expected rows of numbers"),
        ({"policies": [[0.0] * 8, [0.0]]}, "expected rows of numbers, one a rider"),
        ({"policies": np.zeros((1, 1, 8))}, r"policies of shape \(1, 1, 8\): expected rows of numbers"),
        ({"seeds": ["x"]}, "seeds .*expected whole numbers"),
        ({"seeds": [True]}, "seeds of dtype bool: expected whole numbers"),
        ({"seeds": [[1]]}, r"seeds of shape \(1, 1\): expected whole numbers below"),
        ({"horizon": "9"}, "horizon='9': expected a whole number of steps"),
        ({"horizon": float("nan")}, "horizon=nan: expected a whole number of steps"),
        ({"horizon": 2**70}, ": expected a whole number of steps"),
        ({"noise": None}, "noise=None: expected metres, 0 or more"),
        ({"speed": "9"}, "speed='9': expected metres per second above 0"),
        ({"speed": (1, 2, 3), "task": "whipple"}, r"speed=\(1, 2, 3\): expected metres per second above 0"),
        ({"hidden": 8.5, "policy": "mlp"}, r"MLP\(hidden=8.5\): expected a whole number"),
    ],
)
def test_what_is_no_number_does_not_ride(rollout, given, message):
    with pytest.raises(ModelError, match=message):
        rollout(**{"policies": [[0.0] * 8], "seeds": [1], **given})


def test_tracks_too_large_to_keep_are_refused_with_a_way_out(monkeypatch):
    monkeypatch.setattr(kernel, "MAX_TRACK_BYTES", 1000)
    with pytest.raises(ModelError, match=" or a shorter horizon keeps fewer"):
        kernel.rollout(RIDER, [0], horizon=100, record=1)
    with pytest.raises(ModelError, match=r": expected 0 \(no tracks\) or how many steps apart"):
        kernel.rollout(RIDER, [0], record=-1)
    with pytest.raises(ModelError, match=r"record='1': expected 0 \(no tracks\) or how many"):
        kernel.rollout(RIDER, [0], record="1")  # pyright: ignore


def test_without_numba_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "eitherway.bicycle.lanes", raising=False)
    import eitherway.bicycle as package

    monkeypatch.delattr(package, "lanes", raising=False)
    with pytest.raises(MissingExtra, match=r'numba is not installed; it comes with: pip install -e ".\[rl\]"'):
        kernel.rollout(RIDER, [0])


def test_importing_the_bicycle_is_light():
    code = (
        "import sys, eitherway.bicycle; "
        "print([m for m in ('numba', 'torch', 'matplotlib', 'PIL', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_polynomials_are_the_functions_they_stand_for():
    from eitherway.bicycle import lanes

    x = np.linspace(-1.58, 1.58, 4001)
    np.testing.assert_allclose([lanes._sin(v) for v in x], np.sin(x), rtol=0, atol=4e-16)
    np.testing.assert_allclose([lanes._cos(v) for v in x], np.cos(x), rtol=0, atol=4e-16)
    wide = np.linspace(-25, 25, 4001)
    np.testing.assert_allclose([lanes._tanh(v) for v in wide], np.tanh(wide), rtol=0, atol=1e-14)
    angles = np.linspace(-np.pi, np.pi, 4001)
    found = [lanes._atan2(v, u) for u, v in zip(3 * np.cos(angles), 3 * np.sin(angles))]
    np.testing.assert_allclose(found, np.arctan2(np.sin(angles), np.cos(angles)), rtol=0, atol=1e-15)
    assert lanes._atan2(0.0, 0.0) == 0


def test_threads_ride_side_by_side():
    """The lock of the interpreter is free during a ride: rides in four threads are those of one."""
    from concurrent.futures import ThreadPoolExecutor

    weights = riders(64, {})
    alone = kernel.rollout(weights, np.arange(64), horizon=2000)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda k: kernel.rollout(weights, np.arange(64), horizon=2000), range(8)))
    for rides in together:
        np.testing.assert_array_equal(rides.steps, alone.steps)


def test_where_nothing_can_be_written_it_compiles_anew(monkeypatch):
    from numba.core import caching

    from eitherway.bicycle import lanes

    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    doubled = lanes._compiled(lambda x: 2 * x)
    assert doubled(3.0) == 6.0
