"""`eitherway diagnose`: how deep a model is, from a file; one message where it cannot be told."""

import json

import pytest

from eitherway.cli.main import main

MODELS = """
import torch
from torch import nn

net = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(*[nn.Linear(6, 6) for _ in range(4)])

    def forward(self, x):
        return self.inner(x)

class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(50, 8), nn.Linear(8, 50)

    def forward(self, ids):
        return self.head(torch.tanh(self.table(ids)))

def make():
    return net

def needs(width):
    return net

batch = torch.ones(3, 6)
pair = (torch.ones(3, 6),)
text = "text"

def fails():
    raise OSError("no weights here")

def draw():
    return torch.ones(2, 6)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "models_here", raising=False)
    (tmp_path / "models_here.py").write_text(MODELS)
    return tmp_path


@pytest.mark.parametrize("name", ["net", "make"])
@pytest.mark.parametrize("example", ["32x6", "float64:4x6", "models_here.py:batch", "models_here.py:pair"])
def test_the_depth_is_printed(folder, capsys, name, example):
    if example.startswith("float64"):
        assert main(["diagnose", f"models_here.py:{name}", "--example", example]) == 1
        return
    assert main(["diagnose", f"models_here.py:{name}", "--example", example]) == 0
    out = capsys.readouterr().out
    assert out.startswith("depth: 2 effective, 3 written\n")
    assert "0, 1: these 2 layers are one linear map" in out


def test_a_class_is_made_and_drawn_batches_are_taken(folder, capsys):
    assert main(["diagnose", "models_here.py:Net", "--example", "models_here.py:draw"]) == 0
    assert capsys.readouterr().out.startswith("depth: 1 effective, 4 written\n")


def test_whole_numbers_below_a_bound_are_taken(folder, capsys):
    assert main(["diagnose", "models_here.py:Words", "--example", "int64:2x5:50"]) == 0
    assert capsys.readouterr().out.startswith("depth: ")


def test_json_is_one_line(folder, capsys):
    assert main(["diagnose", "models_here.py:net", "--example", "4x6", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["written_depth"] == 3 and found["effective_depth"] == 2
    assert found["runs"][0]["layers"] == ["0", "1"]
    assert (found["layers_before"], found["layers_after"]) == (3, 2)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "no model was given; expected: eitherway diagnose"),
        (["models_here.py:net"], "an example input is needed to run models_here.py:net once"),
        (["models_here.py:net"], "(0.weight takes 6: --example 32x6)"),
        (["models_here.py"], "names no model; expected file.py:name or package.module:name; say which model in it"),
        (["models_here.py:ne", "--example", "1x6"], "models_here.py has no 'ne'. Did you mean"),
        (["elsewhere.py:net", "--example", "1x6"], "there is no file elsewhere.py"),
        (["models_here.py:needs", "--example", "1x6"], "cannot be called without arguments"),
        (["models_here.py:text", "--example", "1x6"], "expected an nn.Module, its class, or a function that makes one"),
        (["models_here.py:net", "--example", "6 by 2"], "the example is '6 by 2'; expected a shape such as 32x784"),
        (["models_here.py:net", "--example", "real:6"], "and torch has no dtype 'real'"),
        (["models_here.py:net", "--example", "999999999x6"], "5,999,999,994 numbers; give a smaller batch"),
        (["models_here.py:net", "--example", "float32:6:3"], "a bound goes with whole numbers only"),
        (
            ["models_here.py:net", "--example", "models_here.py:text"],
            "expected a tensor, a tuple of them, or a function",
        ),
        (["models_here.py:net", "--example", "missing.py:b"], "there is no file missing.py"),
        (["models_here.py:net", "--example", "int64:6:0"], "the bound of whole numbers is at least 1"),
        (["models_here.py:fails", "--example", "4x6"], "models_here.py:fails() failed: OSError: no weights here"),
        (["models_here.py:net", "--example", "models_here.py:fails"], "fails() failed: OSError: no weights here"),
        (["models_here.py:net", "--example", "4x7"], "models_here.py:net does not take the example (4x7): "),
    ],
)
def test_a_mistake_is_one_message(folder, capsys, arguments, message):
    assert main(["diagnose", *arguments]) == 1
    err = capsys.readouterr().err
    assert message in " ".join(err.split()) and "Traceback" not in err
