import subprocess
import sys

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")
env_checker = pytest.importorskip("gymnasium.utils.env_checker")

import eitherway.bicycle as bicycle  # noqa: E402
from eitherway.base.errors import ModelError  # noqa: E402
from eitherway.bicycle import simulate  # noqa: E402
from eitherway.bicycle.policies import Linear, observe  # noqa: E402
from eitherway.bicycle.tasks import Task  # noqa: E402

IDS = ("eitherway/BicycleBalance-v0", "eitherway/BicycleGoal-v0", "eitherway/WhippleBalance-v0")
RIDER = np.array([[-20.3, -9.1, 7.1, 11.6, -21.6, -5.0, 3.3, -6.1]])  # rides for ever


def make(name=IDS[0], **options):
    return gymnasium.make(name, disable_env_checker=True, **options).unwrapped


def make_vector(name=IDS[0], mode="vector_entry_point", count=6, autoreset="NextStep", **options):
    if mode == "sync":
        return gymnasium.make_vec(name, count, mode, vector_kwargs={"autoreset_mode": autoreset}, **options)
    return gymnasium.make_vec(name, count, mode, autoreset_mode=autoreset, **options)


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("actions", ["multi_discrete", "discrete", "discrete5", "continuous"])
def test_gymnasiums_checker_passes(name, actions):
    if actions == "discrete5" and "Whipple" in name:
        return
    for options in ({}, {"normalised": True}):
        env_checker.check_env(make(name, actions=actions, **options), skip_render_check=True)
    env_checker.check_env(make(name, actions=actions, render_mode="rgb_array"))


def test_the_environments_work_in_a_fresh_process():
    code = f"""
import sys, gymnasium, eitherway.bicycle
from gymnasium.utils.env_checker import check_env
for name in {IDS!r}:
    check_env(gymnasium.make(name, render_mode="rgb_array").unwrapped)
    envs = gymnasium.make_vec(name, num_envs=3, vectorization_mode="vector_entry_point")
    envs.reset(seed=1)
    envs.step(envs.action_space.sample())
    assert type(envs).__name__ == "BicycleVectorEnv"
assert "torch" not in sys.modules and "matplotlib" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_without_gymnasium_the_import_works_and_use_says_what_to_install():
    code = """
import sys
sys.modules["gymnasium"] = None
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "gymnasium" else find(name, *rest)
import eitherway.bicycle
try:
    eitherway.bicycle.BicycleEnv
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == (
        'Gymnasium is not installed; it comes with: pip install -e ".[rl]" -c constraints.txt'
    )


def test_a_seeds_ride_in_the_environment_is_that_of_the_batch():
    for name, task in zip(IDS, ("balance", "goal", "whipple")):
        setting = Task(task)
        env, batch = make(name, actions="continuous"), simulate.begin(setting, np.array([3, 77, 12345]))
        env.reset(seed=77)
        draw = np.random.default_rng(0)
        for _ in range(60):
            actions = draw.uniform(-1, 1, (3, setting.controls)).astype(np.float32)
            batch = simulate.advance(setting, batch, actions.astype(np.float64))
            seen, _, _, _, info = env.step(actions[1])
            np.testing.assert_array_equal(
                seen[:4], np.array([float(field[1]) for field in batch.state[:4]], dtype=np.float32)
            )
        assert info["distance"] == pytest.approx(0.6 * 10 / 3.6)


