"""The Jacobian of a function or module, p outputs by q inputs, by whichever way is fastest and fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from eitherway.base.errors import ModelError, nearest
from eitherway.calculus.accept import as_point, must_be_callable, name_of
from eitherway.calculus.jacobian.at_once import at_once
from eitherway.calculus.jacobian.choose import MODES, Mode
from eitherway.calculus.jacobian.memory import as_bytes
from eitherway.calculus.jacobian.parameters import parameter_jacobian
from eitherway.calculus.jacobian.plan import JacobianPlan, outside
from eitherway.calculus.jacobian.still import Still
from eitherway.graph import recording
from eitherway.graph.capture import owners
from eitherway.graph.chance import chance_kept

Form = Literal["dense", "operator", "sparse"]
FORMS = ("dense", "operator", "sparse")


def jacobian(
    f: Callable[..., Any],
    x: Any,
    *,
    mode: Mode = "auto",
    form: Form = "dense",
    wrt: str | Sequence[str] = "input",
    argnums: int | tuple[int, ...] = 0,
    batched: bool = False,
    memory: int | str | None = None,
) -> Any:
    """The derivative of f at x: a gradient as long as the vector for a scalar f, a p x q Jacobian for a vector f.

    Args:
        f: a function or module of tensors that returns one tensor.
        x: the point: a tensor, array or list; or a tuple of positional arguments.
        mode: "auto" chooses by a prediction for each way; or one of "chain", "sparse", "reverse", "forward".
        form: "dense"; "operator", an object that multiplies with vectors and is never written down; "sparse", a
            torch sparse tensor of flattened outputs by flattened inputs.
        wrt: "input"; or, for a module, "parameters" or a list of their names, with `mode`, `form` and `argnums` left
            as they are.
        argnums: which argument is varied where x is a tuple; a tuple of numbers gives a tuple of Jacobians.
        batched: x and f(x) hold one sample a row, and each sample's own Jacobian is wanted.
        memory: what the evaluation may take, in bytes or as "200MB"; ways that need more are taken in chunks or not.

    Returns:
        As torch.func shapes it: f(x).shape + x.shape; batched: (B,) + f(x).shape[1:] + x.shape[1:]. With `wrt` of
        parameters a dict from name to such a tensor.

    Raises:
        ModelError: for points or functions that have no Jacobian, samples of a batch that touch each other, or an
            answer that does not fit.

    The first evaluation is checked: its product with a random covector against torch's own vjp (where they part, one
    with a vector against the jvp), and torch's against a difference of values, taken in float64 where f can be had in
    it. Where a planned way is wrong, torch's reverse way answers and a `JacobianWarning` names the operation. Jacobians
    by parameters are torch's own; of these only the value is checked, by a second call.

    Source: Griewank & Walther 2008, Evaluating Derivatives, chapters 3, 8 and 10.

    >>> jacobian(lambda x: torch.stack([x[0] * x[1], x[1] ** 2]), [3.0, 2.0])
    tensor([[2., 3.],
            [0., 4.]])
    >>> jacobian(lambda x: (x**2).sum(), [1.0, 2.0, 3.0])
    tensor([2., 4., 6.])
    """
    if torch.is_inference_mode_enabled():
        with torch.inference_mode(False):
            return jacobian(
                f, outside(x), mode=mode, form=form, wrt=wrt, argnums=argnums, batched=batched, memory=memory
            )
    must_be_callable(f, "jacobian")
    _must_be_outermost()
    _known("mode", mode, MODES)
    _known("form", form, FORMS)
    budget = as_bytes(memory)
    if wrt != "input":
        names = _names(wrt)
        if (mode, form, argnums) != ("auto", "dense", 0):
            raise ModelError(
                f"mode={mode!r}, form={form!r} and argnums={argnums!r} are of Jacobians by the input; those by "
                "parameters are dense and torch's: leave these out"
            )
        return parameter_jacobian(f, x, names, batched=batched, memory=budget)
    arguments = _arguments(in_dtype_of(f, x))
    chosen = tuple(argnums) if isinstance(argnums, tuple | list) else (argnums,)
    answers = []
    for i in chosen:
        point = _argument(arguments, i)
        one = f if len(arguments) == 1 else _varied(f, arguments, i)
        answers.append(_once(one, point.detach(), mode, form, batched, budget))
    return tuple(answers) if isinstance(argnums, tuple | list) else answers[0]


def prepare_jacobian(
    f: Callable[..., Any],
    example: Any,
    *,
    mode: Mode = "auto",
    form: Form = "dense",
    batched: bool = False,
    memory: int | str | None = None,
) -> JacobianPlan:
    """Plans once how to take the Jacobian at points like the example; `plan(x)` evaluates it there.

    The plan holds for one shape, dtype and device, for the modes and parameters that f's modules have now (their values
    may change), and for the branch that f took. Where any of these is different, it is made anew at the call. Ways
    whose predictions come close are raced, so a plan costs a few evaluations.

    Args:
        f: a function or module of one tensor that returns one tensor.
        example: a point like those to come.
        mode, form, batched, memory: as in `jacobian`.

    Raises:
        ModelError: as in `jacobian`.

    >>> plan = prepare_jacobian(lambda x: x**3, torch.ones(2))
    >>> plan(torch.tensor([1.0, 2.0]))
    tensor([[ 3.,  0.],
            [ 0., 12.]])
    """
    if torch.is_inference_mode_enabled():
        with torch.inference_mode(False):
            return prepare_jacobian(f, outside(example), mode=mode, form=form, batched=batched, memory=memory)
    must_be_callable(f, "prepare_jacobian")
    _must_be_outermost()
    _known("mode", mode, MODES)
    _known("form", form, FORMS)
    if isinstance(example, tuple) and any(isinstance(part, Tensor) for part in example):
        raise ModelError(
            f"a plan is for one argument and got a tuple of {len(example)}; bind the others: lambda x: f(x, y)"
        )
    point = as_point(in_dtype_of(f, example))
    return JacobianPlan(f, point, mode=mode, form=form, batched=batched, memory=as_bytes(memory), race=True)


def _once(f: Callable[..., Any], x: Tensor, mode: Mode, form: Form, batched: bool, memory: int | None) -> Any:
    """The Jacobian at one point that nobody will come back to."""
    if mode == "auto" and form == "dense" and memory is None and not Still(f).moves:
        with chance_kept():
            found = at_once(f, x, batched=batched)
        if found is not None:
            return found
    plan = JacobianPlan(f, x, mode=mode, form=form, batched=batched, memory=memory, race=False)
    return plan(x) if form == "operator" else plan.at_example()


def in_dtype_of(f: Callable[..., Any], x: Any) -> Any:
    """NumPy's float64 arrays, and tuples of them, in the dtype of the modules that f reaches; all else as it is."""
    if isinstance(x, tuple):
        return tuple(in_dtype_of(f, part) for part in x)
    if type(x).__module__ != "numpy" or getattr(x, "dtype", None) != "float64":
        return x
    held = (p.dtype for _, owner in owners(f) for p in owner.parameters() if p.is_floating_point())
    return as_point(x).to(next(held, torch.float64))


