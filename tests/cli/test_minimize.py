"""`eitherway minimize` and `resume`: targets of every kind, spaces from files, exit codes, and what is printed."""

import json
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from eitherway.cli.main import main

QUICK = ["--method", "randomsearch", "--budget", "16"]
SPACE = '[x]\ntype = "real"\nlow = -5\nhigh = 5\n'


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder that we are in; what tests import from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    modules, path = set(sys.modules), list(sys.path)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        file = getattr(sys.modules[name], "__file__", None)
        if file and Path(file).is_relative_to(tmp_path):
            del sys.modules[name]


def write(path: Path, text: str) -> Path:
    path.write_text(textwrap.dedent(text))
    return path


def told(capsys, arguments: list[str]) -> dict:
    assert main([arguments[0], "--json", *arguments[1:]]) == 0
    return json.loads(capsys.readouterr().out)


# ---- targets --------------------------------------------------------------------------------------------------------
def test_a_test_function_by_its_name(capsys):
    assert main(["minimize", "sphere", "--dimension", "3", *QUICK]) == 0
    out = capsys.readouterr().out
    assert out.startswith("best value ")
    assert "x = [" in out
    assert "stopped: the budget of 16 evaluations is spent" in out


def test_a_mixed_test_function_and_a_noisy_one(capsys):
    assert set(told(capsys, ["minimize", "tuning", *QUICK])["best"]) >= {"lr", "activation"}
    assert told(capsys, ["minimize", "noisy_sphere", *QUICK])["evaluations"] == 16


def test_a_function_in_a_file_with_a_space_beside_it(here, capsys):
    write(here / "mine.py", "import eitherway as ew\nspace = {'x': ew.Real(1, 2)}\ndef cost(x):\n    return x * x\n")
    assert 1 <= told(capsys, ["minimize", "mine.py:cost", *QUICK])["best"]["x"] <= 2


def test_a_function_whose_annotations_say_what_may_vary(here, capsys):
    text = """
        from typing import Annotated
        import eitherway as ew
        def cost(x: Annotated[float, ew.Real(3, 4)]):
            return x
    """
    write(here / "annotated.py", text)
    assert 3 <= told(capsys, ["minimize", "annotated.py:cost", *QUICK])["value"] <= 4


def test_a_space_file_wins_over_the_one_beside_the_cost(here, capsys):
    write(here / "mine.py", "import eitherway as ew\nspace = {'x': ew.Real(1, 2)}\ndef cost(x):\n    return x\n")
    write(here / "space.toml", SPACE)
    assert told(capsys, ["minimize", "mine.py:cost", "--space", "space.toml", *QUICK])["value"] < 0


def test_a_function_in_a_package_and_its_neighbours(here, capsys):
    (here / "pack").mkdir()
    write(here / "pack" / "__init__.py", "")
    write(here / "pack" / "other.py", "def square(x): return x * x")
    write(
        here / "pack" / "costs.py",
        "from pack.other import square\nimport eitherway as ew\nspace = {'x': ew.Real(0, 1)}\n",
    )
    assert told(capsys, ["minimize", "pack.costs:square", *QUICK])["value"] < 0.1


def test_maximize_keeps_the_users_sign(here, capsys):
    write(here / "mine.py", "import eitherway as ew\nspace = {'x': ew.Real(1, 2)}\ndef score(x):\n    return x\n")
    facts = told(capsys, ["minimize", "mine.py:score", "--maximize", "--target", "1.5", *QUICK])
    assert facts["value"] >= 1.5
    assert facts["reason"] == "the target 1.5 is met"


def test_workers_find_a_function_in_a_file(here, capsys):
    write(here / "mine.py", "import eitherway as ew\nspace = {'x': ew.Real(1, 2)}\ndef cost(x):\n    return x * x\n")
    alone = told(capsys, ["minimize", "mine.py:cost", *QUICK])
    assert told(capsys, ["minimize", "mine.py:cost", "--workers", "2", *QUICK])["value"] == alone["value"]


