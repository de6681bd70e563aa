"""Settings that cannot be are refused when a method is made: every setting of every method, by its type."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated, Any, get_args

import numpy as np
import pytest

import eitherway as ew
from eitherway import methods
from eitherway.base.errors import MethodError
from eitherway.methods.allowed import Range, _settings, check
from eitherway.methods.variables.adam import Adam
from eitherway.methods.variables.annealing import Annealing
from eitherway.methods.variables.cmaes import CMAES
from eitherway.methods.variables.de import DE
from eitherway.methods.variables.ga import GA
from eitherway.methods.variables.random_search import RandomSearch

SETTINGS = [
    (type(methods.get(name)), field.name, kind)
    for name in methods.known()
    for field, kind in _settings(type(methods.get(name)))
]
WRONG = ["8", True, math.nan, math.inf, -1.5, -3, [4], {}, np.ones(3), object(), len, DE]


def _optional(kind: Any) -> bool:
    return type(None) in get_args(kind) + get_args(get_args(kind)[0])


@pytest.mark.parametrize("cls, name, kind", SETTINGS, ids=lambda it: it if isinstance(it, str) else None)
def test_every_setting_refuses_what_it_cannot_be(cls, name, kind):
    for wrong in [*WRONG, *([] if _optional(kind) else [None]), *([10**400] if float in get_args(kind) else [])]:
        with pytest.raises(MethodError, match=rf"^{cls.__name__} got {name}=.+; expected .{{6,}}"):
            cls(**{name: wrong})


@pytest.mark.parametrize("name", methods.known())
def test_a_count_is_no_fraction_and_a_share_may_be_whole(name):
    cls = type(methods.get(name))
    for field, kind in _settings(cls):
        if int in (get_args(kind)[:1] + get_args(get_args(kind)[0])):
            with pytest.raises(MethodError, match="expected a whole number"):
                cls(**{field.name: 8.0})
            cls(**{field.name: np.int64(8)})
        elif float in get_args(kind):
            for number in (0, 0.5, 1, 2):
                if number in get_args(kind)[1]:
                    cls(**{field.name: number})
                    cls(**{field.name: np.float32(number)})


@pytest.mark.parametrize(
    "cls, settings, said",
    [
        (CMAES, {"population": "8"}, "CMAES got population='8'; expected a whole number 4 or more, or None$"),
        (CMAES, {"population": 3}, "population=3; expected a whole number 4 or more"),
        (CMAES, {"restarts": "ipop"}, "got restarts='ipop'; expected 'bipop', 'doubling' or 'never'$"),
        (DE, {"best_share": 1.5}, "got best_share=1.5; expected a number from 0 to 1, such as 0.1$"),
        (GA, {"crossover": math.nan}, "got crossover=nan; expected a number from 0 to 1, such as 0.9$"),
        (Annealing, {"cooling": 1}, "got cooling=1; expected a number between 0 and 1, such as 0.9$"),
        (Annealing, {"attempts": 0}, "got attempts=0; expected a number above 0, such as 10$"),
        (RandomSearch, {"rows": None}, "got rows=None; expected a whole number 1 or more, such as 8$"),
        (DE, {"growth": "a" * 99}, r"got growth='a{59}\.\.\.; expected a number from 1 to 100, such as 1.5$"),
        (Adam, {"beta1": 1}, "got beta1=1; expected a number from 0 to below 1, such as 0.9$"),
    ],
)
def test_the_sentence_says_what_was_given_and_what_would_do(cls, settings, said):
    with pytest.raises(MethodError, match=said):
        cls(**settings)


NUMPYS: list[tuple[Any, dict[str, Any]]] = [
    (RandomSearch, {"rows": np.uint8(200)}),
    (CMAES, {"sigma": np.float16(0.5)}),
    (DE, {"control": np.str_("sets")}),
]


@pytest.mark.parametrize("cls, settings", NUMPYS)
def test_numpys_numbers_and_words_are_taken_as_pythons(cls, settings):
    made = cls(**settings)
    assert all(not isinstance(value, np.generic) for value in vars(made).values())
    assert ew.minimize(lambda x: x**2, ew.Real(-1, 1), made, budget=300, progress=None).evaluations == 300


@pytest.mark.parametrize("engines", ["sqp", ("sqp", "de"), None, CMAES(), (CMAES, DE), 2])
def test_engines_are_methods(engines):
    with pytest.raises(MethodError, match=r"expected a tuple of methods such as \(CMAES\(\), DE\(\)\), not their"):
        methods.Auto(engines=engines)


def test_a_method_of_anyones_own_is_looked_at_in_the_same_way():
    @dataclass(frozen=True)
    class Own:
        share: Annotated[float, Range(above=0, most=1)]
        anything: Any = None
        count: int = 3

        def __post_init__(self) -> None:
            check(self)

    assert Own(1, anything={}) == Own(1.0, {}, 3)
    with pytest.raises(MethodError, match="Own got share=0; expected a number above 0 to 1$"):
        Own(0)
    with pytest.raises(MethodError, match="Own got count=None; expected a whole number, such as 3"):
        dataclasses.replace(Own(1), count=None)