def test_a_policy_rides_the_environment_as_it_rides_the_simulation():
    env = make(horizon=1000)
    env.reset(seed=5)
    over, steps, info = False, 0, {}
    while not over:
        action = Linear().act(RIDER, observe(env._batch.state))[0] + 1
        _, reward, fell, timed_out, info = env.step(action.astype(int))
        assert reward == 0
        over, steps = fell or timed_out, steps + 1
    assert (steps, info["cause"], info["time"]) == (1000, "time", 10.0)
    assert simulate.rollout(RIDER, [5], horizon=1000).steps[0] == 1000


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("autoreset, reward", [("NextStep", "fall"), ("SameStep", "alive"), ("NextStep", "binary")])
def test_the_vector_environment_behaves_as_gymnasiums_own(name, autoreset, reward):
    options = {"reward": reward, "horizon": 120, "autoreset": autoreset, "noise": 0.03}
    mine, theirs = make_vector(name, **options), make_vector(name, mode="sync", **options)
    same((mine.reset(seed=11)), theirs.reset(seed=11))
    mine.action_space.seed(4)
    for _ in range(250):
        actions = mine.action_space.sample()
        same(mine.step(actions), theirs.step(actions))
    same(mine.reset(), theirs.reset())
    same(mine.reset(seed=[5, None, 7, None, 9, 1]), theirs.reset(seed=[5, None, 7, None, 9, 1]))
    same(mine.step(actions), theirs.step(actions))
    assert mine.metadata["autoreset_mode"] == theirs.metadata["autoreset_mode"]
    assert mine.single_observation_space == theirs.single_observation_space
    assert mine.action_space == theirs.action_space


def same(mine, theirs):
    """Equal in values and in kind, all the way down."""
    if isinstance(mine, tuple):
        assert len(mine) == len(theirs)
        for a, b in zip(mine, theirs):
            same(a, b)
    elif isinstance(mine, dict):
        assert set(mine) == set(theirs)
        for key in mine:
            same(mine[key], theirs[key])
    elif isinstance(mine, np.ndarray) and mine.dtype == object:
        assert mine.shape == theirs.shape
        for a, b in zip(mine, theirs):
            same(a, b)
    elif isinstance(mine, np.ndarray):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)
    else:
        assert mine == theirs


def test_with_autoreset_off_only_the_named_bicycles_start_anew():
    envs = make_vector(autoreset="Disabled")
    envs.reset(seed=0)
    for _ in range(300):
        _, _, over, _, infos = envs.step(np.ones((6, 2), int))
        if over.any():
            break
    with pytest.raises(gymnasium.error.ResetNeeded):
        envs.step(np.ones((6, 2), int))
    _, infos = envs.reset(options={"reset_mask": over})
    np.testing.assert_array_equal(infos["_time"], over)
    _, _, _, _, infos = envs.step(np.ones((6, 2), int))
    np.testing.assert_array_equal(infos["time"] == 0.01, over)
    with pytest.raises(ModelError, match=" booleans, one of them True at least"):
        envs.reset(options={"reset_mask": np.ones(3, bool)})


def ride(actions=1, **options):
    """All of one ride with one action: rewards, and how it ended."""
    env = make(**options)
    env.reset(seed=3)
    action, rewards, over, out = np.full(env.action_space.shape, actions), [], False, ()
    while not over:
        out = env.step(action)
        rewards.append(out[1])
        over = out[2] or out[3]
    return rewards, out[2], out[3], out[4]


def test_rewards_are_what_their_names_say():
    for reward, rest, last in (("fall", 0.0, -1.0), ("alive", 1.0, 0.0), ("binary", 0.0, 0.0)):
        rewards, fell, timed_out, info = ride(reward=reward)
        assert (fell, timed_out, info["cause"]) == (True, False, "fall")
        assert set(rewards[:-1]) == {rest}
        assert rewards[-1] == last
    for reward, rest, last in (("fall", 0.0, 0.0), ("alive", 1.0, 1.0), ("binary", 0.0, 1.0)):
        rewards, fell, timed_out, info = ride(reward=reward, horizon=20)
        assert (fell, timed_out, info["cause"], len(rewards)) == (False, True, "time", 20)
        assert set(rewards[:-1]) == {rest}
        assert rewards[-1] == last


