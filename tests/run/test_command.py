"""Programs as costs: no shell, clear failures, nothing left running."""

import os
import pickle
import signal
import textwrap
import time

import numpy as np
import pytest

import eitherway as ew
from eitherway.run.command import Command, command


@pytest.fixture
def program(tmp_path):
    """Makes an executable shell script (a shell starts in a millisecond, Python in thirty)."""

    def make(body: str, name: str = "program") -> str:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{textwrap.dedent(body)}\n")
        path.chmod(0o755)
        return str(path)

    return make


def test_values_are_put_into_their_arguments(program):
    cost = command([program("printf '%s|' \"$@\"; echo 7"), "--x", "{x}", "--name={name}", "{x:.2f}"], parse=str)
    assert cost(x=0.125, name="a b; rm *") == "--x|0.125|--name=a b; rm *|0.12|7\n"


def test_the_template_is_cut_as_a_shell_would_but_no_shell_runs(program):
    path = program('printf "%s|" $# "$2"')
    cost = command(f"{path} 'one argument' '$HOME {{x}}' {{x}}", parse=str)
    assert cost(x=1) == "3|$HOME 1|"


@pytest.mark.parametrize(
    "printed, value",
    [
        ("cost: 3.5", 3.5),
        ("1 2 -4e-3", -4e-3),
        ("loss = .5 (layer2)", 0.5),
        ("12.", 12.0),
        ("cost 3.5 after step12", 3.5),
        ("cost 3.5 (sim v2.1)", 3.5),
        ("3-5", -5.0),
        ("-inf", float("-inf")),
        ("x1 nan", float("nan")),
    ],
)
def test_last_reads_the_last_number(program, printed, value):
    assert command([program(f"echo '{printed}'"), "{x}"])(x=0) == pytest.approx(value, nan_ok=True)


def test_a_regular_expression_reads_its_group_where_it_matches_last(program):
    cost = command([program("echo 'loss 3\nloss 2\ntime 9'"), "{x}"], parse=r"^loss (\S+)$")
    assert cost(x=0) == 2.0


def test_a_function_reads_all_that_was_printed(program):
    assert command([program("echo 1 2 3"), "{x}"], parse=lambda out: sum(map(float, out.split())))(x=0) == 6.0


def test_an_array_becomes_several_arguments_or_one_with_commas(program):
    cost = command([program("printf '%s|' \"$@\""), "{x}", "--x={x}", "{x[1]}"], parse=str)
    assert cost(np.array([1.0, 2.5])) == "1.0|2.5|--x=1.0,2.5|2.5|"


def test_a_lone_value_takes_any_one_name(program):
    cost = command([program("echo $1"), "{speed}"])
    result = ew.minimize(cost, ew.Real(1, 2), "randomsearch", budget=4, progress=None)
    assert result.value == result.best


def test_what_a_point_lacks_is_left_out_with_its_option(program):
    path = program("printf '%s|' \"$@\"")
    cost = command([path, "--act", "{act}", "--slope", "{slope}", "-s{slope}", "end"], parse=str, optional=["slope"])
    assert cost(act="relu") == "--act|relu|end|"
    assert cost(act="leaky", slope=0.1) == "--act|leaky|--slope|0.1|-s0.1|end|"


def test_a_run_finds_the_least(program):
    cost = command([program("echo \"$1 $2\" | awk '{print ($1-1)^2+$2}'"), "{x}", "{n}"])
    result = ew.minimize(cost, {"x": ew.Real(0, 2), "n": ew.Integer(0, 3)}, "randomsearch", budget=40, progress=None)
    assert result.best["n"] == 0
    assert result.value < 0.1


def test_an_exit_code_fails_the_point_with_the_last_words(program):
    with pytest.raises(ew.Failed, match="the program ended with exit code 3: it diverged"):
        command([program("echo 1; echo it diverged >&2; exit 3"), "{x}"])(x=0)


def test_a_long_complaint_keeps_its_end(program):
    with pytest.raises(ew.Failed) as failed:
        command([program("seq 1 5000 >&2; exit 1"), "{x}"])(x=0)
    assert len(str(failed.value)) < 400
    assert str(failed.value).endswith("5000")


def test_a_signal_is_named(program):
    with pytest.raises(ew.Failed, match="was killed by SIGSEGV"):
        command([program("kill -SEGV $$"), "{x}"])(x=0)


def test_no_number_fails_the_point(program):
    with pytest.raises(ew.Failed, match="the program printed no number: done"):
        command([program("echo done"), "{x}"])(x=0)
    with pytest.raises(ew.Failed, match=r"nothing that matches 'cost \(\.\*\)'"):
        command([program("echo 1"), "{x}"], parse="cost (.*)")(x=0)
    with pytest.raises(ew.Failed, match="'high', which is not a number"):
        command([program("echo cost high"), "{x}"], parse="cost (.*)")(x=0)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().split()[2] != "Z"
    except FileNotFoundError:
        return False


