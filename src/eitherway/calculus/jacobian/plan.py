"""A plan: the way to one function's Jacobian, chosen once, checked at once, made anew when it holds no more."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.calculus.accept import as_output, as_point, name_of
from eitherway.calculus.chain import prepare as prepare_chain
from eitherway.calculus.jacobian.apart import must_be_apart
from eitherway.calculus.jacobian.check import Probe, probe, warn
from eitherway.calculus.jacobian.choose import Choice, Mode, Sizes, choose, reverse
from eitherway.calculus.jacobian.first_call import (
    coarsest,
    culprit,
    jvp_is_wrong,
    may_push,
    must_not_remember,
    must_repeat,
    operator_is_wrong,
    suspects,
    what_is_wrong,
)
from eitherway.calculus.jacobian.memory import as_text, must_fit
from eitherway.calculus.jacobian.operator import operator_of
from eitherway.calculus.jacobian.run import followed, must_be_plain_reverse, run
from eitherway.calculus.jacobian.still import Still
from eitherway.calculus.jacobian.ways import AsSparse, Empty, Quiet
from eitherway.calculus.sparse import prepare as prepare_sparse
from eitherway.graph import Graph, Ref, Replay


class JacobianPlan:
    """How to take a Jacobian at points like one that was seen. Made by `prepare_jacobian`; call it with a point.

    Attributes:
        mode: the way that was chosen: "chain", "sparse", "reverse", "forward", or "operator".
        why: the reason.
        remarks: what happened besides: fall-backs, cuts, branches, each a sentence.
    """

    def __init__(
        self,
        f: Callable[..., Any],
        example: Tensor,
        *,
        mode: Mode,
        form: str,
        batched: bool,
        memory: int | None,
        race: bool,
    ):
        if batched and form != "dense":
            raise ModelError(
                f"form={form!r} is of the whole Jacobian, in which a batch is block diagonal: use batched=False"
            )
        if form == "sparse" and mode not in ("auto", "sparse"):
            raise ModelError(f"form='sparse' is made by the sparse way alone, and mode is {mode!r}: leave mode out")
        self.f, self.form, self.batched, self.memory, self.race = f, form, batched, memory, race
        self.asked: Mode = mode
        self.remarks: list[str] = []
        self.forwards = True
        self.way: Any = None
        self.choice: Choice | None = None
        self.first: tuple[Tensor, Any] | None = None
        self._plan(example.detach())

    # planning ------------------------------------------------------------------------------------------------------

    def _plan(self, x: Tensor) -> None:
        """Looks at f at x, chooses a way, and checks it there."""
        self.still = Still(self.f)  # modules may have been replaced
        self._run = partial(run, self.f, self.still)  # no method: the way would hold the plan, and the plan the way
        with self.still.contents(), Quiet():
            self._plan_inside(x)

    def _plan_inside(self, x: Tensor) -> None:
        self.remarks.clear()
        self.way = self.choice = self.first = None
        self.graph = followed(self.f, self._run, x, self.remarks)
        self.y = y = self._value(x)
        self.like = (x.shape, x.dtype, x.device)
        self.x_shape, self.y_shape = x.shape, y.shape
        self.sizes = self._sizes(x, y)
        self.key = self.still.key()
        graph = self.graph
        must_be_plain_reverse(self.asked, self.form, graph)
        self.guard = Replay(graph, []) if graph is not None and not graph.opaque and graph.guards else None
        if self.form == "operator":
            self.way = self._chain()
            self._check_operator(x)
            return
        if self.form == "sparse":
            self.way = prepare_sparse(self._run, self._followed(), x, memory=self.memory)
        else:
            s = self.sizes
            whole = "ask for form='operator' (products with vectors) or form='sparse'"
            advice = whole if s.batch is None else "take fewer samples at a time"
            must_fit(s.rows, s.columns, s.batch or 1, x.dtype, x.device, self.memory, advice)
            if not (s.rows and s.columns):
                self.way = Empty(s.rows, s.columns, s.batch)
                self.first = (x, self.way(x))
                return
            if graph is not None and graph.replaced:
                back = reverse(self._run, graph, x, s, self.memory, "autograd")
                self.choice = Choice("reverse", back, f"{graph.replaced}, which torch.func does not bear")
            else:
                self.choice = choose(self._run, graph, x, s, mode=self.asked, memory=self.memory, race=self.race)
            self.way = self.choice.way
        self._check(x)

    def _value(self, x: Tensor) -> Tensor:
        """f(x), as the capture has found it."""
        graph = self.graph
        kept = graph.values[graph.outputs[0]].tensor if graph is not None and type(graph.answer) is Ref else None
        return as_output(self._run(x) if kept is None else kept, self.f).detach()

    def _sizes(self, x: Tensor, y: Tensor) -> Sizes:
        if not self.batched:
            return Sizes(y.numel(), x.numel(), None)
        if x.ndim == 0 or y.ndim == 0 or len(x) != len(y) or len(x) == 0:
            raise ModelError(
                f"batched=True needs one sample a row: x has shape {tuple(x.shape)} and f(x) {tuple(y.shape)}; their "
                "first axes must be equally long"
            )
        return Sizes(y[0].numel(), x[0].numel(), len(x))

    def _followed(self) -> Graph:
        if self.graph is None or self.graph.opaque:
            why = self.graph.opaque if self.graph is not None else self.remarks[-1]
            raise ModelError(f"form='sparse' follows f operation by operation, and cannot here: {why}")
        return self.graph

    # the first call checks itself ----------------------------------------------------------------------------------

    def _check(self, x: Tensor) -> None:
        """Compares the way with torch's products and with values at x; torch's reverse way replaces a wrong one."""
        ours = self.choice is None or self.choice.name in ("chain", "sparse", "forward")
        try:
            eps = coarsest(self.graph, x.dtype)
            pushed = self.mode == "forward" or (ours and may_push(self.graph))
            seen = probe(self._run, x, forwards=pushed, eps=eps)
            must_repeat(self.f, self.y, seen.y, x)
            must_not_remember(self.f, self.graph, x, seen)
            J, failed = self._tried(x)
        except ModelError:
            raise
        except (RuntimeError, NotImplementedError, IndexError) as error:
            raise self._cannot(error) from error
        wrong = failed or what_is_wrong(J, seen, self.sizes, self.graph)
        if wrong and ours and seen.along is None:  # torch's jvp may be what it agrees with
            seen = probe(self._run, x, eps=eps)
            wrong = failed or what_is_wrong(J, seen, self.sizes, self.graph)
        if wrong:
            if self.batched:
                must_be_apart(self._run, self.graph, x)
            found = culprit(self.graph, x, self.mode)  # type: ignore[arg-type]
            named = f"; the first operation where it goes wrong is {found.label}" if found else ""
            how = "fails" if failed else "is wrong"
            text = f"the {self.mode} way {how} at this point ({wrong}){named}; torch's reverse way is used"
            self.remarks.append(text)
            warn(text)
            back = reverse(self._run, self.graph, x, self.sizes, self.memory, "autograd")
            self.choice = Choice("reverse", back, text)
            self.way = AsSparse(back) if self.form == "sparse" else back
            J = self.way(x)
        self._say_doubts(x, seen)
        self.first = (x, J)

    def _check_operator(self, x: Tensor) -> None:
        """The same for products: both of a chain's must be torch's."""
        try:
            seen = probe(self._run, x, eps=coarsest(self.graph, x.dtype))
            must_repeat(self.f, self.y, seen.y, x)
            must_not_remember(self.f, self.graph, x, seen)
            self.forwards = not jvp_is_wrong(seen)
            wrong = self._tried_operator(x, seen) if self.way is not None else ""
        except ModelError:
            raise
        except (RuntimeError, NotImplementedError, IndexError) as error:
            raise self._cannot(error) from error
        if wrong:
            found = culprit(self.graph, x, "chain")
            named = f"; the first operation where it goes wrong is {found.label}" if found else ""
            text = f"the chain operator is wrong at this point ({wrong}){named}; torch's products are used"
            self.remarks.append(text)
            warn(text)
            self.way = None
        self._say_doubts(x, seen)

    def _tried_operator(self, x: Tensor, seen: Probe) -> str:
        """What is wrong with a chain's products; without forward rules they are torch's, which find another way."""
        try:
            return operator_is_wrong(self._operator(x), seen, self.graph)
        except (RuntimeError, NotImplementedError) as error:
            self.remarks.append(f"no chain: {error}")
            self.way = None
            return ""

    def _cannot(self, error: Exception) -> ModelError:
        return ModelError(f"{name_of(self.f)} cannot be differentiated at this point{self._writes()}: {error}")

    def _say_doubts(self, x: Tensor, seen: Probe) -> None:
        doubts = suspects(self._run, self.graph, x, seen)
        if doubts is not None:
            text = f"autograd's derivative of {name_of(self.f)} is not what its values do at this point{doubts}"
            self.remarks.append(text)
            warn(text)

    def _tried(self, x: Tensor) -> tuple[Any, str]:
        """The Jacobian by the way, or why an own way failed at what torch's reverse mode can do."""
        if self.mode not in ("chain", "sparse", "forward"):
            return self.way(x), ""
        try:
            return self.way(x), ""
        except (RuntimeError, NotImplementedError, IndexError) as error:
            if isinstance(error, ModelError):
                raise
            return None, str(error)

    def _writes(self) -> str:
        notes = self.graph.notes if self.graph is not None else []
        found = [note.text for note in notes if note.kind in ("inplace", "state written", "input written", "hook")]
        found += [
            f"{op.name} writes in place ({op.label})" for op in (self.graph.ops if self.graph else []) if op.mutates
        ]
        return f" ({'; '.join(dict.fromkeys(found))})" if found else ""

    # evaluating ----------------------------------------------------------------------------------------------------

    def __call__(self, x: Any) -> Any:
        """The Jacobian at x, in the form that was asked for.

        Raises:
            ModelError: if f has no Jacobian there.
        """
        if torch.is_inference_mode_enabled():
            with torch.inference_mode(False):
                return self(outside(x))
        numpy = type(x).__module__ == "numpy"
        x = as_point(x).detach()
        x = x.to(self.like[1]) if numpy and x.dtype == torch.float64 else x  # as `in_dtype_of` made the example
        with Quiet():
            if not self.still.moves:
                return self._at(x)
            with self.still.contents():
                return self._at(x)

    def _at(self, x: Tensor) -> Any:
        if (x.shape, x.dtype, x.device) != self.like or self.still.key() != self.key:
            self._plan(x)
        elif self.guard is not None and (self.first is None or self.first[0] is not x):
            self._follow_branches(x)
        if self.form == "operator":
            return self._operator(x)
        if self.first is not None and self.first[0] is x:
            J = self.first[1]
        else:
            J = self._evaluated(x)
        self.first = None
        return self._shaped(J)

    def _evaluated(self, x: Tensor) -> Any:
        """By the planned way; planned anew where something it relied on, such as zeros of weights, holds no more."""
        try:
            return self.way(x)
        except ModelError:
            self._plan(x)
            assert self.first is not None
            return self.first[1]

    def at_example(self) -> Any:
        """The Jacobian at the point that the plan was made for, as its check has found it."""
        if self.first is None:
            raise ModelError("the plan has been called since it was made; call it with a point")
        J, self.first = self.first[1], None
        return self._shaped(J)

    def _shaped(self, J: Any) -> Any:
        if self.form == "sparse":
            return J
        if self.batched:
            return J.reshape(len(J), *self.y_shape[1:], *self.x_shape[1:])
        return J.reshape(self.y_shape + self.x_shape)

    def _follow_branches(self, x: Tensor) -> None:
        """Plans anew where a branch that depends on a value is another one at x."""
        assert self.guard is not None
        try:
            with torch.no_grad():
                self.guard(x)
        except ModelError:
            self._plan(x)

    def _chain(self) -> Any:
        """What operators are made by; None for torch's products."""
        if self.asked in ("auto", "chain") and self.graph is not None and not self.graph.opaque:
            try:
                return prepare_chain(self.graph, batched=False, memory=self.memory)
            except ModelError as error:
                if self.asked == "chain":
                    raise
                self.remarks.append(f"no chain: {error}")
        return None

    def _operator(self, x: Tensor) -> Any:
        return operator_of(self._run, x, forwards=self.forwards) if self.way is None else self.way.operator(x)

    # what it tells -------------------------------------------------------------------------------------------------

    @property
    def mode(self) -> str:
        if self.form == "operator":
            return "operator"
        return self.choice.name if self.choice is not None else "sparse"

    @property
    def why(self) -> str:
        return self.choice.why if self.choice is not None else f"form={self.form!r} was asked for"

    @property
    def pattern(self) -> Any:
        """(p, q), boolean: where the Jacobian may be other than zero.

        Raises:
            ModelError: if the plan is not sparse.
        """
        return self._compressed().pattern

    @property
    def colours(self) -> int:
        """How many products a sparse evaluation takes.

        Raises:
            ModelError: if the plan is not sparse.
        """
        return self._compressed().seeds

    def _compressed(self) -> Any:
        found = getattr(self.way, "compressed", self.way)
        if not hasattr(found, "pattern"):
            raise ModelError(f"this plan's way is {self.mode!r}, which knows no pattern; ask for form='sparse'")
        return found

    def explain(self) -> str:
        """The plan in words: sizes, the way and why, the others, and remarks."""
        s = self.sizes
        batch = f"{s.batch} x " if s.batch is not None else ""
        lines = [f"Jacobian of {name_of(self.f)}: {batch}{s.rows} x {s.columns}", f"way: {self.mode}, {self.why}"]
        if self.choice is not None:
            for name, cost in sorted(self.choice.predicted.items(), key=lambda item: item[1].seconds):
                took = f", took {1e3 * self.choice.timed[name]:.3g} ms" if name in self.choice.timed else ""
                lines.append(f"  {name}: predicted {1e3 * cost.seconds:.3g} ms, {as_text(cost.peak)} at most{took}")
            lines += [f"  {name}: not open, {why}" for name, why in self.choice.refused.items()]
        inner = getattr(self.way, "compressed", self.way)
        if hasattr(inner, "explain"):
            lines += ["", inner.explain()]
        lines += [f"note: {remark}" for remark in self.remarks]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.explain()

    def __repr__(self) -> str:
        return f"JacobianPlan({self.sizes.rows} x {self.sizes.columns}, way={self.mode!r})"


def outside(x: Any) -> Any:
    """A point, or a tuple of arguments, that may be differentiated though it was made in inference mode."""
    if isinstance(x, tuple | list):
        return type(x)([outside(part) for part in x])
    return x.clone() if isinstance(x, Tensor) and x.is_inference() else x
