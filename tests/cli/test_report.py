"""`eitherway report`: one page beside the run, and one message where there is none."""

import pytest

import eitherway as ew
from eitherway.cli.main import main


@pytest.fixture
def run(tmp_path):
    ew.minimize(lambda x: x * x, ew.Real(-1, 1), "randomsearch", budget=16, journal=tmp_path / "run.db", progress=None)
    return tmp_path / "run.db"


def test_the_page_stands_beside_the_run(run, capsys):
    assert main(["report", str(run)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("The lowest value found is ")
    assert out.endswith(f"written: {run.with_suffix('.html')}\n")
    assert run.with_suffix(".html").read_text().startswith("<!doctype html>")


def test_several_runs_go_where_they_are_told_to(run, tmp_path, capsys):
    ew.minimize(lambda x: x * x, ew.Real(-1, 1), "de", budget=16, journal=tmp_path / "other.db", progress=None)
    assert main(["report", str(run), str(tmp_path / "other.db"), "-o", str(tmp_path / "new" / "both.html")]) == 0
    assert "2 runs" in (tmp_path / "new" / "both.html").read_text()
    assert "other.db: The lowest" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "no run was given; expected the journal of one"),
        (["missing.db"], "there is no journal"),
        (["foreign.db"], "is not a journal"),
        (["run.db", "-o", "run.db"], "the page would be written over the run run.db"),
        (["run.db", "-o", "folder"], "the page folder cannot be written (Is a directory)"),
    ],
)
def test_a_mistake_is_one_message(run, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "foreign.db").write_text("something else, and longer than a header " * 30)
    (tmp_path / "folder").mkdir()
    before = run.read_bytes()
    assert main(["report", *arguments]) == 1
    assert message in capsys.readouterr().err
    assert run.read_bytes() == before