def gone(path, seconds=5.0) -> bool:
    pid, end = int(path.read_text()), time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.01)
    return not alive(pid)


def test_a_time_out_kills_the_program_and_what_it_started(program, tmp_path):
    child = tmp_path / "child"
    cost = command([program(f"sleep 60 & echo $! > {child}; wait"), "{x}"], timeout=0.5)
    with pytest.raises(ew.Failed, match=r"the program took longer than 0\.5 s"):
        cost(x=0)
    assert gone(child)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_kills_the_program_and_keeps_the_best(program, tmp_path, number):
    child = tmp_path / "child"
    hang = f"sleep 60 & echo $! > {child}; kill -{number} {os.getpid()}; wait"
    path = program(f"if [ -e {tmp_path}/second ]; then {hang}; fi; touch {tmp_path}/second; echo 5")
    result = ew.minimize(command([path, "{x}"]), ew.Real(0, 1), "randomsearch", budget=9, progress=None)
    assert result.interrupted
    assert (result.evaluations, result.value) == (1, 5.0)
    assert gone(child)


def test_it_travels_to_workers(program):
    cost = command(f"{program('echo $1')} {{x}}", timeout=9)
    assert pickle.loads(pickle.dumps(cost)) == cost
    result = ew.minimize(cost, {"x": ew.Real(0, 1)}, "randomsearch", budget=8, workers=2, progress=None)
    assert result.value == min(result.history["x"])


def test_a_program_ends_with_the_worker_that_runs_it(program, tmp_path):
    """A worker that is late is killed outright: nobody is left to end its program."""
    child = tmp_path / "child"
    cost = command([program(f"echo $$ > {child}; exec sleep 60"), "{x}"])
    result = ew.minimize(cost, {"x": ew.Real(0, 1)}, "randomsearch", budget=1, timeout=1.0, progress=None)
    assert "took longer than the timeout" in result.history.why[0]
    assert gone(child)


@pytest.mark.parametrize(
    "template, message",
    [
        ("no-such-program {x}", "the program no-such-program is nowhere on the PATH"),
        ("./no-such-program {x}", r"the program ./no-such-program does not exist \(looked from"),
        ("/tmp {x}", "the program /tmp is a folder"),
        ("echo 'open {x}", "cannot be cut into arguments"),
        ("", "the command is empty"),
        ("echo {x", "cannot be read"),
    ],
)
def test_a_template_that_cannot_work_is_refused_at_once(template, message):
    with pytest.raises(ew.CostError, match=message):
        command(template)


def test_a_file_that_must_not_be_run_says_how_to_mend_it(program):
    path = program("echo 1")
    os.chmod(path, 0o644)
    with pytest.raises(ew.CostError, match="must not be run; try chmod"):
        command([path, "{x}"])


def test_a_file_that_is_no_program_says_so(tmp_path):
    path = tmp_path / "noise"
    path.write_bytes(b"\x7fELF nonsense")
    path.chmod(0o755)
    with pytest.raises(ew.CostError, match="cannot be started"):
        command([str(path), "{x}"])(x=0)


@pytest.mark.parametrize("parse", ["(", 3])
def test_a_parse_that_cannot_be_used_is_refused(parse):
    with pytest.raises(ew.CostError, match="expected 'last', a regular expression, or a function"):
        command("echo {x}", parse=parse)


def test_a_time_out_of_nothing_is_refused():
    with pytest.raises(ew.CostError, match="expected seconds above 0"):
        command("echo {x}", timeout=0)


def test_a_name_that_is_no_variable_is_told_with_the_nearest():
    with pytest.raises(ew.CostError, match=r"names \{lrr\}, which is no variable. Did you mean lr\?"):
        command("echo {lrr}").check(["lr", "layers"])
    with pytest.raises(ew.CostError, match=r"names \{lrr\}, which this point does not have"):
        command("echo {lrr}")(lr=1)
    with pytest.raises(ew.CostError, match="names no variable, so every point would be the same"):
        command("echo 1").check(["lr"])
    with pytest.raises(ew.CostError, match=", and there is one lone variable; name one only"):
        command("echo {a} {b}").check(None)


def test_an_argument_that_cannot_be_filled_says_why():
    with pytest.raises(ew.CostError, match=r"the argument '\{x:d\}' cannot be filled"):
        command("echo {x:d}")(x=0.5)


def test_a_broken_template_ends_the_run_with_one_message():
    with pytest.raises(ew.CostError, match="cannot be filled"):
        ew.minimize(command("echo {x:d}"), {"x": ew.Real(0, 1)}, "randomsearch", budget=50, progress=None)


def test_what_it_runs_can_be_seen():
    assert (
        repr(command("echo {x} 'a b'"))
        == "Command(arguments=('echo', '{x}', 'a b'), parse='last', timeout=None, optional=())"
    )
    assert isinstance(command("echo {x}"), Command)
