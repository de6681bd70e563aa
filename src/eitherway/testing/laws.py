"""The laws of a method, each a function that breaks it if it can: the eight of `Method`, and two that guard them."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from eitherway.base.errors import MethodError
from eitherway.base.keys import Key
from eitherway.methods.codec import decode, encode
from eitherway.methods.protocol import FAILED, OK, Method, Told
from eitherway.run.problem import Problem, seeded
from eitherway.run.search import Search
from eitherway.space.space import Space
from eitherway.space.variables import Array, Choice, Integer, Real

TURNS = 40


def costs() -> dict[str, Callable[..., Any]]:
    """Costs of one array that run on NumPy and on torch: a valley, one with equal values, one that fails in places."""

    def rosenbrock(x: Any) -> Any:
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

    def flat(x: Any) -> Any:
        return 0.0 * x.sum() + 1.0

    def failing(x: Any) -> Any:
        if float(x[0]) > 0.5:
            return float("nan")
        return ((x - 0.2) ** 2).sum()

    return {"rosenbrock": rosenbrock, "flat": flat, "failing": failing}


def spaces() -> dict[str, Space]:
    """Spaces of every kind of column: bounded, unbounded, with starts, wide, mixed, conditional, one column."""
    box = Space(Array((5,), -5, 5))
    mixed = Space(
        lr=Real(1e-5, 1, scale="log"),
        layers=Integer(1, 8),
        width=Integer(8, 512, scale="log"),
        act=Choice(["relu", "gelu", "tanh"]),
        drop=Real(0, 0.9, step=0.1).when(act=["relu", "gelu"]),
    )
    return {
        "box": box,
        "started": box.with_starts([np.full(5, 0.5), np.arange(5) / 5]),
        "unbounded": Space(Array((4,), start=1.0, spread=2.0)),
        "wide": Space(Array((40,), -5, 5)),
        "one column": Space(Array((1,), 0, 1)),
        "mixed": mixed,
        "discrete": Space(a=Integer(0, 3), b=Choice(["x", "y"]), c=Integer(-5, 5)),
    }


def _mixed_cost(**values: Any) -> float:
    numbers = (v if isinstance(v, (int, float)) else len(str(v)) for v in values.values())
    return float(sum(abs(n) ** 0.5 for n in numbers))


def drive(
    search: Search,
    cost: Callable[..., Any],
    turns: int = TURNS,
    each: Callable[[Search], None] = lambda search: None,
    *,
    moved_at: int = -1,
) -> Search:
    """Judges whole questions, as a run does, for so many turns or until the method stops.

    Args:
        each: called after every turn.
        moved_at: the turn after which values cannot be compared with those before.
    """
    problem = Problem(cost, search.space)
    for turn in range(turns):
        question = search.open()
        if question is None:
            break
        seed = problem.seed(search.key, search.state.turn)
        for row, point in enumerate(question.points):
            search.answers.put(row, problem.judge(search.inputs[row], point, question.wants, None, seed))
        search.move(search.answers.told(search.space.columns, question.wants, turn == moved_at))
        each(search)
    return search


def _served(method: Method, only: tuple[str, ...] = ()) -> dict[str, tuple[Space, Callable[..., Any]]]:
    """The spaces that a method serves, each with a cost."""
    served: dict[str, tuple[Space, Callable[..., Any]]] = {}
    for name, space in spaces().items():
        if only and name not in only:
            continue
        try:
            method.init(space, Key(0))
        except MethodError:
            continue
        served[name] = (space, costs()["rosenbrock"] if space.lone else _mixed_cost)
        if name == "one column":
            served[name] = (space, lambda x: ((x - 0.3) ** 2).sum())
    assert served, f"{method!r} serves none of the spaces {', '.join(spaces())}"
    return served


def ask_changes_nothing(method: Method) -> None:
    """Law 1: asked twice with one key, it answers the same; its state is as before; its points keep to the bounds."""
    for name, (space, cost) in _served(method).items():

        def check(search: Search, name: str = name) -> None:
            if search.stopped:
                return
            before = encode(search.state.method)
            first, second = (
                method.ask(search.state.method, search.space, search.key.at(search.state.turn)) for _ in "ab"
            )
            assert first.points.tobytes() == second.points.tobytes(), f"{name}: asked twice, it answered differently"
            assert encode(search.state.method) == before, f"{name}: ask wrote in the state"
            assert first.points.ndim == 2 and first.points.shape[1] == search.space.columns and len(first.points), (
                f"{name}: points {first.points.shape}"
            )
            assert (first.points == search.space.clip(first.points)).all(), f"{name}: points outside the bounds"
            assert first.points.dtype == np.float64 and first.wants in ("value", "gradient")

        drive(Search(space, method), cost, TURNS, check)


def saving_equals_never_stopping(method: Method) -> None:
    """Law 2: stop, save, load, go on = never stopped, bit for bit."""

    def reload(search: Search) -> None:
        search.state = decode(encode(search.state))

    for name, (space, cost) in _served(method).items():
        unbroken, reloaded = (
            drive(Search(space, method), cost, 3 * TURNS),
            drive(Search(space, method), cost, 3 * TURNS, reload),
        )
        assert encode(unbroken.state) == encode(reloaded.state), (
            f"{name}: a state that was saved and loaded went on differently"
        )


def tell_leaves_told_alone(method: Method) -> None:
    """Law 3: tell may write in its state, never in what it was told; no array stands in the state twice."""
    for name, (space, cost) in _served(method, ("box", "mixed")).items():
        kept: list[tuple[Told, Told]] = []

        class Watching(Search):
            def move(self, told: Told | None = None, *, kept: list[tuple[Told, Told]] = kept) -> None:
                assert told is not None
                kept.append((told, copy.deepcopy(told)))
                super().move(told)

        search = drive(Watching(space, method), cost)
        for told, before in kept:
            assert (
                told.values.tobytes() == before.values.tobytes() and told.status.tobytes() == before.status.tobytes()
            ), f"{name}: wrote in told"
            if told.gradients is not None and before.gradients is not None:
                assert told.gradients.tobytes() == before.gradients.tobytes(), f"{name}: wrote in told.gradients"
        shared = _shared(search.state.method)
        assert not shared, f"{name}: two fields of the state share one array"


def _shared(state: Any) -> bool:
    arrays: list[np.ndarray] = []

    def walk(x: Any) -> None:
        if isinstance(x, np.ndarray):
            arrays.append(x)
        elif isinstance(x, (list, tuple)):
            for i in x:
                walk(i)
        elif isinstance(x, dict):
            for i in x.values():
                walk(i)
        elif hasattr(x, "__dataclass_fields__"):
            for field in x.__dataclass_fields__:
                walk(getattr(x, field))

    walk(state)
    return any(np.may_share_memory(a, b) and a.size and b.size for i, a in enumerate(arrays) for b in arrays[:i])


def failures_never_become_the_best(method: Method) -> None:
    """Law 4: it survives NaN, failures, rows of nothing else, equal values and inf, or stops with a reason."""
    for name, (space, _) in _served(method, ("box", "mixed", "started")).items():
        for pattern in ("some fail", "first fails", "all fail", "all equal", "some inf"):
            search = Search(space, method, 1)
            generator = np.random.default_rng(0)
            lowest = np.inf
            for turn in range(TURNS):
                question = search.open()
                if question is None:
                    stop = search.stopped
                    assert stop is not None and stop.reason, f"{name}, {pattern}: stopped without a reason"
                    break
                P = len(question.points)
                values = generator.random(P)
                status = np.zeros(P, np.uint8)
                if pattern == "some fail":
                    status = (generator.random(P) < 0.3).astype(np.uint8) * FAILED
                elif pattern == "all fail" or (pattern == "first fails" and turn == 0):
                    status[:] = FAILED
                elif pattern == "all equal":
                    values[:] = 1.0
                elif pattern == "some inf":
                    values[generator.random(P) < 0.3] = np.inf
                values[status != OK] = np.nan
                gradients = np.where((status == OK)[:, None], generator.standard_normal(question.points.shape), np.nan)
                lowest = min(lowest, float(np.min(values[status == OK], initial=np.inf)))
                search.move(Told(values, status, gradients if question.wants == "gradient" else None))
            assert search.state.best_value == lowest, (
                f"{name}, {pattern}: best {search.state.best_value}, lowest told {lowest}"
            )
            advised = method.recommend(search.state.method)
            assert advised is None or np.isfinite(advised).all(), f"{name}, {pattern}: recommends {advised}"
    for name, (space, _) in _served(method, ("box",)).items():
        failed: list[np.ndarray] = []

        def keep(search: Search, failed: list[np.ndarray] = failed) -> None:
            question = search.open()
            if question is not None:
                failed.append(search.space.decode_together(question.points)[:, 0] > 0.5)

        drive(Search(space, method, 2), costs()["failing"], 2 * TURNS, keep)
        late = np.concatenate(failed)
        share = late[len(late) // 2 :].mean()
        assert share < 0.9, (
            f"{name}: {share:.0%} of its later points fail, where half of the box does: it goes where the cost fails"
        )


def lower_is_better(method: Method) -> None:
    """Law 5: told lower values for one half of a box, it does not end up asking the other half more often."""
    for name, (space, _) in _served(method, ("box",)).items():
        shares = []
        for seed in range(3):
            asked: list[np.ndarray] = []
            search = Search(space, method, seed)

            def keep(s: Search, asked: list[np.ndarray] = asked) -> None:
                if s.question is None and s.open() is not None and s.question is not None:
                    asked.append(s.question.points.copy())

            drive(search, lambda x: ((x - 4) ** 2).sum(), TURNS, keep)
            points = np.concatenate(asked)
            shares.append(float((points[len(points) // 2 :] > 0.5).mean()))
        assert np.median(shares) >= 0.45, f"{name}: it went away from lower values ({shares})"


def rows_share_the_seed(method: Method) -> None:
    """Law 6: every row of one question is judged with one seed, and the next question with another."""
    for _, (space, _) in _served(method, ("box",)).items():
        seen: list[int] = []

        @seeded
        def noisy(x: Any, seed: int, seen: list[int] = seen) -> Any:
            seen.append(seed)
            return (x**2).sum() + np.random.default_rng(seed).normal()

        per_turn: list[set[int]] = []

        def each(search: Search, seen: list[int] = seen, per_turn: list[set[int]] = per_turn) -> None:
            per_turn.append(set(seen))
            seen.clear()

        drive(Search(space, method), noisy, 10, each)
        assert all(len(seeds) == 1 for seeds in per_turn), "rows of one question saw different seeds"
        assert len(set.union(*per_turn)) == len(per_turn), "two questions saw one seed"


def every_point_goes_through_ask(method: Method) -> None:
    """Law 7: answered late, singly and in any order, a question moves the method as it does at once."""
    for name, (space, cost) in _served(method, ("box", "mixed")).items():
        at_once = drive(Search(space, method), cost, 12)
        late = Search(space, method)
        problem = Problem(cost, late.space)
        for _ in range(12):
            trials = [t for n in (1, 2, 10**6) for t in late.ask(n)]
            if not trials:
                break
            assert late.ask(5) == [], f"{name}: rows were handed out twice"
            for t in reversed(trials):
                late.tell(t, problem.judge(t.values, t.point, t.wants, None, None))
        assert encode(at_once.state) == encode(late.state), f"{name}: the order of the answers changed the state"


def refusals_name_others(method: Method) -> None:
    """Law 8: a space it cannot serve is refused in init, by a MethodError that names methods that can."""
    from eitherway.methods import known

    for name, space in spaces().items():
        try:
            method.init(space, Key(0))
        except MethodError as error:
            text = str(error).lower()
            assert any(other in text for other in known()), f"{name}: the refusal names no method that can: {error}"


def moved_values_are_forgotten(method: Method) -> None:
    """After `told.moved` it does not cling to points that were good under the old cost."""
    for name, (space, _) in _served(method, ("box",)).items():
        counting = Search(space, method)
        drive(counting, lambda x: ((x - 1.0) ** 2).sum(), 8)
        first = counting.state.told
        calls = [0]

        def shifting(x: Any, calls: list[int] = calls, first: int = first) -> Any:
            calls[0] += 1
            return ((x - 1.0) ** 2).sum() + (0.0 if calls[0] <= first else 1000.0)

        search = Search(space, method)
        drive(search, shifting, 8, moved_at=7)
        assert search.state.best_point is None, f"{name}: the search kept a best that cannot be compared"
        drive(search, lambda x: ((x + 2.0) ** 2).sum() + 1000.0, 3 * TURNS)
        assert search.state.best_value >= 1000.0, f"{name}: an old value survived"
        # 45 is what the old optimum is worth now; who compares with values told before finds nothing better than it
        assert search.state.best_value < 1022.5, f"{name}: after the cost moved it found only {search.state.best_value}"


def generators_have_names_of_their_own(method: Method) -> None:
    """No generator is opened under one name from two places: their draws would be the same numbers."""
    for _, (space, cost) in _served(method).items():
        seen: dict[Any, Any] = {}
        plain = Key.numpy

        def numpy(self: Key, purpose: str, seen: dict[Any, Any] = seen, plain: Any = plain) -> np.random.Generator:
            caller = sys._getframe(1)
            place = (caller.f_code.co_filename, caller.f_lineno)
            known = seen.setdefault((self.seed, self.turn, self.path, purpose), place)
            assert known == place, f"the generator {purpose!r} is opened at {known} and at {place}"
            return plain(self, purpose)

        Key.numpy = numpy
        try:
            drive(Search(space, method), cost, 3 * TURNS)
        finally:
            Key.numpy = plain


LAWS: tuple[Callable[[Method], None], ...] = (
    ask_changes_nothing,
    saving_equals_never_stopping,
    tell_leaves_told_alone,
    failures_never_become_the_best,
    lower_is_better,
    rows_share_the_seed,
    every_point_goes_through_ask,
    refusals_name_others,
    moved_values_are_forgotten,
    generators_have_names_of_their_own,
)


def check_method(method: Method) -> None:
    """Runs every law on a method; silence is obedience.

    Raises:
        AssertionError: saying which law was broken, in which space.

    >>> from eitherway.methods.variables.random_search import RandomSearch
    >>> check_method(RandomSearch())
    """
    for law in LAWS:
        try:
            law(method)
        except AssertionError as broken:
            raise AssertionError(f"{type(method).__name__} breaks the law `{law.__name__}`: {broken}") from broken
