"""What a person sees while a run goes on: one live line on a terminal, a plain one every ten seconds elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from eitherway.base.errors import CostError
from eitherway.methods.protocol import OK
from eitherway.run.stopping import clock

if TYPE_CHECKING:
    from eitherway.run.loop import Run, Watch

QUIET = 1.0
"""Seconds before anything is shown: shorter runs say nothing but notes."""
LIVE, PLAIN = 0.1, 10.0
"""Seconds between two states of the live line, and between two plain lines."""
LONG = 10.0
"""Seconds from which on a run is worth a forecast."""


def watcher(progress: Any) -> Watch | None:
    """Who looks on during a run.

    Args:
        progress: "auto" for a live line on a terminal and plain lines elsewhere, both on stderr; None for nobody.
    """
    if progress is None or progress is False:
        return None
    if progress != "auto":
        raise CostError(f"progress={progress!r} was given; expected 'auto', or None for none")
    try:
        terminal = sys.stderr.isatty()
    except (AttributeError, ValueError):  # no stderr at all, or a closed one
        terminal = False
    return Line(Live() if terminal else Plain(), LIVE if terminal else PLAIN)


def duration(seconds: float) -> str:
    """Seconds as people say them, two digits at most.

    >>> duration(0.0123), duration(20.3), duration(25200), duration(200000)
    ('12 ms', '20 s', '7 h', '2.3 days')
    """
    for unit, name in ((86400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms")):
        if seconds >= unit * (1.0 if unit <= 1 else 1.5):
            amount = seconds / unit
            return (
                f"{amount:.0f} {name}"
                if amount >= 9.95 or abs(amount - round(amount)) < 0.05
                else f"{amount:.1f} {name}"
            )
    return f"{1e6 * seconds:.0f} µs"


class Line:
    """Watches a run and writes what it sees to an outlet.

    Args:
        out: where to; has show(fraction, text), say(text) and close().
        every: seconds between two lines.
    """

    def __init__(self, out: Live | Plain, every: float):
        self.out, self.every = out, every
        self._said: set[str] = set()

    def begin(self, run: Run) -> None:
        self._started = clock()
        self._next = self._started + QUIET
        self._shown = self._forecast = False
        self._first: tuple[float, int] | None = None

    def tick(self, run: Run) -> None:
        now = clock()
        if self._first is None and run.judged:
            self._first = (now, run.judged)
        if now < self._next:
            return
        if not self._forecast and run.judged:
            self._foresee(run, now)
        live = self.every < QUIET
        if live or now >= self._started + self.every:
            self._show(run, now)
            self._next = now + self.every
        else:
            self._next = now + 0.1  # until the forecast is said and the first ten seconds are over

    def say(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self.out.say(f"note: {sentence}")

    def end(self, run: Run) -> None:
        if self._shown:  # the last state of the line stays
            self._show(run, clock())
        self.out.close()

    # ---- what is said -----------------------------------------------------------------------------------------------
    def _each(self, run: Run, now: float) -> float:
        """Wall-clock seconds an evaluation, workers together; the first ones are left out once there are others."""
        since, before = self._first or (self._started, 0)
        if self._settled(run):
            return (now - since) / (run.judged - before)
        return (now - self._started) / max(run.judged, 1)

    def _settled(self, run: Run) -> bool:
        """Whether enough came after the first answers, which paid for imports and compilers, too."""
        before = self._first[1] if self._first else 0
        return run.judged - before >= max(5, before)

    def _foresee(self, run: Run, now: float) -> None:
        """Says once, early, how long the whole will take, if that is long."""
        workers, elapsed = _workers(run), now - self._started
        if not self._settled(run) and elapsed < LONG:
            return
        self._forecast = True
        each = self._each(run, now)
        alone = each * min(workers, max(run.judged, 1))
        left = run.limits.budget - run.search.evaluations
        total = elapsed + alone * left / workers
        where = f" on {workers} workers" if workers > 1 else ""
        if run.limits.seconds is not None and run.limits.seconds < total:
            if run.limits.seconds >= LONG:
                within = run.search.evaluations + int(
                    left * (run.limits.seconds - elapsed) / max(total - elapsed, 1e-9)
                )
                self.out.say(
                    f"{_three(alone)} each; about {within:,} of {run.limits.budget:,}{where} "
                    f"in {duration(run.limits.seconds)}; `seconds=` to change"
                )
        elif total > LONG:
            self.out.say(
                f"{_three(alone)} each; {run.limits.budget:,}{where}: about {duration(total)}; "
                "`budget=` or `seconds=` to change"
            )

    def _show(self, run: Run, now: float) -> None:
        self._shown, elapsed = True, now - self._started
        budget, done = run.limits.budget, run.search.evaluations
        value, failures = _best(run)
        parts = [f"{done:,} of {budget:,}", "no value yet" if value is None else f"best {run.problem.sign * value:.6g}"]
        if run.judged:
            each = self._each(run, now)
            parts.append(f"{_three(each * min(_workers(run), run.judged))} each")
            if run.reason is None and (self._settled(run) or elapsed > LONG):
                left = each * (budget - done)
                if run.limits.seconds is not None:
                    left = min(left, max(0.0, run.limits.seconds - elapsed))
                parts.append(f"{duration(left) if left >= 1 else 'under 1 s'} left")
        if failures:
            parts.append(f"{failures:,} failed")
        fraction = max(done / budget, elapsed / run.limits.seconds if run.limits.seconds else 0.0)
        self.out.show(min(1.0, fraction), ", ".join(parts))


def _three(seconds: float) -> str:
    """Three digits: what one evaluation takes."""
    for unit, name in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}" if seconds < 1000 else f"{seconds:.0f} s"
    return f"{1e6 * seconds:.3g} µs"


def _workers(run: Run) -> int:
    return 1 if run.pool is None else run.pool.count


def _best(run: Run) -> tuple[float | None, int]:
    """The best value so far, in the sign of the search, and how many evaluations have none."""
    search = run.search
    s = search.state
    failures, value = s.failures, None if s.best_point is None else s.best_value
    if search.question is None:
        return value, failures
    answers = search.answers
    failures += int((answers.done & (answers.status != OK)).sum())
    if answers.violations or s.best_violation not in (0.0, np.inf):
        found, _, point = search.best_row()
        return (None if point is None else found), failures
    known = answers.values[answers.done & (answers.status == OK)]
    if len(known) and (value is None or known.min() < value):
        value = float(known.min())
    return value, failures


# ---- where to -------------------------------------------------------------------------------------------------------
class Plain:
    """Lines on stderr, for files and logs. A stream that has gone away is no reason to lose a run."""

    def show(self, fraction: float, text: str) -> None:
        self.say(text)

    def say(self, text: str) -> None:
        try:
            print(text, file=sys.stderr, flush=True)
        except (OSError, ValueError, AttributeError):
            pass

    def close(self) -> None:
        pass


class Live:
    """One line of a terminal that changes in place; what the cost prints goes above it."""

    def __init__(self) -> None:
        self._live: Any = None

    def show(self, fraction: float, text: str) -> None:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        line = Table.grid(padding=(0, 1))
        line.add_row(ProgressBar(1.0, fraction, width=12), Text(text, no_wrap=True, overflow="ellipsis"))
        try:
            if self._live is None:
                from rich.console import Console
                from rich.live import Live as RichLive

                self._live = RichLive(
                    console=Console(stderr=True),
                    auto_refresh=False,  # no thread: the cost may fork
                    redirect_stdout=sys.stdout.isatty(),
                    redirect_stderr=True,
                )
                self._live.start()
            self._live.update(line, refresh=True)
        except (OSError, ValueError):
            pass

    def say(self, text: str) -> None:
        if self._live is None:
            Plain().say(text)
        else:
            from rich.text import Text

            try:
                self._live.console.print(Text(text))
            except (OSError, ValueError):
                pass

    def close(self) -> None:
        if self._live is not None:
            try:
                self._live.stop()
            except (OSError, ValueError):
                pass
