"""The loop every verb is built on: ask, judge, keep, tell, until there is a reason to stop."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from eitherway.base.errors import CostError, Failed, MethodError
from eitherway.methods.protocol import OK, Question
from eitherway.run.answers import Answer, Answers
from eitherway.run.history import History
from eitherway.run.parts import Book, Pool, Step, Watch
from eitherway.run.problem import Problem, told_by
from eitherway.run.randomness import GlobalRandomness
from eitherway.run.search import Search
from eitherway.run.stopping import Interruption, Limits, clock
from eitherway.space.condition import describe

TYPOS = ("NameError", "TypeError", "AttributeError", "ImportError", "ModuleNotFoundError", "UnboundLocalError")
ALIKE = 5
"""So many first points failing with one text stop the run: a typo must not cost a night."""
TICK = 0.05
"""Seconds between two looks at the progress line and the file while rows are judged."""


_FORKS = object()
"""Another object in every process that was forked: who finds not the one he began with is somebody's child."""


def _forked() -> None:
    global _FORKS
    _FORKS = object()


os.register_at_fork(after_in_child=_forked)


class Run:
    """One call's worth of a search: moves it turn by turn until `reason` says why not.

    Args:
        search, problem, limits: what moves, what judges, what it may spend.
        watch, book, pool: progress, journal and workers; None for none.
        callbacks: called with each Step; returning True stops the run.
    """

    def __init__(
        self,
        search: Search,
        problem: Problem,
        limits: Limits,
        *,
        watch: Watch | None = None,
        book: Book | None = None,
        pool: Pool | None = None,
        callbacks: Sequence[Callable[[Step], Any]] = (),
    ):
        self.search, self.problem, self.limits = search, problem, limits
        self.watch, self.book, self.pool, self.callbacks = watch, book, pool, callbacks
        self.history = History(search.space, problem.sign)
        self.reason: str | None = None
        self.notes: list[str] = []
        self.interrupted = False
        self.judged = 0
        self._forks = _FORKS
        self._first_failures: list[str] | None = []
        self._told_flat = False

    # ---- the loop ---------------------------------------------------------------------------------------------------
    def steps(self) -> Iterator[Step]:
        """Moves until there is a reason to stop; a Step for each finished turn, where callbacks or `stepping` want one.

        Closing it early is a way to stop.
        """
        self.started = self._looked = clock()
        self.deadline = None if self.limits.seconds is None else self.started + self.limits.seconds
        if self.watch:
            self.watch.begin(self)
        with Interruption() as self.interruption:
            try:
                if self.book:
                    self.book.replay(self)
                    self._first_failures = [] if not self.search.evaluations else None
                while self.reason is None:
                    step = self._turn()
                    if step is not None:
                        if self.stepping:  # while the loop is in the user's hands, so is Ctrl-C
                            self.interruption.rest()
                        yield step
                        if self.stepping:
                            self.interruption.listen()
                        stops = [callback(step) is True for callback in self.callbacks]  # all hear of every turn
                        if self.reason is None and any(stops):
                            self.reason = "a callback asked to stop"
            except CostError:
                if self.book and self.search.state.told == self.search.state.failures and not self._any_value():
                    self.book.discard()
                    self.book = None
                raise
            finally:
                self._finish()

    def _any_value(self) -> bool:
        return self.search.question is not None and bool(
            (self.search.answers.done & (self.search.answers.status == OK)).any()
        )

    def _finish(self) -> None:
        if self.pool:
            self.pool.close()
        search = self.search
        if search.question is not None and search.answers.missing < len(search.answers):
            self.history.add(search.state.turn, search.question.points, search.answers)
        self.seconds = clock() - self.started
        if self.book:
            self.book.close(self.reason)
        if self.watch:
            self.watch.end(self)

    def _turn(self) -> Step | None:
        """Judges the present question as far as the limits allow; a Step if it was finished."""
        search, limits = self.search, self.limits
        self.reason = limits.after_turn(search.state)
        if self.reason or self._late() or self._asked_to_stop():
            return None
        before = clock()
        question = search.open()
        engine = clock() - before
        if question is None:
            stop = search.stopped
            assert stop is not None
            if stop.error:
                raise CostError(stop.reason)
            self.reason = stop.reason
            return None
        self._judge(question)
        answers = search.answers
        if answers.violations and not getattr(search.method, "heeds_constraints", True):
            raise MethodError(
                f"{type(search.method).__name__} does not heed constraints, and the cost has some; "
                "choose CMAES, DE, GA, PSO, or leave method= out"
            )
        if answers.missing:
            if self.book:
                self.book.part(search.state.turn, answers)
            return None
        return self._end_turn(question, answers, engine)

    def _end_turn(self, question: Question, answers: Answers, engine: float) -> Step | None:
        """Keeps the full question and tells the method; a Step if anybody reads it."""
        search, turn, step = self.search, self.search.state.turn, None
        self.history.add(turn, question.points, answers)
        points = question.points.copy() if self.callbacks or self.stepping else None  # tell may write in the question
        if self.book:
            self.book.turn(turn, question, answers)
        before = clock()
        moved = self.problem.merge(answers.reports, len(answers))
        search.move(answers.told(search.space.columns, question.wants, moved))
        if self.book:
            self.book.moved(self, engine + clock() - before)
        s, sign = search.state, self.problem.sign
        if self.limits.met(s.best_value) and s.best_violation == 0:
            self.reason = self.reason or self.limits.target_sentence
        self._flat()
        self._look()
        if points is not None:
            step = Step(turn, s.told, search.best, sign * s.best_value, points, sign * answers.values, search)
        return step

    stepping = False
    """Whether somebody reads every Step (`iterate`), so that it must own its arrays."""

    # ---- judging ----------------------------------------------------------------------------------------------------
    def _judge(self, question: Question) -> None:
        """Fills the present answers, row by row, until the question is full or something stops the run."""
        search = self.search
        seed = self.problem.seed(search.key, search.state.turn)
        room = self.limits.budget - search.evaluations
        fresh = search.answers.missing == len(search.answers)
        rows = range(len(search.answers)) if fresh else np.flatnonzero(~search.answers.done).tolist()
        short = len(rows) > room
        rows = rows[: max(room, 0)]
        try:
            self.interruption.armed = (
                self.pool is None
            )  # with workers the loop looks up itself, so that no answer is torn
            if self.problem.batched and rows:
                self._judge_together(question, rows, seed)
            elif self.pool:
                self._judge_elsewhere(question, rows, seed)
            elif self.problem.plain and question.wants == "value":
                self._judge_plain(rows)
            else:
                self._judge_rows(question, rows, seed)
        except KeyboardInterrupt:
            self.interrupted, self.reason = True, self.interruption.sentence
            if self.pool:
                self.pool.cancel()
        finally:
            self.interruption.armed = False
        if short and self.reason is None:
            self.reason = self.limits.budget_sentence(search)

    def _judge_plain(self, rows: Sequence[int]) -> None:
        """The tight loop for plain costs: plain numbers are gathered in a list, everything else takes the long way."""
        inputs, cost, lone = self.search.inputs, self.problem.cost, self.problem.space.lone
        target = -np.inf if self.limits.target is None else self.limits.target
        deadline = np.inf if self.deadline is None else self.deadline
        tick = self._looked + TICK
        forks = self._forks
        values: list[float] = []
        first = at = rows[0] if rows else 0
        guard = GlobalRandomness() if self.judged == 0 else None
        try:
            for row in rows:
                if row != at:  # known rows lie between
                    self._take(values, first)
                    values, first, at = [], row, row
                try:
                    value = cost(inputs[row]) if lone else cost(**inputs[row])
                except Failed as error:
                    value = Answer.failed(str(error) or "the cost raised Failed")
                except (Exception, SystemExit) as error:
                    value = Answer.failed(told_by(error), broken=True)
                if _FORKS is not forks:
                    self._end_child()
                if guard is not None:
                    guard = self._after_first(guard)
                at = row + 1
                if type(value) is float and value > -np.inf:  # NaN is not above -inf either
                    values.append(value)
                else:
                    self._take(values, first)
                    values, first = [], at
                    answer = value if type(value) is Answer else self.problem.read(value, inputs[row])
                    self._put(row, answer)
                    value = answer.value
                now = clock()
                if now > tick:
                    self._take(values, first)
                    values, first = [], at
                    self._look()
                    tick = self._looked + TICK
                    if self._asked_to_stop():
                        return
                if value <= target:
                    self.reason = self.limits.target_sentence
                    return
                if now > deadline and self._late():
                    return
        finally:
            self._take(values, first)

    def _take(self, values: list[float], first: int) -> None:
        if values:
            self.search.answers.put_values(values, first)
            self.judged += len(values)
            self._first_failures = None

    def _judge_rows(self, question: Question, rows: Sequence[int], seed: int | None) -> None:
        """One row after the other, for costs that want a seed, a carry or a gradient, or have constraints."""
        inputs, problem = self.search.inputs, self.problem
        for row in rows:
            guard = GlobalRandomness() if self.judged == 0 else None
            answer = problem.judge(inputs[row], question.points[row], question.wants, problem.carry, seed)
            if _FORKS is not self._forks:
                self._end_child()
            self._put(row, answer)
            if guard is not None:
                self._after_first(guard)
            if self._stop_here(row):
                return

    def _judge_together(self, question: Question, rows: Sequence[int], seed: int | None) -> None:
        """All rows by one call of a batched cost."""
        guard = GlobalRandomness() if self.judged == 0 else None
        answers = self.problem.judge_together(question.points[list(rows)], question.wants, seed)
        if _FORKS is not self._forks:
            self._end_child()
        if guard is not None:
            self._after_first(guard)
        for row, answer in zip(rows, answers, strict=True):
            self._put(row, answer)
        for row in rows:
            if self._stop_here(row):
                return

    def _judge_elsewhere(self, question: Question, rows: Sequence[int], seed: int | None) -> None:
        """Rows to workers as they are free, answers as they come."""
        assert self.pool is not None
        inputs, carry = self.search.inputs, self.problem.carry
        waiting, flying = list(reversed(rows)), set[int]()
        while waiting or flying:
            while waiting and self.pool.free():
                row = waiting.pop()
                self.pool.submit(row, (inputs[row], question.points[row].copy(), question.wants, carry, seed))
                flying.add(row)
            came = self.pool.wait(TICK)
            for row, answer in came:  # all of them, before one may end the run: they are paid for
                flying.discard(row)
                self._put(row, answer)
            if any(self._stop_here(row) for row, _ in came):
                self.pool.cancel()
                return
            if self._late() or self._asked_to_stop():
                self.pool.cancel()
                return
            self._look()

    def _put(self, row: int, answer: Answer) -> None:
        """Takes one answer, and stops the run where the first ones say that the cost itself is broken."""
        self.search.answers.put(row, answer)
        self.judged += 1
        if answer.note:
            self.note(answer.note)
        if answer.status == OK or self._first_failures is None:
            self._first_failures = None
            return
        failures = self._first_failures
        failures.append(answer.why if answer.broken else "")
        alike = answer.broken and len(failures) >= ALIKE and len(set(failures)) == 1
        if alike or (len(failures) == 1 and answer.why.startswith(TYPOS)):
            which = f"first {len(failures)} points, the last of them" if alike else "first point"
            how = "" if answer.why.startswith("returned") else "raised "
            advice = ". If such points are to be expected, raise ew.Failed or return NaN there" if alike else ""
            if "Tensor" in answer.why:
                advice = ". A cost is given plain numbers and NumPy arrays first; begin it with x = torch.as_tensor(x)"
            raise CostError(f"the {which} {_short(self.search.inputs[row])}, {how}{answer.why}{advice}")

    def _stop_here(self, row: int) -> bool:
        """Whether something ends the run after this row."""
        answers = self.search.answers
        if answers.status[row] == OK and self.limits.met(answers.values[row]):
            if row not in answers.violations or not (answers.violations[row] > 0).any():
                self.reason = self.limits.target_sentence
        self._look()
        return self.reason is not None or self._late() or self._asked_to_stop()

    # ---- looking up -------------------------------------------------------------------------------------------------
    def _late(self) -> bool:
        if self.deadline is not None and clock() > self.deadline and self.judged:
            self.reason = self.reason or self.limits.seconds_sentence
            return True
        return False

    def _asked_to_stop(self) -> bool:
        if self.interruption.asked:
            self.interrupted, self.reason = True, self.interruption.sentence
        return self.interrupted

    def _look(self) -> None:
        """Lets the file and the progress line see where we are, at most every TICK."""
        now = clock()
        if now - self._looked < TICK:
            return
        self._looked = now
        if self.book and self.search.question is not None:
            self.book.part(self.search.state.turn, self.search.answers)
        if self.watch:
            self.watch.tick(self)

    @staticmethod
    def _end_child() -> None:
        """The cost forked, and its child came back: it must neither go on as we do nor write our files."""
        os._exit(70)

    def _after_first(self, guard: GlobalRandomness) -> None:
        if guard.changed():
            self.note(
                "the cost draws from a global random generator, so a run cannot be repeated exactly; "
                "take seed= and mark it ew.seeded"
            )

    def _flat(self) -> None:
        """Says once when nothing can be ranked."""
        s = self.search.state
        if self._told_flat or s.told < 64 or s.turn < 2 or (s.lowest < s.highest and s.failures < s.told):
            return
        self._told_flat = True
        if s.failures == s.told:
            why = next(iter(self.history.why.values()), "no value")
            self.note(
                f"all {s.told} evaluations failed ({why}): nothing can be ranked. "
                "Look at the cost, or start from a point that works"
            )
        elif s.best_violation == 0:
            self.note(
                f"all {s.told - s.failures} evaluations returned the same: nothing can be ranked. "
                "Try a larger spread, a longer horizon or a curriculum"
            )

    def note(self, sentence: str) -> None:
        """Keeps a sentence for the result, once, and says it."""
        if sentence not in self.notes:
            self.notes.append(sentence)
            if self.watch:
                self.watch.say(sentence)


def _short(values: Any) -> str:
    text = ", ".join(f"{k}={describe(v)}" for k, v in values.items()) if isinstance(values, dict) else describe(values)
    return text if len(text) <= 200 else text[:197] + "..."
