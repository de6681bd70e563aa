"""Methods as plain values: known ones come back as they were, others say why not."""

import json
from dataclasses import dataclass

import pytest

from eitherway import methods
from eitherway.base.errors import MethodError
from eitherway.methods.settings import settings_from_plain, settings_to_plain
from eitherway.methods.variables.random_search import RandomSearch


@pytest.mark.parametrize("name", list(methods.known()))
def test_every_method_comes_back_as_it_was(name):
    method = methods.get(name)
    assert settings_from_plain(json.loads(json.dumps(settings_to_plain(method)))) == method


def test_settings_that_are_not_the_usual_ones_come_back():
    method = RandomSearch(rows=3, points="uniform")
    assert settings_from_plain(settings_to_plain(method)) == method


@dataclass(frozen=True)
class Several:
    """A method made of methods, which is not installed."""

    engines: tuple = (RandomSearch(), RandomSearch(rows=2))

    def init(self, space, key): ...
    def ask(self, state, space, key): ...
    def tell(self, state, space, question, told, key): ...


def test_methods_within_a_method_are_told_with_their_settings():
    kept = settings_to_plain(Several())
    assert kept["engines"]["@tuple"][1] == {"@method": "RandomSearch", "rows": 2, "points": "quasi"}


def test_a_method_from_elsewhere_is_told_as_not_installed():
    with pytest.raises(MethodError, match="the method Several is not installed here; expected one of"):
        settings_from_plain(settings_to_plain(Several()))


def test_settings_of_another_version_are_told():
    with pytest.raises(MethodError, match="RandomSearch cannot be made again from its settings: .*'colour'"):
        settings_from_plain({"@method": "RandomSearch", "colour": 3})