def test_a_program(here, capsys):
    write(here / "space.toml", SPACE)
    facts = told(capsys, ["minimize", "--space", "space.toml", *QUICK, "--", "echo", "-v", "{x}"])
    assert facts["value"] == facts["best"]["x"]


def test_a_program_written_as_one_word_with_another_way_to_read_it(here, capsys):
    write(here / "space.toml", SPACE)
    arguments = ["minimize", "--space", "space.toml", "--parse", "cost=(.*) t", *QUICK, "--", "echo cost={x} t=3"]
    facts = told(capsys, arguments)
    assert facts["value"] == facts["best"]["x"]


def test_a_late_program_counts_as_failed(here, capsys):
    write(here / "space.toml", SPACE)
    arguments = ["minimize", "--space", "space.toml", "--timeout", "0.1", "--budget", "2", "--method", "randomsearch"]
    facts = told(capsys, [*arguments, "--", "sleep", "9{x:.0f}"])
    assert facts["failures"] == 2
    assert facts["value"] is None


def test_a_conditional_variable_is_left_out_of_the_command(here, capsys):
    text = '[act]\ntype = "choice"\noptions = ["a", "b"]\n[s]\ntype = "real"\nlow = 1\nhigh = 2\nwhen = {act = "b"}\n'
    write(here / "space.toml", text)
    program = write(here / "program", "#!/bin/sh\necho $#\n")
    program.chmod(0o755)
    arguments = ["minimize", "--space", "space.toml", *QUICK, "--", "./program", "{act}", "-s", "{s}"]
    assert told(capsys, arguments)["value"] == 1.0


# ---- spaces ---------------------------------------------------------------------------------------------------------
def test_every_kind_of_variable_can_stand_in_a_file(here, capsys):
    text = """
        [lr]
        type = "real"
        low = 1e-5
        high = 1
        scale = "log"
        [n]
        type = "integer"
        low = 1
        high = 8
        when = {act = ["b", "c"]}
        [act]
        type = "choice"
        options = ["a", "b", "c"]
        [w]
        type = "array"
        shape = [2]
        low = [-1, 0]
        high = 1
        [open]
        type = "real"
        start = 3.0
        spread = 1.0
    """
    write(here / "space.toml", text)
    write(here / "mine.py", "def cost(**values):\n    return len(values)\n")
    best = told(capsys, ["minimize", "mine.py:cost", "--space", "space.toml", *QUICK])["best"]
    assert best["act"] == "a"
    assert set(best) == {"lr", "act", "w", "open"}
    assert len(best["w"]) == 2


