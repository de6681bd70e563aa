"""How a diagnosis is shown: as text, in a notebook, as a picture."""

import math

import pytest
import torch
from tests.signal.diagnose.ill import FAULTS
from tests.signal.diagnose.well import CE, HEALTHY, Language, chain, draw, he, ids, labels, noise, seeded
from torch import nn

from eitherway.base.errors import ModelError
from eitherway.signal.diagnose import diagnose
from eitherway.signal.diagnose.report import fold_rows


@pytest.fixture(scope="module")
def deep():
    return diagnose(draw(chain(60, 64, nn.GELU), lambda w, fan: 2 / math.sqrt(fan)), noise(16, 64))


def test_text_is_never_wider_than_a_terminal(deep):
    reports = [deep, *(diagnose(*seeded(FAULTS[n][2])) for n in ("biases at -3", "embeddings x 100", "no_grad"))]
    reports.append(diagnose(*seeded(HEALTHY["pre-norm"]), lr=1e-3))
    for report in reports:
        assert max(map(len, str(report).splitlines())) <= 120
        assert report.summary in str(report) and report.start.split(",")[0] in str(report)


def test_the_table_is_aligned(deep):
    lines = str(deep).splitlines()
    head = next(k for k, line in enumerate(lines) if line.startswith("layer "))
    end = lines[head].index("rms") + 3
    for line in lines[head + 1 : lines.index("", head)]:
        assert line[end - 1] != " " and line[end : end + 2] in ("  ", "")


def test_many_layers_are_folded_and_none_is_lost(deep):
    groups = fold_rows(deep.layers)
    assert len(groups) <= 24
    assert [layer for group in groups for layer in group] == list(deep.layers)
    assert "0 .. " in str(deep)


def test_verdicts_stand_before_the_table_alarms_first(deep):
    text = str(deep)
    assert text.index("! exploding signal") < text.index("\nlayer ")
    order = [v.severity for v in deep.verdicts]
    assert order == sorted(order)


def test_a_notebook_shows_the_same(deep):
    html = deep._repr_html_()
    assert html.count("<tr>") == len(fold_rows(deep.layers)) + 1
    assert ("exploding signal" in html and "Q&#x27; = 1.14" in html) or "times too large" in html


def test_a_layer_is_found_by_its_name_or_its_weights(deep):
    assert deep["4"] is deep["4.weight"] and deep["4"].kind == "linear"
    with pytest.raises(ModelError, match="there is no layer 'head'. Known: 0, 2"):
        deep["head"]


def test_a_short_name_of_it(deep):
    assert repr(deep) == f"Diagnosis({deep.summary})" and deep.summary.startswith("1 alarm: exploding signal")


def test_the_picture_shows_signal_and_gradient_on_a_log_axis(deep):
    axes = deep.plot()
    assert axes.get_yscale() == "log" and len(axes.lines) >= 2
    assert list(axes.lines[0].get_ydata()) == [layer.rms for layer in deep.layers]
    assert any("exploding signal" in text.get_text() for text in axes.texts)
    assert deep.plot(axes) is axes


@pytest.mark.parametrize("name", ["a zero layer inside", "log of zero", "no_grad", "all frozen"])
def test_what_is_zero_or_missing_can_be_drawn(name):
    axes = diagnose(*seeded(FAULTS[name][2])).plot()
    axes.figure.canvas.draw()


def test_a_picture_is_drawn_on_axes_only(deep):
    with pytest.raises(ModelError, match="expected matplotlib Axes to draw on"):
        deep.plot("signal.png")


def test_facts_stand_below_the_table():
    report = diagnose(seeded(lambda: Language(layers=2)), ids(8, 16, below=100))
    text = " ".join(str(report).split())
    assert "residual branches: 4, branch / stream" in text
    assert "attention (blocks.0 .. blocks.1): entropy" in text and "Jacobian of one sample" in text


def test_numbers_that_slow_processors_down_are_counted():
    model = he(chain(4, 64, nn.ReLU))
    with torch.no_grad():
        for k in (0, 2, 4):
            model[k].weight *= 1e-13
    report = diagnose(model, noise(16, 64), (CE, labels(16)))
    assert report.denormal > 0 and "denormal numbers" in str(report)


@pytest.mark.slow
def test_a_thousand_layers_fit_a_page():
    report = diagnose(he(chain(1000, 64, nn.ReLU)), noise(16, 64))
    text = str(report)
    assert len(text.splitlines()) < 45 and max(map(len, text.splitlines())) <= 120
    # log q walks with a mean of -5 / 2n a layer: at width 64 a thousand layers lose the signal
    assert report.alarms[0].kind == "vanishing signal" and len(report.layers) == 1000


@pytest.mark.parametrize("seed", [None, "a", 1.5, True])
def test_a_seed_that_is_no_whole_number_is_refused(seed):
    with pytest.raises(ModelError, match="chance is drawn from a whole number"):
        diagnose(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), torch.zeros(2, 4), seed=seed)
