"""The command line as a whole: verbs found by listing, cheap help, one message and no traceback."""

import subprocess
import sys
import textwrap

import pytest
from cyclopts import App

import eitherway
from eitherway.cli import main as cli
from eitherway.cli.main import main


def test_every_file_is_a_verb_with_a_line_of_help(capsys):
    assert {"minimize", "resume", "report"} <= set(cli.verbs())
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for verb, line in cli.verbs().items():
        assert verb in out
        assert line.split()[0] in out


@pytest.mark.parametrize("verb", cli.verbs())
def test_every_verb_explains_itself_with_examples(verb, capsys):
    assert main([verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"Usage: eitherway {verb}" in out
    assert f"  eitherway {verb}" in out.partition("Usage")[2].partition("\n")[2]


def test_without_anything_it_shows_the_help(capsys):
    assert main([]) == 0
    assert "Commands" in capsys.readouterr().out


def test_it_knows_its_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == eitherway.__version__


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["minimise"], 'Unknown command "minimise". Did you mean "minimize"?'),
        (["minimize", "sphere", "--budgett", "3"], "Unknown option: --budgett. Did you mean --budget?"),
        (
            ["minimize", "sphere", "--budget", "many"],
            'Invalid value for --budget: expected a whole number, got "many". See: ',
        ),
        (["minimize", "sphere", "--budget", "0"], "budget=0 was given; expected a number of at least 1"),
        (["minimize", "sphere", "--method", "cmaas"], "there is no method 'cmaas'. Did you mean cmaes?"),
        (["minimize", "sphere", "--dimension", "0"], "it is defined for 1 or more"),
        (["minimize", "sphere", "--method", "de", "--workers", "0"], "workers=0 was given"),
        (["minimize", "sphere", "--parse", "x"], "--parse is for programs; a function returns its value"),
        (["minimize"], "nothing was given to minimise; expected file.py:name"),
        (["resume", "no-such-run.db"], "there is no journal"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_1(arguments, message, capsys):
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert message in said.err
    assert "Traceback" not in said.err
    assert said.out == ""


def test_an_error_of_ours_says_how_to_see_more(monkeypatch, capsys):
    def broken(verb=None):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(cli, "app", broken)
    monkeypatch.delenv(cli.FULL, raising=False)
    assert main(["minimize", "sphere"]) == 1
    said = capsys.readouterr().err
    assert "eitherway failed in a way it should not: ZeroDivisionError: division by zero" in said
    assert "EITHERWAY_TRACEBACK=1" in said
    assert "Traceback" not in said


def test_the_traceback_is_shown_when_it_is_asked_for(monkeypatch, capsys):
    monkeypatch.setenv(cli.FULL, "1")
    assert main(["minimize", "sphere", "--method", "cmaas"]) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.rstrip().endswith("sqp.") or "Did you mean cmaes?" in said.splitlines()[-1]


def test_ctrl_c_outside_of_a_run_is_130_and_quiet(monkeypatch, capsys):
    def interrupted(verb=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    assert main(["minimize", "sphere"]) == 130
    assert capsys.readouterr().err == ""


def test_a_reader_who_has_seen_enough_is_no_error():
    ended = subprocess.run(
        f"{sys.executable} -m eitherway minimize --help | head -1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in ended.stderr
    assert "Exception" not in ended.stderr


def test_the_help_of_every_verb_brings_neither_torch_nor_numpy_nor_matplotlib():
    statement = """
        import contextlib, io, sys
        from eitherway.cli.main import main, verbs
        with contextlib.redirect_stdout(io.StringIO()):
            for verb in verbs():
                assert main([verb, "--help"]) == 0
        print(*{"torch", "numpy", "matplotlib"} & set(sys.modules))
    """
    code = [sys.executable, "-c", textwrap.dedent(statement)]
    assert subprocess.run(code, capture_output=True, text=True, check=True).stdout.split() == []


@pytest.mark.slow
def test_the_help_costs_little_more_than_that_of_an_empty_command_line():
    """At most 1.3 times the CPU time of a command line of as many empty verbs; the least of ten, in turns."""
    measure = "import sys, time; print(time.process_time(), file=sys.stderr)"
    empty = f"""
from cyclopts import App
app = App(name="eitherway", help="Help.", version="1", help_format="plaintext")
for name in {list(cli.verbs())!r}:
    @app.command(name=name, help="Does something.")
    def verb(): ...
app(["--help"], exit_on_error=False, result_action="return_value")
{measure}"""
    ours = f"from eitherway.cli.main import main\nmain(['--help'])\n{measure}"
    seconds: dict[str, list[float]] = {empty: [], ours: []}
    for _ in range(10):
        for code, found in seconds.items():
            ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            found.append(float(ended.stderr))
    assert min(seconds[ours]) <= 1.3 * min(seconds[empty])


def test_the_app_is_one_of_cyclopts():
    assert isinstance(cli.app(), App)
