"""The command line in rough surroundings: odd terminals, closed and full outputs, files that are none."""

import errno
import os
import subprocess
import sys
from typing import Any

import pytest

from eitherway.cli import main as cli
from eitherway.cli.main import main


def eitherway(*arguments, out: Any = subprocess.PIPE, cwd=None, **environment):
    """One command line in a process of its own: its exit code, what it printed and what went wrong."""
    code = "import sys; from eitherway.cli.main import main; sys.exit(main())"
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        stdout=out,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
        cwd=cwd,
        timeout=60,
    )
    return ended.returncode, (ended.stdout or b"").decode(), ended.stderr.decode()


@pytest.mark.parametrize("columns", ["0", "1", "19", "40", "wide"])
def test_help_ends_in_every_terminal(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["ride", "--help"]) == 0
    assert "--replay" in capsys.readouterr().out
    assert os.environ["COLUMNS"] == columns


@pytest.mark.parametrize(
    "word, number",
    [("7", 7), ("1e1", 10), ("+8", 8), ("1_0", 10)] + [(w, None) for w in ("1.5", "nan", "inf", "x", "")],
)
def test_a_count_is_a_whole_number(word, number, capsys):
    assert main(["minimize", "sphere", "--dimension", "1", "--budget", word]) == (0 if number else 1)
    said = capsys.readouterr()
    assert (f"{number} evaluations in" in said.out) if number else (f'a whole number, got "{word}".' in said.err)


def test_a_reader_of_help_who_has_seen_enough_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    assert eitherway("--help", out=writer)[::2] == (0, "")
    os.close(writer)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no device that is always full")
def test_an_output_that_is_full_is_one_message():
    with open("/dev/full", "w") as full:
        code, _, wrong = eitherway("minimize", "sphere", "--budget", "5", out=full)
    assert (code, wrong) == (
        1,
        f"what was to be shown cannot be written: {os.strerror(errno.ENOSPC)}; send it elsewhere\n",
    )


def test_an_output_that_is_closed_is_no_error(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["minimize", "sphere", "--budget", "5"]) == 0


def test_other_errors_of_the_system_are_told_as_ours(monkeypatch, capsys):
    def fails(verb):
        raise OSError(errno.EPROTO, "it went wrong")

    monkeypatch.setattr(cli, "app", fails)
    assert main(["minimize"]) == 1
    assert "eitherway failed in a way it should not: OSError: [Errno" in capsys.readouterr().err


def test_a_terminal_without_a_letter_costs_no_run(tmp_path):
    (tmp_path / "says.py").write_text(
        "space = [(-1, 1)]\ndef cost(x):\n    print('größer')\n    return float(x[0])\n", encoding="utf-8"
    )
    code, out, wrong = eitherway("minimize", "says.py:cost", "--budget", "3", cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert (code, wrong) == (0, "")
    assert r"gr\xf6\xdfer" in out
    assert "3 evaluations" in out


def test_a_folder_that_is_gone_is_one_message(tmp_path, monkeypatch, capsys):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert main(["report", "run.db"]) == 1
    assert capsys.readouterr().err == "the folder that this was called from is gone; call it from another one\n"


@pytest.mark.parametrize("verb", ["resume", "report"])
def test_a_folder_is_no_run(verb, tmp_path, capsys):
    assert main([verb, str(tmp_path)]) == 1
    assert f"{tmp_path} is a folder; expected the journal of a run, a file" in capsys.readouterr().err


def test_a_script_of_other_bytes_or_without_functions_is_told(tmp_path, capsys):
    binary, empty = tmp_path / "holds_bytes.py", tmp_path / "holds_nothing.py"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    empty.write_text("")
    assert main(["minimize", f"{binary}:f"]) == 1
    assert f"{binary} cannot be imported: " in (wrong := capsys.readouterr().err)
    assert "None" not in wrong
    assert main(["minimize", f"{empty}:f"]) == 1
    assert "holds_nothing.py has no 'f'. There is none to choose from." in capsys.readouterr().err
