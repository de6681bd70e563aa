import numpy as np
import pytest

from eitherway.base.errors import ModelError
from eitherway.bicycle.physics import start
from eitherway.bicycle.policies import MLP, Linear, load_policy, make_policy, observe, save_policy


def test_the_policies_have_eight_and_fifty_eight_weights():
    assert Linear(4, 2).weights == 8
    assert MLP(4, actions=2).weights == 58
    assert Linear(5, 2).weights == 10
    assert Linear(4, 1).weights == 4


def test_a_linear_policy_is_a_matrix_product_with_a_dead_zone():
    draw = np.random.default_rng(0).normal(size=(100, 12))
    weights, seen = draw[:, :8], draw[:, 8:]
    raw = np.einsum("pko,po->pk", weights.reshape(100, 2, 4), seen)
    np.testing.assert_array_equal(Linear().act(weights, seen), np.where(abs(raw) > 0.5, np.sign(raw), 0))
    continuous = Linear(levels="continuous").act(weights, seen)
    np.testing.assert_allclose(continuous, raw.clip(-1, 1), atol=1e-14)


def test_the_network_is_two_layers_with_biases():
    draw = np.random.default_rng(1).normal(size=(50, 62))
    weights, seen = draw[:, :58], draw[:, 58:]
    inner = weights[:, :40].reshape(50, 8, 5)
    hidden = np.tanh(np.einsum("pho,po->ph", inner[:, :, :4], seen) + inner[:, :, 4])
    raw = np.einsum("pkh,ph->pk", weights[:, 40:56].reshape(50, 2, 8), hidden) + weights[:, 56:]
    found = MLP(levels="continuous").act(weights, seen)
    np.testing.assert_allclose(found, raw.clip(-1, 1), atol=1e-13)


def test_torch_acts_as_numpy_does():
    torch = pytest.importorskip("torch")
    draw = np.random.default_rng(2).normal(size=(64, 62))
    for policy in (Linear(), MLP(), Linear(levels="continuous"), MLP(levels="continuous")):
        weights, seen = draw[:, : policy.weights], draw[:, 58:]
        theirs = policy.act(torch.as_tensor(weights), torch.as_tensor(seen), xp=torch)
        np.testing.assert_allclose(theirs.numpy(), policy.act(weights, seen), atol=1e-14)


def test_a_policy_that_answers_no_number_does_nothing():
    weights = np.full((1, 8), np.nan)
    np.testing.assert_array_equal(Linear().act(weights, np.ones((1, 4))), 0)


def test_observations_are_scaled_by_the_limits():
    state = start(1)._replace(steer=np.array([1.3963]), lean=np.array([np.pi / 15]), lean_rate=np.array([0.5]))
    np.testing.assert_allclose(observe(state), [[1, 0, 1, 1]])
    np.testing.assert_allclose(observe(state, np.array([np.pi / 2]))[0, 4], 0.5)


@pytest.mark.parametrize("policy", [Linear(5, 2), MLP(4, 3, 1, "continuous")])
def test_a_kept_policy_comes_back(policy, tmp_path):
    weights = np.random.default_rng(0).normal(size=policy.weights)
    save_policy(tmp_path / "rider.safetensors", policy, weights, task="goal", method="cmaes", episodes=42)
    back, kept, about = load_policy(tmp_path / "rider.safetensors")
    assert back == policy
    np.testing.assert_array_equal(kept, weights)
    assert about == {"task": "goal", "method": "cmaes", "episodes": 42}


def test_a_file_that_is_no_policy_is_refused(tmp_path):
    with pytest.raises(ModelError, match="expected a policy kept by save_policy"):
        load_policy(tmp_path / "missing.safetensors")
    (tmp_path / "text").write_text("not a policy")
    with pytest.raises(ModelError, match="expected a policy kept by save_policy"):
        load_policy(tmp_path / "text")


def test_wrong_numbers_of_weights_are_told_apart():
    with pytest.raises(ModelError, match=r"weights of shape \(1, 7\) do not fit Linear.*expected \(riders, 8\)"):
        Linear().act(np.zeros((1, 7)), np.zeros((1, 4)))
    with pytest.raises(ModelError, match=r"weights\[None\]"):
        Linear().act(np.zeros(8), np.zeros((1, 4)))


def test_unknown_policies_and_levels_are_named_with_the_nearest():
    with pytest.raises(ModelError, match=r"policy='liner' is not known. Did you mean linear\?"):
        make_policy("liner", 4, 2)
    with pytest.raises(ModelError, match=r"levels='thre' is not known. Did you mean three\?"):
        Linear(levels="thre")  # pyright: ignore
    with pytest.raises(ModelError, match="at least 1 hidden unit"):
        MLP(hidden=0)