def test_the_goal_is_rewarded_once_and_ends_the_ride():
    from eitherway.bicycle.physics import to_goal

    weights = np.array([[-17.23, -4.27, 9.16, 14.57, -13.85, -2.39, -14.24, 0.88, -11.13, 1.97]])
    env = make(IDS[1], reward="goal")
    env.reset(seed=1)
    start = env._batch.state  # 12 m before the circle, on the way to it
    near = start._replace(x=np.array([977.0]), heading=np.array([-np.pi / 2]))
    env._batch = env._batch._replace(state=near, clock=np.array([35_000]))
    rewards, over, info = [], False, {}
    while not over:
        state = env._batch.state
        action = Linear(5, 2).act(weights, observe(state, to_goal(state)[0]))[0] + 1
        _, reward, arrived, timed_out, info = env.step(action.astype(int))
        rewards.append(reward)
        over = arrived or timed_out
    assert sum(rewards) == rewards[-1] == 1.0
    assert info["cause"] == "goal"
    assert info["to_goal"] < 10
    assert info["distance"] == pytest.approx((35_000 + len(rewards)) / 36)


def test_every_kind_of_action_can_say_the_same():
    pairs = [(torque, shift) for torque in range(3) for shift in range(3)]
    for k, pair in enumerate(pairs):
        reference = make(actions="multi_discrete")
        reference.reset(seed=1)
        expected = reference.step(np.array(pair))[0]
        others = {"discrete": k, "continuous": np.array(pair, dtype=np.float32) - 1}
        if 1 in pair:
            others["discrete5"] = {(1, 1): 0, (0, 1): 1, (2, 1): 2, (1, 0): 3, (1, 2): 4}[pair]
        for actions, action in others.items():
            env = make(actions=actions)
            env.reset(seed=1)
            np.testing.assert_array_equal(env.step(action)[0], expected)


def test_observations_stay_in_their_space_until_the_end():
    for name in IDS:
        for normalised in (False, True):
            envs = make_vector(name, count=64, autoreset="SameStep", actions="continuous", normalised=normalised)
            envs.reset(seed=0)
            envs.action_space.seed(0)
            action = np.sign(envs.action_space.sample())
            for _ in range(500):
                seen, _, _, _, infos = envs.step(action)
                assert envs.observation_space.contains(seen)
                for last in infos.get("final_obs", []):
                    assert last is None or envs.single_observation_space.contains(last)


def test_later_rides_of_a_seed_differ_and_repeat():
    env = make()

    def two_rides():
        env.reset(seed=9)
        first = env.step(np.array([1, 1]))[0]
        env.reset()
        return first, env.step(np.array([1, 1]))[0]

    first, second = two_rides()
    again = two_rides()
    assert (first != second).any()
    np.testing.assert_array_equal(first, again[0])
    np.testing.assert_array_equal(second, again[1])


def test_a_ride_that_is_over_asks_for_reset():
    env = make(horizon=1)
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset"):
        env.step(np.array([1, 1]))
    env.reset(seed=0)
    env.step(np.array([1, 1]))
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset"):
        env.step(np.array([1, 1]))


