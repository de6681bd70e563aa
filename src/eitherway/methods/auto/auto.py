"""Auto: two engines share one budget by what they gain, so that nobody has to know the cost beforehand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from eitherway.base.errors import MethodError
from eitherway.methods.allowed import check
from eitherway.methods.codec import state
from eitherway.methods.protocol import Method, Question, Stop, Told, better
from eitherway.methods.variables.cmaes import CMAES
from eitherway.methods.variables.de import DE
from eitherway.methods.variables.sqp import SQP, SQPState

if TYPE_CHECKING:
    from eitherway.base.keys import Key
    from eitherway.space.space import Space

_AHEAD = 0.75  # of the evaluations go to the engine ahead; the rest keeps a second opinion alive
_STEPS = 5  # accepted steps of SQP after which its first start tells what the ground is like
_ROUGH = 3.0  # trial points a step; 1 to 2.5 where a quadratic model holds, 3 to 7 where ripples or noise hide it
_STARTS = 5  # of SQP, before another engine is asked on smooth ground
_LEAD = 100  # evaluations a column that an engine has first: the other one on rough ground, the first without SQP
_FEW = 8  # columns below which DE finds its way about integers and choices sooner than CMAES
_DENSE = 400  # columns beyond which a covariance costs more than it tells within a usual budget
_KNOWN = {"sqp": SQP(), "cmaes": CMAES(), "de": DE()}


@state
class Account:
    """What one engine has cost and brought.

    Args:
        turns: how often it was told; its own clock.
        spent: evaluations.
        best: (2,) the best standing it was told: violation, value.
        stale: whether the cost has moved since it was last told.
    """

    turns: int
    spent: int
    best: np.ndarray
    stale: bool


@state
class AutoState:
    """The engines' names and states, their accounts, whose turn it is; what the cost is like, and if it constrains.

    `ground` is "" as long as it is unknown, "smooth" or "rough" by how SQP fared, "moving" once the cost has moved.
    """

    names: list[str]
    states: list[Any]
    accounts: list[Account]
    now: int
    ground: str
    constrained: bool


@dataclass(frozen=True)
class Auto(Method["AutoState"]):
    """The method of whoever names none: engines that know different things share the budget.

    Real columns: SQP, which is quick on whatever is smooth, and CMAES, which needs ranks only (DE beyond 400 columns).
    Integers or choices among them: CMAES and DE (first, below 8 columns). Each engine searches as it would alone, and
    the engine whose best value is lower has three evaluations in four. SQP comes before that: its first steps tell
    whether the ground is smooth, and then it has five starts before the other is asked; or rough, and then the other
    has 100 D evaluations. Without SQP the first engine has them. An engine that stops hands its share on. Evaluations
    are counted, never seconds, so a run can be repeated anywhere.

    Args:
        engines: methods to share between instead, at least two, each of its own class.
    """

    engines: tuple[Method, ...] = ()

    def __post_init__(self) -> None:
        check(self)

    def init(self, space: Space, key: Key) -> AutoState:
        """Every engine's first state.

        Raises:
            MethodError: if the named engines are too few, alike, or one of them cannot serve the space.
        """
        names = [_name(engine) for engine in self.engines]
        if len(names) == 1 or len(set(names)) < len(names):
            raise MethodError(
                f"Auto got engines={', '.join(names)}; expected none, or at least two, each of its own class. "
                f"To use one method alone, name it: method={names[0]!r}"
            )
        names = names or self._suited(space)
        states = [self._engine(name).init(space, key.child(name).at(0)) for name in names]
        return AutoState(names, states, [Account(0, 0, np.full(2, np.inf), False) for _ in names], 0, "", False)

    def ask(self, state: AutoState, space: Space, key: Key) -> Question:
        """The question of the engine whose turn it is, untouched."""
        i = state.now
        name = state.names[i]
        return self._engine(name).ask(state.states[i], space, key.child(name).at(state.accounts[i].turns))

    def tell(self, state: AutoState, space: Space, question: Question, told: Told, key: Key) -> AutoState:
        """Hands the answers to the engine that asked, writes its account, and says whose turn is next."""
        s, i = state, state.now
        name, account = s.names[i], s.accounts[i]
        s.constrained = s.constrained or told.violations is not None
        standings = told.standings()
        row = np.lexsort((standings[:, 1], standings[:, 0]))[0] if len(standings) > 1 else 0
        if better(standings[row], account.best):
            account.best = standings[row].copy()
        stale, account.stale = account.stale, False
        if stale and not told.moved:
            told = replace(told, moved=True)  # what this engine remembers is older than the cost
        elif told.moved:
            s.ground = "moving"
            for other in s.accounts:
                other.best, other.stale = np.full(2, np.inf), True
            account.stale = False
        engine_key = key.child(name).at(account.turns)
        s.states[i] = self._engine(name).tell(s.states[i], space, question, told, engine_key)
        account.turns += 1
        account.spent += len(told.values)
        if not s.ground:
            s.ground = _ground(s.states[0])
        s.now = self._choose(s, space.columns)
        return s

    def recommend(self, state: AutoState) -> np.ndarray | None:
        """What the engine ahead advises."""
        i = _ahead(state)
        return self._engine(state.names[i]).recommend(state.states[i])

    def stopped(self, state: AutoState) -> Stop | None:
        """Once all engines have stopped; an error where all of them ended in one."""
        stops = [self._engine(name).stopped(inner) for name, inner in zip(state.names, state.states)]
        if any(self._alive(name, inner, state.constrained) for name, inner in zip(state.names, state.states)):
            return None
        if all(stop is None for stop in stops):
            return Stop("no engine is left that heeds constraints; CMAES, DE, GA and PSO do", error=True)
        reasons = [stop for stop in stops if stop is not None]
        return Stop("; ".join(stop.reason for stop in reasons), all(stop.error for stop in reasons))

    def findings(self, state: AutoState, sign: float = 1.0) -> str:
        """What the ledger says of the cost so far, as a sentence or two."""
        if not np.isfinite(state.accounts[_ahead(state)].best[0]):
            return "Nothing has had a value yet."
        parts = []
        for name, account in zip(state.names, state.accounts):
            if account.spent:
                value = f"best {sign * account.best[1]:.6g}" if np.isfinite(account.best[0]) else "no value"
                parts.append(f"{name} {value} in {account.spent} evaluations")
        found = "; ".join(parts) + f". {state.names[_ahead(state)]} is ahead."
        first = state.states[0]
        if isinstance(first, SQPState):
            how = "autograd, which agrees with differences" if first.autograd and first.checked else "differences"
            found += f" sqp goes by {how}; the ground is {state.ground or 'not known yet'}."
        return found

    # ---- whose turn -------------------------------------------------------------------------------------------------
    def _suited(self, space: Space) -> list[str]:
        if len(space.discrete):
            return ["de", "cmaes"] if space.columns < _FEW else ["cmaes", "de"]
        return ["sqp", "cmaes" if space.columns <= _DENSE else "de"]

    def _engine(self, name: str) -> Method:
        return next((engine for engine in self.engines if _name(engine) == name), None) or _KNOWN[name]

    def _alive(self, name: str, inner: Any, constrained: bool) -> bool:
        engine = self._engine(name)
        return engine.stopped(inner) is None and (engine.heeds_constraints or not constrained)

    def _choose(self, s: AutoState, columns: int) -> int:
        alive = [i for i, name in enumerate(s.names) if self._alive(name, s.states[i], s.constrained)]
        if len(alive) < 2:
            return alive[0] if alive else s.now
        first, second = s.states[alive[0]], s.accounts[alive[1]]
        if isinstance(first, SQPState):
            if not s.ground or (s.ground == "smooth" and first.start < _STARTS):
                return alive[0]
            if s.ground == "rough" and second.spent < _LEAD * columns:
                return alive[1]
        elif not s.ground and s.accounts[alive[0]].spent < _LEAD * columns:
            return alive[0]
        ahead, rest = _ahead(s), (1 - _AHEAD) / (len(alive) - 1)
        due = [s.accounts[i].spent / (_AHEAD if i == ahead else rest) for i in alive]
        return alive[int(np.argmin(due))]


def _name(engine: Method) -> str:
    return type(engine).__name__.lower()


def _ground(first: Any) -> str:
    """What the first start of SQP says of the ground; "" where that is not known yet, or SQP is not the first."""
    if not isinstance(first, SQPState):
        return ""
    if first.start:  # over before it has made its steps: a plateau, a failure, or solved already
        return "rough"
    if first.steps < _STEPS:
        return ""
    return "rough" if first.trials >= _ROUGH * first.steps else "smooth"


def _ahead(s: AutoState) -> int:
    """The engine whose best is better than the others'; the earlier one where they tie."""
    ahead = 0
    for i in range(1, len(s.accounts)):
        if better(s.accounts[i].best, s.accounts[ahead].best):
            ahead = i
    return ahead
