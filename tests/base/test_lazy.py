"""Public names are imported at their first use and kept."""

import sys
from types import ModuleType

import pytest

from eitherway.base.lazy import lazy


@pytest.fixture
def folder(monkeypatch):
    made = ModuleType("a_folder")
    monkeypatch.setitem(sys.modules, "a_folder", made)
    made.__getattr__, made.__dir__ = lazy("a_folder", {"OrderedDict": "collections"}, submodules=("inner",))  # type: ignore[method-assign]
    return made


def test_a_name_is_looked_up_once_and_then_kept(folder):
    from collections import OrderedDict

    assert "OrderedDict" not in vars(folder)
    assert folder.OrderedDict is OrderedDict
    assert vars(folder)["OrderedDict"] is OrderedDict


def test_dir_shows_names_before_they_are_used(folder):
    assert {"OrderedDict", "inner"} <= set(dir(folder))


def test_a_folder_inside_is_a_name_too(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "a_folder.inner", inner := ModuleType("a_folder.inner"))
    monkeypatch.setattr(folder, "__path__", [], raising=False)
    assert folder.inner is inner


def test_an_unknown_name_leads_to_those_there_are(folder):
    with pytest.raises(AttributeError, match="'a_folder' has no attribute 'Dict'; it has OrderedDict, inner"):
        folder.Dict