def test_pictures_and_lines_show_the_ride():
    env = make(render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    assert (before.shape, before.dtype) == ((300, 560, 3), np.uint8)
    for _ in range(30):
        env.step(np.array([2, 2]))
    assert (env.render() != before).mean() > 0.01
    text = make(render_mode="ansi")
    text.reset(seed=0)
    assert "lean   +0.0°" in text.render()
    both = make_vector(count=2, render_mode="rgb_array")
    both.reset(seed=0)
    both.step(np.ones((2, 2), int))
    assert [picture.shape for picture in both.render()] == [(300, 560, 3)] * 2


def test_a_picture_of_the_vector_environment_is_that_of_the_single_one():
    single, both = make(render_mode="rgb_array"), make_vector(count=2, render_mode="rgb_array")
    single.reset(seed=1)
    both.reset(seed=0)
    for _ in range(40):
        single.step(np.array([1, 2]))
        both.step(np.array([[0, 1], [1, 2]]))
    np.testing.assert_array_equal(both.render()[1], single.render())


@pytest.mark.parametrize(
    "options, message",
    [
        ({"actions": "discret"}, r"actions='discret' is not known. Did you mean discrete\?"),
        ({"reward": "alife"}, r"reward='alife' is not known. Did you mean alive\?"),
        ({"reward": "goal"}, ", which has no goal: expected fall, alive or binary"),
        ({"integrator": "semi-implicit"}, r"Did you mean semi_implicit\?"),
        ({"gyro": "none"}, "gyro='none' is not known"),
        ({"noise": -1.0}, ": expected metres, 0 or more"),
        ({"speed": -3.0}, "speed=-3.0: expected metres per second above 0"),
        ({"render_mode": "rgb_aray"}, r"render_mode='rgb_aray' is not known. Did you mean rgb_array\?"),
    ],
)
def test_bad_options_say_what_was_expected(options, message):
    from eitherway.bicycle.vector import BicycleVectorEnv

    with pytest.raises(ModelError, match=message):
        bicycle.BicycleEnv(**options)
    with pytest.raises(ModelError, match=message):
        BicycleVectorEnv(2, **options)


@pytest.mark.parametrize("actions", ["multi_discrete", "discrete", "discrete5", "continuous"])
@pytest.mark.parametrize("action", [[], None, "left", True, {"a": 1}, [1, [2]], [1j, 0], [0, 0, 0], object()])
def test_an_action_that_is_none_is_told_the_action_space(actions, action):
    env = make(actions=actions)
    env.reset(seed=0)
    with pytest.raises(ModelError, match="for each bicycle, as the action space says|3 actions for one bicycle"):
        env.step(action)


def test_one_bicycle_takes_one_action():
    env = make()
    env.reset(seed=0)
    with pytest.raises(ModelError, match="2 actions for one bicycle: expected one; BicycleVectorEnv takes many"):
        env.step([[1, 1], [1, 1]])


@pytest.mark.parametrize("seed", [2**80, True])
def test_a_seed_beyond_the_roads_is_refused(seed):
    with pytest.raises(ModelError, match=r"expected a whole number from 0 to below 2\*\*63, or None"):
        make().reset(seed=seed)


@pytest.mark.parametrize("seed", [1.5, "a", ["a", 1, 2], [1.5, 2, 3]])
def test_seeds_of_many_that_are_none_are_refused(seed):
    with pytest.raises(ModelError, match="expected a whole number from 0 to below"):
        make_vector(count=3).reset(seed=seed)


def test_settings_of_many_that_cannot_be_are_refused():
    from eitherway.bicycle.vector import BicycleVectorEnv

    for count in ("2", 1.5, None, True):
        with pytest.raises(ModelError, match="num_envs=.*: expected at least 1 bicycle"):
            BicycleVectorEnv(count)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"autoreset_mode='SameStp' is not known. Did you mean SameStep\?"):
        BicycleVectorEnv(2, autoreset_mode="SameStp")


def test_bad_actions_say_what_was_expected():
    env = make()
    env.reset(seed=0)
    for action in (np.array([1, 3]), np.array([-1, 0]), np.array([0.5, 0.5])):
        with pytest.raises(ModelError, match=": expected whole numbers from 0 to "):
            env.step(action)
    smooth = make(actions="continuous")
    smooth.reset(seed=0)
    with pytest.raises(ModelError, match=r"expected finite numbers in \[-1, 1\]"):
        smooth.step(np.array([np.nan, 0.0]))
    with pytest.raises(ModelError, match="actions='discrete5' on the Whipple bicycle"):
        make(IDS[2], actions="discrete5")
    envs = make_vector(count=3)
    envs.reset(seed=0)
    with pytest.raises(ModelError, match=" bicycles: expected one each"):
        envs.step(np.ones((2, 2), int))
    with pytest.raises(ModelError, match=" bicycles: expected one each, or one number"):
        envs.reset(seed=[1, 2])
    with pytest.raises(ModelError, match=": expected at least 1 bicycle"):
        make_vector(count=0)
