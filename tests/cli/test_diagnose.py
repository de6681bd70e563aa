"""`eitherway diagnose`: the signal in a model from a file, and how deep it is; one message where it cannot be told."""

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

labels = torch.ones(3, dtype=torch.int64)
named = {"x": torch.ones(3, 6)}

def loss(out):
    return out.square().mean()

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
    assert out.startswith("Sequential (146 parameters) in training mode")
    assert "depth: 2 effective, 3 written\n" in out
    assert "0, 1: these 2 layers are one linear map" in out


def test_a_class_is_made_and_drawn_batches_are_taken(folder, capsys):
    assert main(["diagnose", "models_here.py:Net", "--example", "models_here.py:draw"]) == 0
    assert "\ndepth: 1 effective, 4 written\n" in capsys.readouterr().out


def test_whole_numbers_below_a_bound_are_taken(folder, capsys):
    assert main(["diagnose", "models_here.py:Words", "--example", "int64:2x5:50"]) == 0
    assert "\ndepth: " in capsys.readouterr().out


def test_json_is_one_line(folder, capsys):
    assert main(["diagnose", "models_here.py:net", "--example", "4x6", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["written_depth"] == 3 and found["effective_depth"] == 2
    assert found["runs"][0]["layers"] == ["0", "1"]
    assert (found["layers_before"], found["layers_after"]) == (3, 2)
    assert not found["healthy"] and found["verdicts"][0]["kind"] == "linear run"
    assert [layer["name"] for layer in found["layers"]] == ["0", "1", "3"]


@pytest.mark.parametrize(
    "loss", ["models_here.py:loss", "cross_entropy:models_here.py:labels", "cross_entropy:int64:3:2"]
)
def test_a_loss_is_taken_from_a_file_or_from_torch(folder, capsys, loss):
    assert main(["diagnose", "models_here.py:net", "--example", "3x6", "--loss", loss, "--lr", "0.1"]) == 0
    out = capsys.readouterr().out
    assert "backward from the loss, " in out and " step" in out


def test_a_batch_of_keywords_is_taken(folder, capsys):
    assert main(["diagnose", "models_here.py:Net", "--example", "models_here.py:named"]) == 0
    assert "inner.0" in capsys.readouterr().out


def test_an_alarm_fails_a_strict_run_only(folder, capsys):
    arguments = ["diagnose", "models_here.py:net", "--example", "8x6"]
    assert main(arguments) == 0
    assert main([*arguments, "--strict"]) == 1
    assert main(["diagnose", "models_here.py:Words", "--example", "int64:8x5:50", "--strict"]) == 0


def test_a_picture_is_kept(folder, capsys):
    assert main(["diagnose", "models_here.py:net", "--example", "8x6", "--picture", "signal.png"]) == 0
    assert (folder / "signal.png").read_bytes().startswith(
        b"\x89PNG"
    ) and "picture: signal.png" in capsys.readouterr().out


SCRIPTS = {
    "a loop": (
        "for x in [torch.ones(2, 6)] * 3:\n    net(x).sum().backward()\n",
        ":6 calls net(x).sum().backward() in the loop",
    ),
    "a call": (
        "def work():\n    net(torch.ones(2, 6)).sum().backward()\n\ndef outer():\n    work()\n\nouter()\n",
        "calls outer()",
    ),
    "a step": ("optimizer.step()\n", "calls optimizer.step()"),
    "a trainer": ("trainer.fit(net)\n", "calls trainer.fit(net)"),
    "under a with": ("with torch.enable_grad():\n    net(torch.ones(2, 6)).sum().backward()\n", ":6 calls net(x"[:8]),
    "a condition": ("while net(torch.ones(2, 6)).sum().backward():\n    pass\n", ":5 calls net("),
    "a class": ("class Run:\n    net(torch.ones(2, 6)).sum().backward()\n", ":6 calls net("),
}


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("place", ["script_here.py", "script_here"])
def test_a_script_that_trains_is_not_imported_and_named(folder, capsys, monkeypatch, name, place):
    monkeypatch.delitem(__import__("sys").modules, "script_here", raising=False)
    body, where = SCRIPTS[name]
    (folder / "script_here.py").write_text(f"import torch\nfrom torch import nn\n\nnet = nn.Linear(6, 2)\n{body}")
    assert main(["diagnose", f"{place}:net", "--example", "4x6"]) == 1
    err = capsys.readouterr().err
    assert where in err and "script_here.py" in err and 'if __name__ == "__main__":' in err
    assert "would train before it can be looked at" in err


def test_a_script_that_trains_under_its_guard_is_imported(folder, capsys, monkeypatch):
    monkeypatch.delitem(__import__("sys").modules, "guarded_here", raising=False)
    source = "import torch\nnet = torch.nn.Linear(6, 2)\nnet.train()\n"
    source += "def work():\n    net(torch.ones(2, 6)).sum().backward()\n"
    source += "class Trainer:\n    def fit(self, loss):\n        loss.backward()\nstep = lambda loss: loss.backward()\n"
    (folder / "guarded_here.py").write_text(source + 'if __name__ == "__main__":\n    work()\n')
    assert main(["diagnose", "guarded_here.py:net", "--example", "4x6"]) == 0


def test_a_script_that_trains_is_imported_on_trust(folder, capsys, monkeypatch):
    monkeypatch.delitem(__import__("sys").modules, "trusted_here", raising=False)
    source = "import torch\nnet = torch.nn.Linear(6, 2)\nnet(torch.ones(2, 6)).sum().backward()\n"
    (folder / "trusted_here.py").write_text(source)
    assert main(["diagnose", "trusted_here.py:net", "--example", "4x6", "--trust"]) == 0


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
        (["models_here.py:net", "--example", "4x7"], "refused 4x7: RuntimeError: "),
        (
            ["models_here.py:net", "--example", "4x6", "--picture", "signal.txt"],
            "the picture is 'signal.txt'; expected a name that ends in .png",
        ),
        (
            ["models_here.py:net", "--example", "4x6", "--picture", "nowhere/signal.png"],
            "the picture cannot be written to nowhere/signal.png",
        ),
        (
            ["models_here.py:net", "--example", "4x6", "--loss", "cross_entropy"],
            ", without a target",
        ),
        (["models_here.py:net", "--example", "4x6", "--loss", "crosentropy"], "which is no loss of torch's"),
        (
            ["models_here.py:net", "--example", "4x6", "--loss", "models_here.py:text"],
            "models_here.py:text is str; expected",
        ),
        (["models_here.py:net", "--example", "4x6", "--loss", "models_here.py:los"], "models_here.py has no 'los'"),
        (
            ["models_here.py:net", "--example", "4x6", "--loss", "mse_loss:3x3"],
            "the loss failed on the model's output (4x2)",
        ),
    ],
)
def test_a_mistake_is_one_message(folder, capsys, arguments, message):
    assert main(["diagnose", *arguments]) == 1
    err = capsys.readouterr().err
    assert message in " ".join(err.split()) and "Traceback" not in err
