"""Is the gradient right? Autograd, or one written by hand, against differences: the wrong entries are named."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from eitherway.base.errors import ModelError, nearest
from eitherway.base.keys import Key
from eitherway.calculus.accept import must_be_callable, name_of
from eitherway.calculus.gradient_check.compare import Compare
from eitherway.calculus.gradient_check.gradients import Autograd, Given, plain_function
from eitherway.calculus.gradient_check.leaves import Leaves
from eitherway.calculus.gradient_check.report import Blame, Checked, GradientCheck

Precision = Literal["double", "given"]

SMALL = 64
"""Entries of an input or parameter that are all looked at; of larger ones, random directions are, then halves."""


def gradient_check(
    f: Callable[..., Any],
    x: Any,
    *,
    gradient: Any = None,
    tolerance: float | None = None,
    precision: Precision = "double",
    exhaustive: int = SMALL,
    seed: int = 0,
) -> GradientCheck:
    """Hold the gradient of f against differences, for each input and, of a module, each parameter.

    The check runs on a copy in float64, whatever dtype f has; f, x and torch's generator stay as they are. Up to
    `exhaustive` entries are looked at one by one. Of a larger tensor three random directions are: one wrong entry among
    100 000 moves every one of them. What disagrees is halved until single entries are left. A step size is chosen for
    each entry and each direction by itself, see `estimate`.

    Args:
        f: a function of one or several tensors, or a module; returns one tensor.
        x: a tensor, array, list or number; a tuple of tensors for several inputs. Whole-number inputs are skipped.
        gradient: yours instead of autograd's: an array (y.shape + x.shape), a dict of them by name, or a function of
            the inputs that returns such. f may then be a NumPy function.
        tolerance: relative error allowed beyond the bar; by default 1e-6 in float64, 1e-3 in float32.
        precision: of the gradient under check: `double`, or `given` for the dtypes that f and x have. Differences are
            taken in float64 either way.
        exhaustive: the largest tensor whose entries are all looked at.
        seed: draws directions, and seeds torch's generator before every call, so that dropout keeps its mask.

    Returns:
        A report: `.ok`, `.blames`, `.raise_if_wrong()`, `.plot()`; print it.

    Raises:
        ModelError: if f cannot be called as given, or a setting cannot be used.

    >>> square = lambda x: (x * x.detach()).sum()  # half of the gradient is cut
    >>> print(str(gradient_check(square, [3.0]).blames[0]).partition(" +-")[0])
    output y with respect to x[0]: autograd says 3, differences say 6
    """
    must_be_callable(f, "gradient_check")
    if precision not in get_args(Precision):
        raise ModelError(
            f"precision={precision!r} is no precision to check in. {nearest(precision, get_args(Precision))}"
        )
    if tolerance is not None and (
        isinstance(tolerance, bool) or not (isinstance(tolerance, Real) and 0 <= tolerance < np.inf)
    ):
        raise ModelError(f"tolerance={tolerance!r} is no relative error: give a number >= 0, or leave it out")
    if isinstance(exhaustive, bool) or not (isinstance(exhaustive, Integral) and exhaustive >= 1):
        raise ModelError(f"exhaustive={exhaustive!r} is no number of entries: give 1 or more")
    if isinstance(seed, bool) or not (isinstance(seed, Integral) and -(2**63) <= seed < 2**63):
        raise ModelError(f"seed={seed!r} seeds nothing: give a whole number below 2**63, such as 0")
    if gradient is not None and not _has_tensors(x) and not isinstance(f, nn.Module):
        f = plain_function(f)
    leaves, notes = _open(f, x, seed)
    checked = Leaves(f, x, dtype=None, seed=seed) if precision == "given" else leaves
    return _Check(leaves, checked, gradient, tolerance, exhaustive, seed, notes).report()


class _Check:
    """One check as it goes: what was found so far."""

    def __init__(
        self, leaves: Leaves, backward: Leaves, gradient: Any, tolerance: float | None, exhaustive: int, seed: int,
        notes: list[str],
    ):  # fmt: skip
        self.leaves, self.exhaustive, self.key = leaves, exhaustive, Key(seed)
        self.problems: list[str] = []
        self.warnings = [*notes, *leaves.skipped]
        self.blames: list[Blame] = []
        self.points: list[np.ndarray] = []
        self.checked: list[Checked] = []
        self.y, self.backward = leaves.value(), backward
        self.dtype = backward.value().dtype
        self.eps = max(torch.finfo(t.dtype).eps for t in (self.y, *(leaf.value for leaf in leaves.leaves)))
        eps = max(torch.finfo(self.dtype).eps, *(torch.finfo(leaf.value.dtype).eps for leaf in backward.leaves))
        self.gradient_eps = eps
        self.tolerance = min(max(1e-6, 1e4 * eps), 0.1) if tolerance is None else tolerance
        self.repeats = self._is_repeatable()
        self.known = torch.isfinite(self.y).reshape(-1).cpu().numpy()
        self._look_at_outputs()
        self.gradient = Autograd(backward) if gradient is None else Given(leaves, gradient, self.y)
        if isinstance(self.gradient, Given):
            self.problems += self.gradient.wrong_shapes
        self.compare = Compare(leaves, self.y, self.gradient, self.tolerance, self.key, self.eps, eps)

    def report(self) -> GradientCheck:
        if self.repeats and self.known.any():
            self._check_backward()
            for index, leaf in enumerate(self.leaves.leaves):
                if isinstance(self.gradient, Given) and not self.gradient.has(index):
                    if not self.gradient.wrong_shapes:
                        self.warnings.append(f"no gradient was given by {leaf.name}: not checked")
                elif self.compare.failure is None:
                    self._check_leaf(index)
        self.blames.sort(key=lambda blame: (-blame.relative, -abs(blame.differences - blame.autograd)))
        points = np.concatenate(self.points) if self.points else np.zeros((0, 4))
        return GradientCheck(
            not self.blames and not self.problems, tuple(self.blames), tuple(self.problems), tuple(self.warnings),
            tuple(self.checked), points, str(self.dtype).removeprefix("torch."), self.compare.evaluations + 4,
        )  # fmt: skip

    def _is_repeatable(self) -> bool:
        """Whether y is the same when asked again; randomness that follows torch's generator is held still."""
        again, other = self.leaves.value(), self.leaves.value(seed=self.leaves.seed + 1)
        if again.shape != self.y.shape or not _alike(again, self.y):
            self.problems.append(
                "f is random and does not follow torch's generator: called twice at the same x with the same seed, it "
                "returned two values; pass it a seed, then check again"
            )
            return False
        if other.shape != self.y.shape or not _alike(other, self.y):
            self.warnings.append(
                f"f is random (dropout, noise): it was called with torch's generator at seed {self.leaves.seed} every "
                f"time, so its gradient was checked for that draw alone"
            )
        return True

    def _look_at_outputs(self) -> None:
        bad = np.flatnonzero(~self.known)
        if bad.size:
            value = self.y.reshape(-1)[int(bad[0])].item()
            more = (
                f", and {bad.size - 1} more {'output is' if bad.size == 2 else 'outputs are'} not finite"
                if bad.size > 1
                else ""
            )
            self.problems.append(
                f"output {self._output(int(bad[0]))} is {value} at x{more}: it has no gradient there; move x"
            )
        changed = self.leaves.changed_in_place()
        if changed:
            self.warnings.append(
                f"f changes {', '.join(changed)} in place: copies were given to it; called with your own tensors it "
                f"leaves them changed, or fails where they track gradients"
            )

    def _check_backward(self) -> None:
        """The backward pass by itself: it answers, answers the same twice, and is linear in what comes from above."""
        compare = self.compare
        compare.prepare()
        if compare.failure is not None:
            self.problems.append(f"backward failed: {compare.failure}")
            return
        if not isinstance(self.gradient, Autograd):
            return
        mix = self.key.numpy("gradient check: mixture").standard_normal(len(compare.weights))
        weights = np.where(compare.known, compare.weights, 0)
        again = Autograd(self.backward).rows(weights[:1])
        mixed = self.gradient.rows((mix @ weights)[None])
        # what cancels in the sum leaves rounding of the size of what was summed, in any of the leaves
        rounding = (
            1e-3 * self.tolerance * max(np.abs(np.nan_to_num(rows)).max(initial=0.0) for rows in compare.gradients)
        )
        for leaf, first, rows, whole in zip(self.leaves.leaves, again, compare.gradients, mixed):
            if not np.allclose(first[0], rows[0], rtol=1e-3 * self.tolerance, atol=rounding, equal_nan=True):
                self.problems.append(
                    f"the gradient by {leaf.name} differs from call to call, though f and its seed are the same: "
                    f"something random, or a state, in its backward"
                )
            size = np.abs(mix)[:, None] * np.abs(rows)
            gap = np.abs(whole[0] - mix @ rows)
            if (gap > 10 * self.tolerance * size.sum(axis=0) + 10 * rounding).any():
                self.problems.append(
                    f"the backward of {leaf.name} is not linear: given other weights for the outputs, its answer does "
                    f"not follow; a hand-written backward must multiply by the gradient it is handed"
                )

    def _check_leaf(self, index: int) -> None:
        at_x = self.compare
        self._check_leaf_here(index)
        at_x.evaluations = self.compare.evaluations
        self.compare = at_x

    def _check_leaf_here(self, index: int) -> None:
        leaf, compare = self.leaves.leaves[index], self.compare
        count = leaf.value.numel()
        holes = np.isnan(compare.gradients[index]).any(axis=0)
        if holes.any():
            where = int(np.flatnonzero(holes)[0])
            more = f" and {int(holes.sum()) - 1} more" if holes.sum() > 1 else ""
            self.problems.append(
                f"{self.gradient.source} is nan at {compare.entry(index, where)}{more}: a "
                f"0 * inf in backward, as of sqrt or norm at zero, or torch.where over a branch that is nan"
            )
            if count > self.exhaustive:
                return
        if count <= self.exhaustive:
            found, how = compare.entries(index, np.arange(count)), "each entry"
            wrong = [(int(j), int(i)) for i, j in zip(*np.nonzero(found.wrong))]
            if not compare.exact:  # rows are mixtures: each of them sees the same wrong entry
                wrong = list({j: (j, i) for j, i in reversed(wrong)}.values())
        else:
            found, how = compare.directions(index), "random directions"
            if np.isfinite(found.below).any() and isinstance(self.gradient, Autograd):
                # a kink may hide anything between its slopes: look beside it, too
                compare = self.compare = self._beside(index)
                found = compare.directions(index)
            wrong = []
            if found.wrong.any():
                wrong, tried = compare.search(index)
                if not wrong:
                    self._doubt(leaf.name, found, tried)
        self.points.append(found.points())
        hint = self._hint(index, found)
        for j, i in wrong[:200]:
            self.blames.append(self._blame(index, j, i, found, how == "each entry", hint))
        if len(wrong) > 200:
            noun = "entry" if len(wrong) == 201 else "entries"
            self.problems.append(f"{len(wrong) - 200} more wrong {noun} of {leaf.name}")
        self._warn(index, found, how)
        worst = [found.worst()] + [blame.relative for blame in self.blames if blame.leaf == leaf.name]
        self.checked.append(Checked(leaf.name, leaf.shape, how, max(worst), len(wrong)))

    def _beside(self, index: int) -> Compare:
        """The same comparison at a point beside x, where there are no kinks."""
        size = self.compare.size(index)
        noise = self.key.numpy("gradient check: beside").standard_normal(self.leaves.leaves[index].value.numel())
        move = 1e-2 * size * noise
        leaves = self.leaves.nearby(index, move)
        beside = Compare(
            leaves, leaves.value(), Autograd(self.backward.nearby(index, move)), self.tolerance, self.key, self.eps,
            self.gradient_eps,
        )  # fmt: skip
        beside.evaluations = self.compare.evaluations
        beside.prepare()
        self.warnings.append(
            f"{leaves.leaves[index].name} has kinks at x, where directions cannot tell: it was checked beside x, each "
            f"entry moved by about {1e-2 * size:.1g}"
        )
        return beside

    def _blame(self, index: int, j: int, i: int, found: Any, each: bool, hint: str) -> Blame:
        """Entry j of a leaf in row i, with the output looked up."""
        compare = self.compare
        name = self.leaves.leaves[index].name
        if each and compare.exact:
            output, said, differences, bar = i, found.gradient[i, j], found.value[i, j], found.error[i, j]
        else:
            output, said, differences, bar = compare.output_of(index, j)
            self.points.append(np.array([[said, differences, bar, 1.0]]))
        return Blame(
            self._output(output), name, compare.entry(index, j), float(said), float(differences), float(bar), hint,
            self.gradient.source,
        )  # fmt: skip

    def _hint(self, index: int, found: Any) -> str:
        """What usually makes a gradient wrong in this way."""
        name = self.leaves.leaves[index].name
        if not found.wrong.any() or isinstance(self.gradient, Given):
            return ""
        if name in self.compare.gradient.missing:
            return "autograd has no path to it (None): .detach(), .data, float(), .numpy() or torch.tensor(...) cut it"
        zero = not self.compare.gradients[index].any()
        if zero:
            return "zero everywhere, though the value moves: .detach(), .data or torch.no_grad() inside?"
        if (found.value[found.wrong] == 0).all():
            return "the value does not move: rounding or a comparison with a straight-through gradient?"
        return ""

    def _warn(self, index: int, found: Any, how: str) -> None:
        leaf = self.leaves.leaves[index]
        kinks = np.argwhere(np.isfinite(found.below) & np.isfinite(found.gradient) & ~found.wrong)
        if len(kinks):
            i, j = map(int, kinks[0])
            place = self.compare.entry(index, j) if how == "each entry" else f"{leaf.name} along a direction"
            more = f" ({len(kinks)} such)" if len(kinks) > 1 else ""
            self.warnings.append(
                f"kink at {place}: slope {found.below[i, j]:.4g} below, {found.above[i, j]:.4g} above; the gradient "
                f"{found.gradient[i, j]:.4g} lies between and was accepted{more}"
            )
        lost = ~np.isfinite(found.error).any(axis=0)
        if lost.any():
            j = int(np.flatnonzero(lost)[0])
            place = self.compare.entry(index, j) if how == "each entry" else f"{leaf.name} along a direction"
            self.warnings.append(
                f"{place}: differences cannot tell (no neighbour has a value, or slopes grow without end); "
                f"{int(lost.sum())} such, not checked"
            )
        flat = not np.abs(found.value[np.isfinite(found.value)]).any() and not self.compare.gradients[index].any()
        flat &= not np.isfinite(found.below).any()
        if flat and self.compare.moves_far_away(index):
            self.warnings.append(
                f"y does not move with small steps of {leaf.name}, but does with large ones: it goes in steps (round, "
                f"argmax, a comparison); zero is the right gradient, and nothing can be learned from it"
            )
        elif flat:
            self.warnings.append(f"y does not depend on {leaf.name} here")

    def _doubt(self, name: str, found: Any, tried: int) -> None:
        """A direction disagrees and no entry does: kinks, or many small errors."""
        i, c = (int(k) for k in np.argwhere(found.wrong)[0])
        text = (
            f"{name} along a random direction: {self.gradient.source} says {found.gradient[i, c]:.6g}, differences say "
            f"{found.value[i, c]:.6g} +- {found.error[i, c]:.1e}, and none of {tried} entries looked at is wrong"
        )
        if np.isfinite(found.below[i, c]):
            self.warnings.append(f"{text}: there are kinks at x, where directions cannot tell")
        else:
            self.problems.append(f"{text}: many small errors")

    def _output(self, i: int) -> str:
        from eitherway.calculus.differences.values import entry

        return entry("y", i, tuple(self.y.shape))


