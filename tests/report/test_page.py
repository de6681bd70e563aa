"""The page about a kept run: complete, alone, small, and safe with any text."""

import ast
import copy
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import eitherway as ew
from eitherway.report import page
from eitherway.run.journal import Journal
from eitherway.run.kept import Kept

EVIL = "</pre><script>alert(\"x\")</script> & $x_1$ 'quoted' \x00"
SPACE = ew.Space(
    lr=ew.Real(1e-5, 1, scale="log"),
    layers=ew.Integer(1, 8),
    act=ew.Choice(["relu", "<script>alert(1)</script>", "$\\frac"]),
    w=ew.Array((2,), -1, 1),
    slope=ew.Real(0, 1).when(act="relu"),
)


def mixed(lr, layers, act, w, slope=0.0):
    if layers > 6:
        raise ew.Failed(EVIL)
    if lr > 0.3:
        raise ValueError(f"a loss of {lr}")
    return (np.log10(lr) + 3) ** 2 + (layers - 4) ** 2 + float((w**2).sum()) + slope


def bowl(x):
    return float((x**2).sum())


def keep(path: Path, cost=bowl, space=None, method="randomsearch", budget=40, verb=ew.minimize, **arguments) -> Kept:
    space = ew.Array((2,), -5, 5) if space is None else space
    verb(cost, space, method, budget=budget, journal=path, progress=None, **arguments)
    return Journal.read(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Kept:
    return keep(tmp_path_factory.mktemp("runs") / "my run.db", mixed, SPACE, budget=120)


@pytest.fixture(scope="module")
def html(run) -> str:
    return page.render([run])


class Tags(HTMLParser):
    """What stands in a page, tag by tag."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href", "xlink:href", "action") and v]
        assert not [k for k, _ in attrs if k.startswith("on")]

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_says_what_came_out_why_it_stopped_and_how_to_go_on(run, html):
    text = "".join(Tags(html).text)
    assert f"The lowest value found is {run.value:.6g}, at evaluation" in text
    assert "It stopped: the budget of 120 evaluations is spent" in text
    assert f"eitherway resume '{run.path}' --budget 240" in text
    assert "Real(1e-05, 1, scale='log')" in text
    assert html.count("<svg") == 3


def test_the_page_stands_alone_and_runs_nothing(html):
    tags = Tags(html)
    assert not {"script", "iframe", "object", "link", "base", "form"} & set(tags.tags)
    assert all(link.startswith(("#", "data:image/png")) for link in tags.links)
    assert "default-src 'none'" in html
    assert not re.search(r"url\((?!#)", html)


def test_every_text_of_a_run_is_escaped(html):
    assert "<script" not in html
    assert "alert(&#34;x&#34;)" in html


def test_the_best_point_can_be_pasted(run):
    call = ast.parse(page.code(run)).body[0]
    assert isinstance(call, ast.Expr)
    assert eval(page.code(run), {"mixed": mixed, "np": np}) == run.value


def test_the_best_point_of_a_lone_array_can_be_pasted(tmp_path):
    run = keep(tmp_path / "run.db")
    assert eval(page.code(run), {"bowl": bowl, "np": np}) == run.value


def test_the_best_point_of_a_program_is_its_command_line(tmp_path):
    cost = ew.command("echo {x} 'a b' -s {s}", optional=["s"])
    space = ew.Space(x=ew.Real(1, 2), s=ew.Real(0, 1).when(x=lambda x: x > 5))
    run = keep(tmp_path / "run.db", cost, space, budget=8)
    assert page.code(run) == f"echo {run.value!r} 'a b'"
    lone = keep(tmp_path / "lone.db", ew.command("echo {speed}"), ew.Real(1, 2), budget=8)
    assert page.code(lone) == f"echo {lone.value!r}"
    assert "echo" in page.render([run])


def test_failures_that_differ_in_numbers_only_are_one_kind(run):
    kinds = page.failures(run)
    assert len(kinds) == 2
    assert sum(kind.count for kind in kinds) == int((run.history["status"] != 0).sum())
    assert kinds[0].count >= kinds[1].count


def test_of_many_kinds_of_failures_the_rest_is_counted(run):
    history = copy.copy(run.history)
    history.why = {i: "abcdefghijklmnopqrst"[i] * 3 for i in range(20)}
    kinds = page.failures(replace(run, history=history))
    assert len(kinds) == page.FAILURES + 1
    assert kinds[-1] == page.Failure("8 other kinds", 8, 13)


def test_the_page_has_the_same_bytes_every_time(tmp_path):
    run = keep(tmp_path / "run.db")
    assert page.render([run]) == page.render([Journal.read(tmp_path / "run.db")])


def test_a_maximized_score_keeps_its_sign(tmp_path):
    run = keep(tmp_path / "run.db", lambda x: 3.0 - bowl(x), verb=ew.maximize, target=2.5, budget=4000)
    assert page.verdict(run).startswith("The highest value found is 2.")
    assert ("target", "2.5") in page.settings(run)


def test_a_run_without_any_value_says_so(tmp_path):
    def fails(x):
        raise ew.Failed("never")

    run = keep(tmp_path / "run.db", fails, budget=8)
    assert page.verdict(run) == "None of 8 evaluations had a value."
    html = page.render([run])
    assert html.count("<svg") == 1
    assert "The best point" not in html


def test_a_run_that_was_killed_has_no_end_yet(tmp_path):
    run = replace(keep(tmp_path / "run.db", budget=16), reason=None)
    assert "It has no end yet: it is still running, or it was killed." in page.render([run])


def test_a_run_that_has_not_begun_is_shown(tmp_path):
    run = keep(tmp_path / "run.db", budget=8)
    empty = replace(run, history=type(run.history)(run.space), best=None, value=float("nan"), reason=None)
    assert page.verdict(empty) == "Nothing has been evaluated yet."
    assert "<svg" in page.render([empty])
    assert "<svg" in page.render([empty, run])


def test_several_runs_are_compared_by_method(tmp_path):
    runs = [
        keep(tmp_path / f"{m}{s}.db", method=m, seed=s, budget=60) for m in ("de", "randomsearch") for s in range(3)
    ]
    rows = page.groups(runs)
    assert [(row["label"], row["runs"]) for row in rows] == [("DE", "3"), ("RandomSearch", "3")]
    assert rows[0]["median"] == f"{sorted(run.value for run in runs[:3])[1]:.6g}"
    html = page.render(runs)
    assert html.count("<svg") == 1
    assert html.count("<details>") == 6
    assert all(run.path.name in html for run in runs)


def test_settings_that_were_chosen_tell_groups_apart(tmp_path):
    runs = [keep(tmp_path / "a.db"), keep(tmp_path / "b.db", method=ew.methods.RandomSearch(rows=4))]
    assert [row["label"] for row in page.groups(runs)] == ["RandomSearch", "RandomSearch(rows=4)"]


def test_minimising_and_maximising_are_not_drawn_together(tmp_path):
    runs = [keep(tmp_path / "a.db"), keep(tmp_path / "b.db", verb=ew.maximize)]
    assert "<svg" not in page.render(runs)


def test_no_run_at_all_is_refused():
    with pytest.raises(ew.JournalError, match="a report was asked for no run at all"):
        page.render([])


@pytest.mark.slow
def test_a_hundred_thousand_evaluations_stay_below_half_a_megabyte(tmp_path):
    run = keep(tmp_path / "run.db", space=ew.Array((20,), -5, 5), method="de", budget=100_000)
    assert len(page.render([run])) < 500_000