def _varied(f: Callable[..., Any], arguments: tuple[Any, ...], i: int) -> Callable[[Tensor], Any]:
    """f of its i-th argument alone; a closure, in which the modules of f are found."""
    before, after = arguments[: i % len(arguments)], arguments[i % len(arguments) + 1 :]

    def one(x: Tensor) -> Any:
        return f(*before, x, *after)

    one.__name__ = name_of(f)
    return one


def _arguments(x: Any) -> tuple[Any, ...]:
    if isinstance(x, tuple) and any(not isinstance(part, (int, float)) for part in x):
        return tuple(torch.as_tensor(part) if not isinstance(part, Tensor) and _array(part) else part for part in x)
    return (as_point(x),)


def _array(part: Any) -> bool:
    return isinstance(part, list) or type(part).__module__ == "numpy"


def _argument(arguments: tuple[Any, ...], i: int) -> Tensor:
    if isinstance(i, bool) or not isinstance(i, int) or not -len(arguments) <= i < len(arguments):
        raise ModelError(f"argnums is {i!r} and there are {len(arguments)} arguments, counted from 0")
    return as_point(arguments[i], name="x" if len(arguments) == 1 else f"x[{i % len(arguments)}]")


def _must_be_outermost() -> None:
    if recording():
        raise ModelError(
            "a Jacobian inside a function whose own derivative is taken lets no gradient pass; take the inner one by "
            "torch.func: ew.jacobian(torch.func.grad(f), x) is a Hessian"
        )


def _names(wrt: Any) -> list[str] | None:
    """The parameters that are varied; None for all."""
    if wrt == "parameters":
        return None
    names = [wrt] if isinstance(wrt, str) else list(wrt) if isinstance(wrt, Sequence) else [wrt]
    if not all(isinstance(name, str) for name in names):
        raise ModelError(f"wrt is {wrt!r}; expected 'input', 'parameters', or a list of the names of parameters")
    return names


def _known(name: str, given: Any, known: Sequence[str]) -> None:
    if given not in known:
        raise ModelError(f"{name} is {given!r}. {nearest(str(given), known)}")
