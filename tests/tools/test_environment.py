"""`make` finds an environment that has what it needs, and says what is missing from one that has not."""

import runpy
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TOOL = ROOT / "tools" / "environment.py"
environment = runpy.run_path(str(TOOL))


def test_an_environment_that_has_everything_lacks_nothing():
    assert environment["lacks"](Path(sys.executable), ["pytest>=9.0", "hypothesis>=6.100"]) == []


def test_what_is_absent_or_too_old_is_named():
    wanted = ["pytest>=9.0", "pytest>=999.1", "no-such-thing-of-ours>=1.0"]
    assert environment["lacks"](Path(sys.executable), wanted) == wanted[1:]


def test_a_python_that_is_not_there_lacks_everything(tmp_path):
    assert environment["lacks"](tmp_path / "bin" / "python", ["pytest>=9.0"]) == ["pytest>=9.0"]


def test_an_extra_of_ours_inside_an_extra_is_followed():
    needed = [text.partition(">=")[0] for text in environment["needs"]("test")]
    assert {"torch", "gymnasium", "numba", "pytest", "pyright"} <= set(needed)
    assert not [name for name in needed if "[" in name or name == "eitherway"]


def test_a_stamp_belongs_to_one_state_of_the_requirements():
    path, text = environment["stamp"]("rl")
    assert (path.parent.name, len(text)) == (".venv", 64)


def test_an_unknown_extra_is_answered_with_the_known_ones():
    done = subprocess.run([sys.executable, str(TOOL), "tests"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "there is no extra 'tests' in pyproject.toml; there are: rl, test, bench" in done.stderr
