"""What the verb `ride` tells: the plan, the falls as they happen, what was learned."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape

from eitherway.base.errors import ModelError
from eitherway.bicycle.learning import PROOFS, Episode, Rider, beginner
from eitherway.bicycle.race import trained
from eitherway.bicycle.ride import Learned, learn
from eitherway.cli import _ride_pictures as pictures
from eitherway.cli.main import DONE, INTERRUPTED
from eitherway.methods import get
from eitherway.space.condition import describe

FIRST = 24
"""So many rides have a line each; later ones only if they are the longest so far, or held to the end."""
ROADS = 100
"""Unseen roads at the end."""
RUNS = 20
"""Beginners in the picture of the learning curve, and as many who search at random."""
GIVE_UP = 3000
"""Rides after which it is said that this has not worked."""

TASKS = {
    "balance": "stay up for 1000 s, which is 2.8 km",
    "goal": "ride to a place 1 km to the right",
    "whipple": "stay up for 1000 s on the benchmark bicycle of 2007, by turning the handlebar alone",
}
TOLD = {
    "survival": "how long each of its rides lasted",
    "binary": "whether it was still up when a ride was over: yes or no",
}


def show_learning(task: Any, policy: Any, reward: Any, method: str | None, seed: int, out: Path) -> int:
    """Learns, tells, draws; hands back the exit code."""
    if method is not None:
        get(method)  # an unknown name is told before anything else
    console, rider, folder = Console(highlight=False, soft_wrap=True), beginner(task, policy), _folder(out)
    console.print(f"[bold]Learning to ride a bicycle[/bold]: {TASKS[task]}.")
    console.print(_plan(rider, reward, folder))
    with console.status("compiling the bicycle; some seconds, the first time"):
        rider.ride(np.zeros(rider.rule.weights), [0], 10)
    lines = Lines(console, rider)
    learned = learn(task, policy, reward, method, seed=seed, rides=GIVE_UP, heard=lines.hear)
    lines.close()
    if learned.weights is None:
        console.print("Interrupted before the first ride was over; nothing is kept.")
        return INTERRUPTED
    kept = folder / "policy.safetensors"
    learned.save(kept)
    console.print(f"\n[bold]{_outcome(learned)}[/bold]")
    try:
        if not learned.result.interrupted:
            _finish(console, learned, kept, folder)
            return DONE
    except KeyboardInterrupt:
        pass
    console.print(f"Interrupted; the best rider so far is kept in {escape(str(kept))}.")
    return INTERRUPTED


def show_trained(task: Any, out: Path) -> int:
    """Rides with the policy of the package and draws it; hands back the exit code."""
    weights, facts = trained(task)
    console, rider, folder = Console(highlight=False, soft_wrap=True), Rider(task), _folder(out)
    console.print(f"[bold]The rider that comes with the package[/bold]: {TASKS[task]}.")
    console.print(f"It learned from {TOLD[facts['reward']]} ({facts['how']}).\n")
    held = _unseen(console, rider, weights)
    if task == "whipple":
        _show(console, pictures.first_rides(rider, weights, folder), pictures.riding(rider, weights, folder))
    else:
        goal = weights if task == "goal" else trained("goal")[0]
        _show(console, pictures.first_rides(rider, weights, folder), pictures.to_the_goal(goal, Rider("goal"), folder))
    console.print(f"\n[bold]{_sentence(facts['falls'], held, rider)}[/bold]")
    return DONE


def _finish(console: Console, learned: Learned, kept: Path, folder: Path) -> None:
    """Unseen roads, pictures, the sentence, and one rider who learned from yes or no alone."""
    rider, weights = learned.rider, learned.weights
    assert weights is not None
    held = _unseen(console, rider, weights)
    _show(console, pictures.first_rides(rider, weights, folder))
    if rider.task != "goal" and learned.solved:
        with console.status(f"{RUNS} more beginners, for the learning curve"):
            again = {"reward": learned.reward, "rides": 1000}
            runs = [learn(rider.task, rider.policy, method=learned.method, seed=k, **again) for k in range(RUNS)]
            chance = [
                learn(rider.task, rider.policy, method="randomsearch", seed=k, **again)
                for k in range(RUNS if rider.policy == "linear" else 0)  # a network found at random takes too long
            ]
        ours, theirs = ([run.seconds for run in many] for many in (runs, chance))
        _show(console, pictures.learning_curve(rider, learned.reward, ours, theirs, folder))
    if rider.task == "whipple":
        _show(console, pictures.riding(rider, weights, folder))
    elif rider.task == "goal":
        _show(console, pictures.to_the_goal(weights, rider, folder))
    else:
        _show(console, pictures.to_the_goal(trained("goal")[0], Rider("goal"), folder))
    console.print(f"  {escape(str(kept))}  the policy, {len(weights)} numbers")
    console.print(f"\n[bold]{_sentence(learned.falls, held, rider)}[/bold]")
    if learned.reward == "survival":
        _from_bits(console, learned)


def _from_bits(console: Console, learned: Learned) -> None:
    """The same learned from the strictly binary reward, and one ride of that rider."""
    rider = learned.rider
    with console.status("once more, from yes or no alone"):
        bits = learn(rider.task, rider.policy, "binary", learned.method, seed=learned.seed, rides=GIVE_UP)
    if not bits.solved:
        console.print(f"From yes or no alone it has not learned within {bits.rides:,} rides.")
        return
    ride = rider.ride(bits.weights, [0])
    ended = "reaching the goal" if rider.task == "goal" else "still up"
    if ride.cause[0] != rider.held:
        ended = "then a fall"
    console.print(
        f"From yes or no alone (was it still up when the ride was over?): {_times(bits.falls, 'fall')} "
        f"in {_times(bits.rides, 'ride')}, then {0.01 * ride.steps[0]:.0f} s on an unseen road, {ended}."
    )


def _unseen(console: Console, rider: Rider, weights: np.ndarray) -> int:
    """How many of `ROADS` unseen roads are ridden to the end."""
    with console.status(f"riding {ROADS} unseen roads"):
        rides = replace(rider, horizon=None).ride(weights, np.arange(ROADS))
    return int((rides.cause == rider.held).sum())


def _show(console: Console, *drawn: Iterable[tuple[Path, str]]) -> None:
    """Names pictures as they are drawn."""
    for some in drawn:
        for path, words in some:
            console.print(f"  {escape(str(path))}  [dim]{words}[/dim]")


class Lines:
    """A line a ride, as it is over: a bar over the logarithm of its seconds.

    Args:
        console: where to.
        rider: whose rides.
    """

    def __init__(self, console: Console, rider: Rider):
        self.console, self.rider = console, rider
        self.full = rider.setting.steps
        self.count = self.skipped = self.longest = 0
        self.room = max(10, min(console.width, 100) - 44)

    def hear(self, ride: Episode) -> None:
        """One ride."""
        self.count += 1
        new, self.longest = ride.steps > self.longest, max(self.longest, ride.steps)
        if self.count > FIRST and not new and not self._to_the_end(ride):
            self.skipped += 1
            return
        self.close()
        colour = "red" if ride.fell else "green"
        bar = f"[{colour}]{self._bar(ride)}[/{colour}]"
        self.console.print(f"  ride {self.count:>5,} {ride.seconds:8.1f} s  {self._what(ride):<14} {bar}")

    def close(self) -> None:
        """Says how many had no line of their own."""
        if self.skipped:
            self.console.print(f"  [dim]and {self.skipped:,} more, none of them longer[/dim]")
        self.skipped = 0

    def _to_the_end(self, ride: Episode) -> bool:
        return ride.cause == ("goal" if self.rider.task == "goal" else "time") and ride.horizon == self.full

    def _what(self, ride: Episode) -> str:
        if ride.cause == "time":
            return "the whole ride" if self._to_the_end(ride) else "still up"
        return {"fall": "fell", "goal": "arrived"}[ride.cause]

    def _bar(self, ride: Episode) -> str:
        """From 0.1 s to the whole ride."""
        share = math.log(max(0.1, ride.seconds) / 0.1) / math.log(0.01 * self.full / 0.1)
        return "━" * max(1, round(share * self.room))


def _plan(rider: Rider, reward: str, folder: Path) -> str:
    """What will happen, before it does."""
    seconds, count = 0.01 * rider.setting.steps, rider.rule.weights
    what = f"a small network of {count} weights" if rider.policy == "mlp" else f"{count} numbers"
    if reward == "binary":
        how = f"Who lasts 1 s is asked for more, and in the end for {PROOFS} whole rides of {seconds:.0f} s in a row"
    elif rider.task == "goal":
        how = f"A ride is stopped after {seconds:.0f} s; who arrives has to arrive {PROOFS} times more, in a row"
    else:
        how = f"A ride is stopped after 10 s; who is still up has to hold {PROOFS} whole rides in a row"
    return (
        f"A rider is {what}, drawn at random at first. The search is told {TOLD[reward]}, and nothing else.\n"
        f"{how}; every ride counts, and each is on a road of its own.\n"
        f"Then: {ROADS} unseen roads, and pictures into {escape(str(folder))}.\n"
    )


def _outcome(learned: Learned) -> str:
    """How the learning ended, in a sentence."""
    spent = f"{_times(learned.rides, 'ride')}, {_times(learned.falls, 'fall')}, {learned.steps:,} simulated steps"
    if learned.solved:
        return f"Learned: {spent}, by {_short(learned.method)}."
    if learned.result.interrupted:
        return f"So far: {spent}."
    return f"Not learned within {spent}, by {_short(learned.method)}. Another seed, method or policy may do it."


def _short(method: Any) -> str:
    """A method with the settings that are not its own.

    >>> from eitherway.methods import get
    >>> _short(get("cmaes"))
    'CMAES()'
    """
    given = [
        f"{field.name}={describe(value)}"
        for field in fields(method)
        if (value := getattr(method, field.name)) != field.default or field.default is MISSING
    ]
    return f"{type(method).__name__}({', '.join(given)})"


def _sentence(falls: int, held: int, rider: Rider) -> str:
    """The whole story."""
    ridden = "ridden to the goal" if rider.task == "goal" else "ridden for 1000 s"
    return f"{_times(falls, 'fall')}, then {held} of {ROADS} unseen roads {ridden}."


def _times(count: int, what: str) -> str:
    """A number of things.

    >>> _times(1, "fall"), _times(2, "fall")
    ('1 fall', '2 falls')
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _folder(out: Path) -> Path:
    """The folder, made if need be.

    Raises:
        ModelError: if it cannot be.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"--out {out}: expected a folder that can be written to; {error.strerror}") from None
    return out
