"""What rides the bicycle: a linear policy of 8 weights or a small network of 58, for many riders at once.

A policy is a rule, its weights are data: `act(weights, observations)` takes one row of weights for each bicycle.
Outputs above 0.5 push one way, below -0.5 the other, between them nothing (`levels="three"`, the actions of the
paper); `levels="continuous"` pushes by as much.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from eitherway.base.errors import ModelError
from eitherway.bicycle.physics import BICYCLE, Bicycle, State, known
from eitherway.methods.allowed import is_whole

Levels = Literal["three", "continuous"]
Kind = Literal["linear", "mlp"]

SCALES = (
    BICYCLE.max_steer,
    2.0,
    BICYCLE.max_lean,
    0.5,
)  # of steer, its rate, lean, its rate: each about 1 in a normal ride


class Policy(Protocol):
    """A rule from observations to actions with a number of weights."""

    @property
    def kind(self) -> Kind: ...

    @property
    def weights(self) -> int: ...

    @property
    def observations(self) -> int: ...

    @property
    def actions(self) -> int: ...

    @property
    def levels(self) -> Levels: ...

    def act(self, weights: Any, observations: Any, *, xp: Any = np) -> Any: ...


@dataclass(frozen=True)
class Linear:
    """Action k = weighted sum of the observations, clipped to [-1, 1]; weights by action, (actions * observations,)."""

    observations: int = 4
    actions: int = 2
    levels: Levels = "three"

    def __post_init__(self) -> None:
        known(self.levels, Levels, "levels")

    @property
    def kind(self) -> Kind:
        return "linear"

    @property
    def weights(self) -> int:
        """How many numbers describe one rider."""
        return self.actions * self.observations

    def act(self, weights: Any, observations: Any, *, xp: Any = np) -> Any:
        """Actions (P, A) in [-1, 1] of P riders with weights (P, W) who see observations (P, O).

        Raises:
            ModelError: if a rider has another number of weights.
        """
        check_weights(self, weights)
        n = self.observations
        # sums in a fixed order: a matrix product's bits depend on how many bicycles ride
        raw = [_dot(weights[:, k * n : (k + 1) * n], observations) for k in range(self.actions)]
        return _levels(xp.stack(raw, 1), self.levels, xp)


@dataclass(frozen=True)
class MLP:
    """One hidden layer of tanh. Weights: for each hidden unit its inputs and its bias, then for each action the hidden
    units', then the biases.
    """

    observations: int = 4
    hidden: int = 8
    actions: int = 2
    levels: Levels = "three"

    def __post_init__(self) -> None:
        known(self.levels, Levels, "levels")
        if not (is_whole(self.hidden) and self.hidden >= 1):
            raise ModelError(f"MLP(hidden={self.hidden!r}): expected a whole number, at least 1 hidden unit")

    @property
    def kind(self) -> Kind:
        return "mlp"

    @property
    def weights(self) -> int:
        """How many numbers describe one rider."""
        return self.hidden * (self.observations + 1) + self.actions * (self.hidden + 1)

    def act(self, weights: Any, observations: Any, *, xp: Any = np) -> Any:
        """Actions (P, A) in [-1, 1] of P riders with weights (P, W) who see observations (P, O).

        Raises:
            ModelError: if a rider has another number of weights.
        """
        check_weights(self, weights)
        n, h = self.observations, self.hidden
        units = []
        for j in range(h):
            row = weights[:, j * (n + 1) : (j + 1) * (n + 1)]
            units.append(_dot(row[:, :n], observations) + row[:, n])
        hidden = xp.tanh(xp.stack(units, 1))  # (P, H)
        out, raw = h * (n + 1), []
        for k in range(self.actions):
            row = weights[:, out + k * h : out + (k + 1) * h]
            raw.append(_dot(row, hidden) + weights[:, out + self.actions * h + k])
        return _levels(xp.stack(raw, 1), self.levels, xp)


def make_policy(
    kind: str, observations: int, actions: int, *, hidden: int = 8, levels: Levels = "three"
) -> Linear | MLP:
    """The policy of a name.

    Raises:
        ModelError: if there is none of that name.
    """
    if known(kind, Kind, "policy") == "linear":
        return Linear(observations, actions, levels)
    return MLP(observations, hidden, actions, levels)


def observe(state: State, angle: Any = None, *, xp: Any = np, bicycle: Bicycle = BICYCLE) -> Any:
    """What a policy sees, (P, 4) or (P, 5) with the angle to the goal (P,) in radians: each about 1 in a ride."""
    steer, steer_rate, lean, lean_rate = (bicycle.max_steer, SCALES[1], bicycle.max_lean, SCALES[3])
    seen = [
        state.steer * (1 / steer),
        state.steer_rate * (1 / steer_rate),
        state.lean * (1 / lean),
        state.lean_rate * (1 / lean_rate),
    ]
    return xp.stack(seen if angle is None else [*seen, angle * (1 / np.pi)], 1)


def check_weights(policy: Policy, weights: Any) -> None:
    """Raises ModelError unless `weights` is (P, W) with the policy's W."""
    shape = tuple(weights.shape)
    if len(shape) != 2 or shape[1] != policy.weights:
        raise ModelError(
            f"weights of shape {shape} do not fit {policy}: expected (riders, {policy.weights}); "
            "one rider's weights become a row with weights[None]"
        )


