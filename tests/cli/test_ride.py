"""`eitherway ride`: what is told, what is left behind, and what happens when it is interrupted."""

import re

import pytest

from eitherway.bicycle import load_policy
from eitherway.bicycle.learning import Episode, Rider
from eitherway.cli import _ride
from eitherway.cli.main import main

PICTURES = {"ride.png", "fall.gif", "turn.png", "turn.gif"}


@pytest.fixture(autouse=True)
def _little(monkeypatch):
    """Few beginners and few roads: the whole demo is for `make demo`."""
    monkeypatch.setattr(_ride, "RUNS", 2)
    monkeypatch.setattr(_ride, "ROADS", 3)
    monkeypatch.setattr(_ride.pictures, "MANY", 40)
    monkeypatch.setattr(_ride.pictures, "SHOWN", 1.0)
    monkeypatch.setenv("COLUMNS", "100")


def test_it_tells_the_whole_story_and_leaves_pictures_and_a_policy(tmp_path, capsys):
    assert main(["ride", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == PICTURES | {"learning.png", "policy.safetensors"}
    assert said.index("drawn at random at first") < said.index("ride     1") < said.index("Learned: ")
    falls = int(re.search(r"(\d+) falls?, then 3 of 3 unseen roads ridden for 1000 s", said)[1])
    assert f"{falls} falls, " in said[said.index("Learned: ") :]
    assert "From yes or no alone" in said.splitlines()[-1]
    assert load_policy(tmp_path / "policy.safetensors")[2]["falls"] == falls


def test_the_trained_rider_shows_itself_without_learning(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(_ride, "learn", None)
    assert main(["ride", "--replay", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "then 3 of 3 unseen roads ridden for 1000 s." in said
    assert {path.name for path in tmp_path.iterdir()} == PICTURES


def test_to_the_goal(tmp_path, capsys):
    assert main(["ride", "--task", "goal", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "unseen roads ridden to the goal." in said
    assert "arrived" in said
    assert PICTURES <= {path.name for path in tmp_path.iterdir()}


def test_on_the_whipple_bicycle_with_bits_by_another_method(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(_ride, "_show", lambda console, *drawn: None)
    arguments = ["--task", "whipple", "--reward", "binary", "--method", "de", "--out", str(tmp_path)]
    assert main(["ride", *arguments]) == 0
    said = capsys.readouterr().out
    assert "whether it was still up when a ride was over: yes or no" in said
    assert "by DE(" in said
    assert "From yes or no alone" not in said  # it was that already


def test_what_does_not_work_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(_ride, "GIVE_UP", 20)
    monkeypatch.setattr(_ride.pictures, "first_rides", lambda *arguments: iter(()))
    monkeypatch.setattr(_ride.pictures, "to_the_goal", lambda *arguments: iter(()))
    arguments = ["--policy", "mlp", "--reward", "binary", "--method", "randomsearch", "--out", str(tmp_path)]
    assert main(["ride", *arguments]) == 0
    said = capsys.readouterr().out
    assert "Not learned within 2" in said and "Another seed, method or policy may do it." in said
    assert not (tmp_path / "learning.png").exists()


def test_ctrl_c_while_learning_keeps_the_best(tmp_path, capsys, monkeypatch):
    heard = []

    def hear(self, ride):
        heard.append(ride)
        if len(heard) == 12:
            raise KeyboardInterrupt

    monkeypatch.setattr(_ride.Lines, "hear", hear)
    assert main(["ride", "--policy", "mlp", "--out", str(tmp_path)]) == 130
    assert "Interrupted; the best rider so far is kept in" in capsys.readouterr().out
    assert load_policy(tmp_path / "policy.safetensors")[2]["solved"] is False


def test_ctrl_c_before_the_first_ride_is_over_keeps_nothing(tmp_path, capsys, monkeypatch):
    def hear(self, ride):
        raise KeyboardInterrupt

    monkeypatch.setattr(_ride.Lines, "hear", hear)
    assert main(["ride", "--out", str(tmp_path)]) == 130
    assert "nothing is kept" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_drawing_keeps_the_policy(tmp_path, capsys, monkeypatch):
    def draw(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(_ride.pictures, "first_rides", draw)
    assert main(["ride", "--out", str(tmp_path)]) == 130
    assert "Interrupted; the best rider so far is kept in" in capsys.readouterr().out
    assert (tmp_path / "policy.safetensors").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--task", "moon"], 'Invalid value "moon" for --task'),
        (["--method", "cmaas"], "there is no method 'cmaas'. Did you mean cmaes?"),
        (["--out", __file__], "expected a folder that can be written to"),
    ],
)
def test_a_mistake_is_one_message(arguments, message, capsys):
    assert main(["ride", *arguments]) == 1
    said = capsys.readouterr()
    assert message in said.err
    assert "Traceback" not in said.err and said.out == ""


def test_many_rides_are_gathered_in_a_line():
    class Page:
        width = 80

        def print(self, line):
            printed.append(line)

    printed = []
    lines = _ride.Lines(Page(), Rider())
    for k in range(60):
        lines.hear(Episode(k, 1000, 150 if k != 50 else 700, "fall"))
    lines.close()
    assert len(printed) == _ride.FIRST + 3
    assert "and 26 more, none of them longer" in printed[_ride.FIRST]
    assert "7.0 s" in printed[_ride.FIRST + 1]
    assert "and 9 more" in printed[-1]