@pytest.mark.parametrize(
    "text, message",
    [
        ("[x\n", "is not TOML:"),
        ("", "is empty; expected a table a variable"),
        ("x = 3", "[x] is 3; expected a table such as"),
        ("[x]\nlow = 1", "[x] has no type; expected type = one of 'real'"),
        ("[x]\ntype = 'reel'", "[x] has type 'reel'. Did you mean real?"),
        ("[x]\ntype = 'real'\nlo = 1", "a key 'lo' that a real does not know. Did you mean low?"),
        ("[x]\ntype = 'real'\nlow = 2\nhigh = 1", "[x]: Real got low=2"),
        ("[x]\ntype = 'choice'", "[x] cannot be made from type = 'choice'"),
        ("[x]\ntype = 'choice'\noptions = []", "[x]: Choice got no options"),
        ("[x]\ntype = 'real'\nwhen = {y = 1}", "conditional on 'y', which is not a variable"),
        ("['a b']\ntype = 'real'", "[a b] cannot be a variable"),
    ],
)
def test_a_space_that_cannot_be_used_is_told_with_file_and_table(here, capsys, text, message):
    write(here / "space.toml", text)
    assert main(["minimize", "sphere", "--space", "space.toml"]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert "space.toml" in said
    assert "Traceback" not in said


def test_a_space_file_that_is_missing_or_no_text(here, capsys):
    assert main(["minimize", "sphere", "--space", "space.toml"]) == 1
    assert "there is no file space.toml; expected a space such as" in capsys.readouterr().err
    (here / "space.toml").write_bytes(b"\xff\xfe\x00")
    assert main(["minimize", "sphere", "--space", "space.toml"]) == 1
    assert "space.toml cannot be read" in capsys.readouterr().err


# ---- mistakes -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "target, message",
    [
        ("rosenbrok", "there is no target 'rosenbrok'; expected file.py:name"),
        ("rosenbrok", "Did you mean rosenbrock?"),
        ("missing.py:cost", "there is no file missing.py (looked from"),
        ("no.such.module:cost", "there is no module 'no.such.module'"),
        ("mine.py", "mine.py is a file; say which function in it, such as mine.py:cost"),
        ("empty.py", "but it holds none"),
        ("mine.py:cots", "mine.py has no 'cots'. Did you mean cost?"),
        ("mine.py:number", "the cost is 3; expected a function"),
        ("broken.py:cost", "broken.py cannot be imported: "),
        ("broken.py:cost", "broken.py:2: SyntaxError: "),
        ("raises.py:cost", "raises.py cannot be imported: NameError: name 'undefined' is not defined ("),
        ("raises.py:cost", "raises.py:3)"),
        ("leaves.py:cost", "leaves.py cannot be imported: SystemExit: 3"),
        ("needs.py:cost", "needs.py cannot be imported: ModuleNotFoundError: No module named 'not_there'"),
        ("json.py:cost", "json.py has the name of another module, json; rename your file"),
        ("a.b.py:cost", "has a name that cannot be imported"),
        ("bare.py:cost", "needs 'x', and nothing says how it may vary"),
    ],
)
def test_a_target_that_cannot_be_used_is_one_message(here, capsys, target, message):
    write(here / "mine.py", "number = 3\nspace = [(0, 1)]\ndef cost(x):\n    return 0.0\n")
    write(here / "empty.py", "")
    write(here / "broken.py", "x = 1\ndef cost(:\n")
    write(here / "raises.py", "import os\n\nundefined\ndef cost(x): ...\n")
    write(here / "leaves.py", "import sys\nsys.exit(3)\n")
    write(here / "needs.py", "import not_there\n")
    write(here / "json.py", "def cost(x): ...\n")
    write(here / "a.b.py", "def cost(x): ...\n")
    write(here / "bare.py", "def cost(x): ...\n")
    assert main(["minimize", target, *QUICK]) == 1
    said = capsys.readouterr()
    assert message in said.err
    assert "Traceback" not in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    "program, message",
    [
        (["./no-such-program", "{x}"], "the program ./no-such-program does not exist"),
        (["echo", "{y}"], "the command names {y}, which is no variable. Known: x."),
        (["echo", "1"], "names no variable, so every point would be the same"),
        (["echo", "{x"], "cannot be read"),
    ],
)
def test_a_program_that_cannot_be_used_is_one_message(here, capsys, program, message):
    write(here / "space.toml", SPACE)
    assert main(["minimize", "--space", "space.toml", "--", *program]) == 1
    assert message in capsys.readouterr().err


def test_a_program_without_a_space_says_what_is_missing(capsys):
    assert main(["minimize", "--", "echo", "{x}"]) == 1
    assert "what may vary is not said; give --space space.toml for x" in capsys.readouterr().err


def test_a_dimension_is_for_test_functions(here, capsys):
    write(here / "mine.py", "def cost(x): ...\n")
    assert main(["minimize", "mine.py:cost", "--dimension", "3"]) == 1
    assert "--dimension is for test functions only" in capsys.readouterr().err