def _open(f: Callable[..., Any], x: Any, seed: int) -> tuple[Leaves, list[str]]:
    """f laid open in float64, or as given where float64 cannot be had."""
    given = Leaves(f, x, dtype=None, seed=seed)
    if all(leaf.value.dtype == torch.float64 for leaf in given.leaves):
        return given, []
    double = Leaves(f, x, dtype=torch.float64, seed=seed)
    try:
        double.value()
    except (RuntimeError, TypeError, ValueError) as error:
        given.value()  # what is wrong in any dtype is raised from here
        why = str(error).splitlines()[0][:90]
        dtype = str(given.leaves[0].value.dtype).removeprefix("torch.")
        return given, [
            f"{name_of(f)} does not run in float64 ({why}), so it was checked in {dtype}, which sees less: hand over "
            f"the module itself, or make what it closes over float64"
        ]
    return double, []


def _has_tensors(x: Any) -> bool:
    return isinstance(x, Tensor) or (isinstance(x, tuple | list) and any(isinstance(part, Tensor) for part in x))


def _alike(one: Tensor, two: Tensor) -> bool:
    """Whether two values agree up to the order of sums."""
    near = torch.finfo(one.dtype).eps * 1e3
    return torch.allclose(one, two, rtol=near, atol=near, equal_nan=True)
