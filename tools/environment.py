"""Find a Python that has what a task needs, or make `.venv` and install it there; print the path of that Python.

    python3 tools/environment.py rl        # the demo's needs; also: test, bench

The active environment, `.venv` and this Python are asked in that order, by the lower bounds of pyproject.toml. One that
has everything is used as it is: nothing is installed into an environment that was not made here. `.venv` is filled once
for each state of pyproject.toml and constraints.txt, which a stamp file in it remembers. Only the standard library is
used. The path goes to standard output, everything meant for people to standard error.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".venv"
OLDEST = (3, 11)

# Measured on Linux x86-64 with Python 3.11: `du -sm` of an environment with torch's CPU build,
MEGABYTES = {"rl": 1300, "test": 1730, "bench": 1600}
CUDA_MEGABYTES = 4500  # and what torch's CUDA build brings on top: pip's choice on Linux unless it finds the other

# Run by the Python in question: which of the requirements (name, lower bound) given as arguments does it lack?
ASK = """
import re, sys
from importlib.metadata import PackageNotFoundError, version
if sys.version_info < (3, 11):
    sys.exit("Python 3.11 or newer")
def numbers(text):
    return [int(part) for part in re.findall(r"\\d+", text.split("+")[0])]
for wanted in sys.argv[1:]:
    name, _, bound = wanted.partition(">=")
    try:
        if numbers(version(name)) < numbers(bound):
            print(wanted)
    except PackageNotFoundError:
        print(wanted)
"""


def say(text: str) -> None:
    """Tell the person at the terminal."""
    print(text, file=sys.stderr, flush=True)


def needs(extra: str) -> list[str]:
    """The requirements of eitherway with `extra`, extras of our own resolved, as `name>=bound`."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    if extra not in extras:
        raise SystemExit(f"there is no extra {extra!r} in pyproject.toml; there are: {', '.join(extras)}")
    found, waiting = list(project["dependencies"]), [extra]
    while waiting:
        for text in extras[waiting.pop()]:
            own = re.fullmatch(r"eitherway\[(\w+)\]", text)
            if own:
                waiting.append(own[1])
            else:
                found.append(re.sub(r"\[.*\]", "", text))
    return found


def lacks(python: Path, wanted: list[str]) -> list[str]:
    """Those of `wanted` that `python` does not have; all of them if it cannot be run or is not there."""
    if not python.exists():
        return wanted
    asked = subprocess.run([str(python), "-I", "-c", ASK, *wanted], capture_output=True, text=True)
    return asked.stdout.split() if asked.returncode == 0 else wanted


def stamp(extra: str) -> tuple[Path, str]:
    """The file in `.venv` that remembers an installation, and what it must hold."""
    state = b"".join((ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))
    return HOME / f"eitherway-{extra}.stamp", hashlib.sha256(state).hexdigest()


def install(extra: str, missing: list[str]) -> Path:
    """Make `.venv` if need be, and install this clone with `extra` there, saying first what that takes."""
    have = sum(path.lstat().st_size for path in HOME.rglob("*") if path.is_file()) // 10**6
    size = max(MEGABYTES[extra] - have, 50)
    new_torch = any(name.startswith("torch>") for name in missing)
    largest = size + (CUDA_MEGABYTES if new_torch and sys.platform == "linux" else 0)
    say(f"Eitherway needs {', '.join(missing) or 'its dependencies as constraints.txt now names them'}.")
    say(f'It is installing itself with them into {HOME} (pip install -e ".[{extra}]" -c constraints.txt):')
    say(f"  about {size / 1000:.1f} GB on disk; a minute or two, and the time of the download.")
    if largest > size:
        say(f"  On Linux pip may choose torch's CUDA build: then about {largest / 1000:.1f} GB. To avoid that, install")
        say("  torch's CPU build into an environment of yours first (pytorch.org says how) and activate it.")
    say("  Nothing outside .venv is touched; an active environment that has all this is used instead.")
    free = shutil.disk_usage(ROOT).free // 10**6
    if free < largest:
        say(f"  Only {free / 1000:.1f} GB are free on this disk: it may not be enough.")
    made = subprocess.run([sys.executable, "-m", "venv", str(HOME)], stdout=sys.stderr)
    if made.returncode:
        raise SystemExit("python3 -m venv failed; on Debian and Ubuntu: sudo apt install python3-venv")
    python = HOME / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    command += ["-e", f".[{extra}]", "-c", "constraints.txt"]
    if not sys.stderr.isatty():
        command.append("--quiet")  # a terminal sees pip's own progress bars
    filled = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    if filled.returncode:
        raise SystemExit("the installation failed, see above; the same command tries again and keeps what is there")
    path, text = stamp(extra)
    path.write_text(text)
    return python


def newer_python() -> None:
    """Go on in a newer Python of this machine if this one is too old; never returns then."""
    for name in ("python3.13", "python3.12", "python3.11", "python3.14"):
        found = shutil.which(name)
        if found and subprocess.run([found, "-c", ""], capture_output=True).returncode == 0:
            os.execv(found, [found, *sys.argv])
    got = ".".join(map(str, sys.version_info[:3]))
    raise SystemExit(f"this is Python {got}; Eitherway needs 3.11 or newer: make ... PYTHON=/path/to/python3.11")


def main() -> None:
    if sys.version_info < OLDEST:
        newer_python()
    extra = sys.argv[1] if len(sys.argv) > 1 else "rl"
    wanted = needs(extra)
    own = HOME / "bin" / "python"
    path, text = stamp(extra)
    active = [Path(os.environ[name], "bin", "python") for name in ("VIRTUAL_ENV", "CONDA_PREFIX") if name in os.environ]
    for python in [*active, own, Path(sys.executable)]:
        if python == own and not (path.exists() and path.read_text() == text):
            continue
        if not lacks(python, wanted):
            print(python)
            return
    print(install(extra, lacks(own, wanted)))


if __name__ == "__main__":
    main()