def save_policy(path: str | Path, policy: Linear | MLP, weights: Any, *, task: str, **how: Any) -> None:
    """Keep one rider's weights (W,) in a safetensors file, with the policy, its task and how it was trained as text
    beside them.

    Args:
        path: of the file; overwritten.
        policy: the rule.
        weights: (W,).
        task: what it was trained for.
        how: anything JSON can say about the training: method, seed, episodes.
    """
    from safetensors.numpy import save_file

    row = np.ascontiguousarray(np.asarray(weights, dtype=np.float64))
    check_weights(policy, row[None] if row.ndim == 1 else row)
    about = {
        "kind": policy.kind,
        "observations": policy.observations,
        "actions": policy.actions,
        "levels": policy.levels,
    }
    if isinstance(policy, MLP):
        about["hidden"] = policy.hidden
    save_file(
        {"weights": row.reshape(-1)},
        str(path),
        metadata={"policy": json.dumps(about), "task": task, "trained": json.dumps(how, sort_keys=True)},
    )


def load_policy(path: str | Path) -> tuple[Linear | MLP, np.ndarray, dict[str, Any]]:
    """A kept policy, its weights (W,) and what is known about it: `task`, and whatever `save_policy` was told.

    Raises:
        ModelError: if the file is missing or is not a policy of ours.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "numpy") as file:
            metadata, weights = file.metadata() or {}, file.get_tensor("weights")
        about = json.loads(metadata["policy"])
        kind, hidden = about.pop("kind"), about.pop("hidden", 8)
        policy = make_policy(kind, **about, hidden=hidden)
        known_about = {"task": metadata["task"], **json.loads(metadata["trained"])}
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: expected a policy kept by save_policy (safetensors); {error}") from error
    check_weights(policy, weights[None])
    return policy, weights, known_about


def _dot(weights: Any, values: Any) -> Any:
    """(P,) sums of products of (P, n) and (P, n), from the first to the last."""
    total = weights[:, 0] * values[:, 0]
    for i in range(1, weights.shape[1]):
        total = total + weights[:, i] * values[:, i]
    return total


def _levels(raw: Any, levels: str, xp: Any) -> Any:
    """Raw outputs to actions in [-1, 1]; an output that is not a number does nothing in three levels."""
    if levels == "continuous":
        return xp.clip(raw, -1.0, 1.0)
    ones = xp.ones_like(raw)
    return (raw > 0.5) * ones - (raw < -0.5) * ones
