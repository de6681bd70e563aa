"""The chain rule on the corpora: every derivative the dense one, every wrong backward named by its link."""

import re

import pytest
import torch
from tests.corpora import edges, functions, generator, modules
from tests.corpora.case import Case, dense
from tests.corpora.faults import FAULTS

from eitherway.base.errors import ModelError
from eitherway.calculus.chain_rule import chain_rule

GROUPS = [group for part in (functions, modules, edges) for group in vars(part).values() if isinstance(group, tuple)]
CASES = list({case.name: case for group in GROUPS for case in group if isinstance(case, Case)}.values())
BACKWARD = [fault for fault in FAULTS if fault.kind == "backward" and fault.naive in ("reverse", "forward")]
KINDS = ("cut", "hook", "number", "surrogate")
CUT = [fault for fault in FAULTS if fault.kind in KINDS and "checkpoint" not in fault.name]
BLAMED = ("an empty tensor filled by parts",)  # half of it is detached


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_product_of_the_links_is_the_dense_jacobian(case):
    f, x = case.make(generator(case.name))
    table = chain_rule(f, x)
    expected = dense(f, x).reshape(table.shape).double()
    assert torch.allclose(table.derivative.reshape(table.shape), expected, rtol=1e-6, atol=1e-9)
    assert not table.broken and table.altered is None and (not table.wrong or case.name in BLAMED)
    assert str(table) and table._repr_html_()


@pytest.mark.parametrize("fault", BACKWARD, ids=lambda fault: fault.name)
def test_a_wrong_backward_is_named_by_its_link(fault):
    f, x = fault.make(generator(fault.name))
    table = chain_rule(f, x)
    blamed = [*table.wrong, *([table.altered] if table.altered else [])]
    assert not table.right and any(re.search(fault.named, link.label) for link in blamed)
    assert all(re.search(fault.named, link.label) for link in table.wrong)


@pytest.mark.parametrize("fault", CUT, ids=lambda fault: fault.name)
def test_cuts_hooks_and_broken_numbers_are_named(fault):
    f, x = fault.make(generator(fault.name))
    try:
        said = str(chain_rule(f, x))
    except ModelError as error:
        said = str(error)
    told = [line for line in said.splitlines() if re.match("wrong|broken|cut|dead|altered|note|the links", line)]
    assert re.search(fault.named, "\n".join(told))