def test_a_cost_with_a_typo_is_one_message(here, capsys):
    write(here / "mine.py", "import eitherway as ew\nspace = {'x': ew.Real(1, 2)}\ndef cost(x):\n    return xx\n")
    assert main(["minimize", "mine.py:cost", *QUICK]) == 1
    assert "the first point x=" in (said := capsys.readouterr().err)
    assert "NameError: name 'xx' is not defined (mine.py:4)" in said


# ---- kept runs ------------------------------------------------------------------------------------------------------
def test_the_same_command_again_goes_on(here, capsys):
    arguments = ["minimize", "sphere", "--method", "de", "--journal", "run.db", "--budget"]
    told(capsys, [*arguments, "50"])
    kept = told(capsys, [*arguments, "120"])
    assert kept["evaluations"] == 120
    assert kept["value"] == told(capsys, ["minimize", "sphere", "--method", "de", "--budget", "120"])["value"]


def test_resume_goes_on_with_a_function_of_a_file_from_anywhere(here, capsys, monkeypatch):
    write(here / "mine.py", "import eitherway as ew\nspace = {'x': ew.Real(1, 2)}\ndef cost(x):\n    return x * x\n")
    told(capsys, ["minimize", "mine.py:cost", "--journal", "run.db", *QUICK])
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    del sys.modules["mine"]
    sys.path.remove(str(here))
    assert told(capsys, ["resume", "../run.db", "--budget", "24"])["evaluations"] == 24


def test_resume_makes_a_program_again(here, capsys):
    write(here / "space.toml", SPACE)
    told(capsys, ["minimize", "--space", "space.toml", "--journal", "run.db", *QUICK, "--", "echo", "{x}"])
    assert told(capsys, ["resume", "run.db", "--budget", "20"])["evaluations"] == 20


def test_resume_takes_a_cost(capsys, here):
    write(here / "mine.py", "import eitherway as ew\nspace = {'x': ew.Real(1, 2)}\ndef cost(x):\n    return x * x\n")
    told(capsys, ["minimize", "mine.py:cost", "--journal", "run.db", *QUICK])
    assert told(capsys, ["resume", "run.db", "--cost", "mine.py:cost", "--budget", "17"])["evaluations"] == 17


def test_a_foreign_file_is_no_journal(here, capsys):
    write(here / "run.db", "something else, and long enough to be read as a file of its own kind\n" * 20)
    assert main(["minimize", "sphere", "--journal", "run.db", *QUICK]) == 1
    assert "run.db is not a journal" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_keeps_the_best_and_says_how_to_go_on(here, number):
    text = """
        import time, eitherway as ew
        space = {"x": ew.Real(1, 2)}
        def cost(x):
            print("judged", flush=True)
            time.sleep(0.05)
            return x
    """
    write(here / "slow.py", text)
    arguments = ["minimize", "slow.py:cost", "--method", "randomsearch", "--journal", "my run.db"]
    command = [sys.executable, "-m", "eitherway", *arguments]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert started.stdout is not None
    for _ in range(3):
        assert started.stdout.readline() == "judged\n"
    started.send_signal(number)
    out, err = started.communicate(timeout=30)
    assert started.returncode == 130
    assert "best value 1." in out
    assert f"stopped: interrupted by {'Ctrl-C' if number == signal.SIGINT else 'SIGTERM'}" in out
    assert "go on with: eitherway resume 'my run.db'" in out
    assert "Traceback" not in err


def test_an_interruption_while_the_cost_is_imported_is_quiet(here):
    write(here / "slow.py", "import time\nprint('importing', flush=True)\ntime.sleep(30)\n")
    command = [sys.executable, "-m", "eitherway", "minimize", "slow.py:cost"]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert started.stdout is not None
    assert started.stdout.readline() == "importing\n"
    begun = time.monotonic()
    started.send_signal(signal.SIGTERM)
    out, err = started.communicate(timeout=30)
    assert (started.returncode, out, err) == (130, "", "")
    assert time.monotonic() - begun < 10
