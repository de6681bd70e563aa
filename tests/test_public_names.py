"""The public names are one list: the code's, the docs' and what is really there are the same."""

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import eitherway

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTED = re.findall(r"^\| `(?:ew\.)?(\w+)", (ROOT / "docs" / "names.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_docs_list_the_public_names_in_the_same_order():
    assert eitherway.__all__ == DOCUMENTED


@pytest.mark.parametrize("name", eitherway.__all__)
def test_a_public_name_is_really_there(name):
    found = getattr(eitherway, name)
    if name in eitherway._SUBMODULES:
        assert found is importlib.import_module(f"eitherway.{name}")
    else:
        assert found.__name__ == name
        assert found.__doc__, f"{name} has no docstring"


def test_the_type_checker_is_told_the_same_names():
    source = Path(eitherway.__file__).read_text(encoding="utf-8")
    told = {
        name: module for module, name in re.findall(r"^    from ([\w.]+) import (\w+) as \2$", source, re.MULTILINE)
    }
    assert told == {**eitherway._WHERE, **dict.fromkeys(eitherway._SUBMODULES, "eitherway")}


def test_dir_shows_the_public_names_before_they_are_used():
    code = "import eitherway; print(set(eitherway.__all__) <= set(dir(eitherway)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "True\n"


def test_an_unknown_name_leads_to_the_list():
    with pytest.raises(AttributeError, match="has no attribute 'minimise'; docs/names.md lists the public names"):
        eitherway.minimise  # type: ignore[attr-defined]


def test_the_version_is_the_same_everywhere():
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == eitherway.__version__


def test_every_dependency_has_an_exact_version_that_any_machine_can_find():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9.-]+==[0-9][0-9a-z.]*", line)] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(text for extra in project["optional-dependencies"].values() for text in extra),
    ]
    names = {re.split(r"[\[><=]", text)[0].lower() for text in wanted} - {"eitherway"}
    assert names <= {line.split("==")[0] for line in lines}
