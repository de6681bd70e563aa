"""Every fault of the corpus is refused, warned of or answered rightly on the first call, and the fault is named.

And what is sound is left in peace: no warning on any function of the corpus of functions.
"""

import re
import warnings

import pytest
import torch
from tests.corpora import generator, normal
from tests.corpora.case import DETACHED
from tests.corpora.fault import Fault, by_differences
from tests.corpora.faults import FAULTS
from tests.corpora.functions import CASES, Case, dense
from torch import Tensor

from eitherway.base.errors import ModelError
from eitherway.calculus.jacobian import JacobianWarning, jacobian, prepare_jacobian

MODES = ("auto", "chain", "sparse", "forward")
TORCH_IS_WRONG = {"cdist to fixed points", "cdist with itself"}
"""Torch 2.13 gives zeros for their pull-backs under vmap: `torch.func.jacrev` is wrong, and the warning is right."""


def called(f, x: Tensor, **how) -> tuple[Tensor | None, str, str]:
    """(Jacobian or None, what was refused, what was warned of)."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", JacobianWarning)
        try:
            J, refused = jacobian(f, x, **how), ""
        except ModelError as error:
            J, refused = None, str(error)
    return J, refused, " | ".join(str(one.message) for one in caught)


def given(fault: Fault, x: Tensor, f, mode: str = "auto") -> tuple[Tensor | None, str]:
    """What somebody gets who falls into the fault: (Jacobian as (p, q) or None, all that was said)."""
    batched = fault.naive in ("vmap", "per sample")
    example = fault.example

    def whole(f, x: Tensor, **how) -> Tensor:
        return prepare_jacobian(f, example(x), **how)(x) if example is not None else jacobian(f, x, **how)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", JacobianWarning)
        try:
            J, said = whole(f, x, batched=batched, mode=mode), ""
        except ModelError as error:
            J, said = None, str(error)
    said += " | ".join(str(one.message) for one in caught)
    if J is None:
        return None, said
    if batched:
        J = torch.block_diag(*J.reshape(len(x), -1, x[0].numel()))
    return J.reshape(-1, x.numel()), said


def right(fault: Fault, x: Tensor, J: Tensor | None) -> bool:
    """Whether J is what the values do: those of a fresh function at every point, where it has a memory."""
    if J is None or fault.kind == "random":
        return False
    truth = by_differences(lambda x: fault.make(generator(fault.name))[0](x), x)
    return J.shape == truth.shape and torch.allclose(J, truth, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_fault_is_caught_on_the_first_call_and_named(fault: Fault):
    f, x = fault.make(generator(fault.name))
    J, said = given(fault, x, f)
    assert re.search(fault.named, said) or right(fault, x, J), said or "a wrong answer, and not a word"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ("chain", "sparse", "reverse", "forward"))
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_no_way_lets_a_fault_pass(fault: Fault, mode: str):
    f, x = fault.make(generator(fault.name))
    J, said = given(fault, x, f, mode)
    assert said or right(fault, x, J), "a wrong answer, and not a word"


@pytest.mark.slow
@pytest.mark.parametrize("form", ("sparse", "operator"))
@pytest.mark.parametrize(
    "fault", [f for f in FAULTS if f.naive in ("reverse", "forward")], ids=lambda fault: fault.name
)
def test_no_form_lets_a_fault_pass(fault: Fault, form: str):
    f, x = fault.make(generator(fault.name))
    J, refused, said = called(f, x, form=form)
    if refused or said:
        return
    assert J is not None
    found = J.to_dense() if form == "sparse" else J.dense()  # type: ignore[operator]
    assert right(fault, x, found.reshape(-1, x.numel())), "a wrong answer, and not a word"


def test_the_faults_are_many():
    assert len(FAULTS) >= 30 and len({fault.kind for fault in FAULTS}) >= 10


def in_peace(case: Case, mode: str) -> None:
    """Right, and without a word; a mode may be closed with a sentence."""
    f, x = case.make(generator(case.name))
    truth = dense(f, x)
    J, refused, said = called(f, x, mode=mode)
    if refused:
        assert mode != "auto", refused
        return
    assert J is not None
    double = x.dtype == torch.float64 and "float32" not in case.note
    slack = 1e-9 if double else 1e-4
    assert torch.allclose(J.reshape(truth.shape), truth.to(J), rtol=slack, atol=slack)
    expected = case.name in TORCH_IS_WRONG or case.note == DETACHED
    closed = mode == "forward" and said.startswith("the forward way")  # torch has no forward rule, or a wrong one
    assert expected or closed or not said, said


@pytest.mark.parametrize("case", CASES[::4], ids=lambda case: case.name)
def test_what_is_sound_is_answered_without_a_word(case: Case):
    in_peace(case, "auto")


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_sound_is_answered_without_a_word_by_every_way(case: Case, mode: str):
    in_peace(case, mode)


@pytest.mark.slow
@pytest.mark.parametrize("form", ("dense", "sparse", "operator"))
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_sound_is_planned_without_a_word_and_right_elsewhere(case: Case, form: str):
    f, x = case.make(generator(case.name))
    if not x.is_floating_point() or x.numel() == 0:
        return
    moved = x + 0.01 * torch.rand(x.shape, generator=generator("moved"), dtype=torch.float64).to(x.dtype)
    truth = dense(f, moved)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # torch's forward rule is wrong; a race may choose it for a dense plan, and then it is said
        forwards = form != "sparse" and case.name == "scatter_reduce of products"
        if case.name not in TORCH_IS_WRONG and case.note != DETACHED and not forwards:
            warnings.simplefilter("error", JacobianWarning)
        try:
            J = prepare_jacobian(f, x, form=form)(moved)
            found = J if form == "dense" else J.to_dense() if form == "sparse" else J.dense()
        except ModelError as error:  # no run to follow; or neither a forward rule nor a second derivative
            expected = form == "sparse" or "or its second derivative" in str(error)
            if not expected:
                raise
            return
    if form == "operator":
        v = normal(generator("v"), x.numel()).to(x)
        try:
            pushed = J @ v
        except ModelError:  # neither a forward rule nor a second derivative
            pushed = truth @ v
        assert torch.allclose(pushed, truth @ v, rtol=1e-5, atol=1e-5)
    slack = 1e-8 if x.dtype == torch.float64 and "float32" not in case.note else 1e-3
    assert torch.allclose(found.reshape(truth.shape), truth.to(found), rtol=slack, atol=slack)


@pytest.mark.parametrize("name", sorted(TORCH_IS_WRONG))
def test_where_torch_itself_is_wrong_the_answer_is_right_and_the_operation_named(name: str):
    f, x = next(case for case in CASES if case.name == name).make(generator(name))
    J, _, said = called(f, x, mode="reverse")
    assert J is not None and torch.allclose(J.reshape(-1, x.numel()), dense(f, x))
    assert not said or "cdist" in said
