"""Do the laws bite? The documented method obeys them; each way of breaking it is found, by the law meant for it."""

import re
import sys
import types
from pathlib import Path

import pytest

from eitherway.methods import codec
from eitherway.testing import check_method, laws

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-method.md"


def documented(*changes: tuple[str, str]):
    """The method of the page, with some of its text changed."""
    source = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
    for old, new in changes:
        assert old in source
        source = source.replace(old, new)
    module = sys.modules["documented"] = types.ModuleType("documented")
    exec(compile(source, "documented.py", "exec"), vars(module))
    return module.SuccessRule()


@pytest.fixture(autouse=True)
def _no_state_stays_registered():
    yield
    codec._STATES.pop("documented.SuccessRuleState", None)
    sys.modules.pop("documented", None)


def test_the_documented_method_obeys_every_law():
    check_method(documented())


BROKEN = {
    "ask_changes_nothing: asked twice": (
        'key.numpy("child").standard_normal(space.columns)',
        "np.random.default_rng().standard_normal(space.columns)",
    ),
    "ask_changes_nothing: ask wrote": (
        "        child = state.parent",
        "        state.standing[0, 0] += 1\n        child = state.parent",
    ),
    "ask_changes_nothing: points outside": ("space.clip(child[None])", "child[None]"),
    "saving_equals_never_stopping: went on differently": (
        "state.step = min(",
        "self.__dict__['turns'] = self.__dict__.get('turns', 0) + 1\n        state.step = 0.999**self.turns * min(",
    ),
    "tell_leaves_told_alone: wrote in told": (
        "standing = told.standings()",
        "standing = told.standings()\n        told.values += 1",
    ),
    "lower_is_better: went away from lower values": (
        "bool(better(standing, state.standing)[0])",
        "np.isinf(state.standing).any() or bool(better(state.standing, standing)[0])",
    ),
}


@pytest.mark.parametrize("law", BROKEN)
def test_a_broken_law_is_found(law):
    name, _, said = law.partition(": ")
    with pytest.raises(AssertionError, match=said):
        getattr(laws, name)(documented(BROKEN[law]))


def test_checking_names_the_law_that_was_broken():
    with pytest.raises(AssertionError, match="SuccessRule breaks the law `ask_changes_nothing`: box: points outside"):
        check_method(documented(BROKEN["ask_changes_nothing: points outside"]))


def test_one_array_in_two_fields_is_found():
    sharing = documented(
        ("    step: float\n\n\n@dataclass", "    step: float\n    other: np.ndarray\n\n\n@dataclass"),
        ("np.full((1, 2), np.inf), self.step)", "np.full((1, 2), np.inf), self.step, parent)"),
        ("        if told.moved:", "        state.other = state.parent\n        if told.moved:"),
    )
    with pytest.raises(AssertionError, match="`tell_leaves_told_alone`: box: two fields of the state share one array"):
        check_method(sharing)


def test_one_name_for_two_draws_is_found():
    twice = documented(
        ("        won = bool", '        key.numpy("child").random()\n        won = bool'),
    )
    with pytest.raises(AssertionError, match="the generator 'child' is opened at"):
        check_method(twice)


def test_a_method_that_clings_to_old_values_is_found():
    clinging = documented(("        if told.moved:\n            state.standing = np.full((1, 2), np.inf)\n", ""))
    with pytest.raises(AssertionError, match="`moved_values_are_forgotten`"):
        check_method(clinging)


def test_a_failure_that_becomes_the_parent_is_found():
    gullible = documented(
        ("standing = told.standings()", "standing = np.nan_to_num(told.standings(), nan=-1.0, posinf=-1.0)")
    )
    with pytest.raises(AssertionError, match="`failures_never_become_the_best`: box: .* it goes where the cost fails"):
        check_method(gullible)


def test_a_refusal_without_a_way_out_is_found():
    rude = documented(
        (
            "        parent = space.starts",
            "        from eitherway import MethodError\n"
            "        if len(space.discrete): raise MethodError('no')\n        parent = space.starts",
        )
    )
    with pytest.raises(AssertionError, match="`refusals_name_others`"):
        check_method(rude)
