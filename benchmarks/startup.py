"""How long a fresh process takes to import us and to print the help, beside an empty command line with as many verbs.

python -m benchmarks.startup --publish
"""

from benchmarks import harness

harness.one_thread()

# ruff: noqa: E402 - after the threads are limited
import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

HEAVY = ("torch", "numpy", "scipy", "matplotlib", "numba", "gymnasium", "sqlite3", "rich", "cyclopts", "jinja2")
"""Modules worth naming where they are imported; the first two and matplotlib must not be."""

LOADED = f"""
import json, runpy, sys
try:
    {{action}}
except SystemExit:
    pass
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]), file=sys.stderr)
"""

VERB = '''
@app.command
def verb{i}(target: str, *, budget: int = 100, seed: int = 0) -> None:
    """Does nothing."""
'''


def cpu_seconds(command: list[str], folder: Path) -> float:
    """CPU time, user and system, of one fresh process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, env=environment(), stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def environment() -> dict[str, str]:
    """Ours, with src on the path for checkouts that are not installed."""
    places = [str(harness.ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in places if p)}


def loaded(action: str, folder: Path) -> list[str]:
    """The heavy modules in memory after `action` in a fresh process."""
    code = LOADED.format(action=action)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment(), capture_output=True, text=True, check=True
    )
    return json.loads(done.stderr.strip().splitlines()[-1])


def verbs(folder: Path) -> list[str]:
    """The verbs that `eitherway --help` lists: words at the start of a line of its box of commands."""
    shown = subprocess.run(
        [sys.executable, "-m", "eitherway", "--help"], cwd=folder, env=environment(), capture_output=True, text=True
    )
    words = [line.strip("│|╭╰─ ").split() for line in shown.stdout.splitlines()]
    files = (harness.ROOT / "src" / "eitherway" / "cli").glob("*.py")
    known = {path.stem for path in files} | {"ride", "learn", "play", "minimize", "probe", "resume", "report"}
    return sorted({line[0] for line in words if line and line[0] in known})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--publish", action="store_true", help="write results/startup.md and .json")
    options = parser.parse_args()
    stamp = harness.stamp(["cyclopts", "rich"])
    with tempfile.TemporaryDirectory(prefix="eitherway-startup-") as name:
        folder = Path(name)
        count = len(verbs(folder))
        empty = folder / "empty.py"
        body = "".join(VERB.format(i=i) for i in range(count))
        empty.write_text(f'import cyclopts\n\napp = cyclopts.App(name="empty")\n{body}\n\napp()\n')
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            f"empty command line, {count} verbs, --help": [sys.executable, str(empty), "--help"],
            "**import eitherway**": [sys.executable, "-c", "import eitherway"],
            "**eitherway --help**": [sys.executable, "-m", "eitherway", "--help"],
        }
        taken: dict[str, list[float]] = {title: [] for title in commands}
        for command in commands.values():
            cpu_seconds(command, folder)  # compiles to bytecode
        for _ in range(options.repeats):
            for title, command in commands.items():
                taken[title].append(1e3 * cpu_seconds(command, folder))
        run_help = "sys.argv = ['eitherway', '--help']; runpy.run_module('eitherway', run_name='__main__')"
        modules = {
            "import eitherway": loaded("import eitherway", folder),
            "eitherway --help": loaded(run_help, folder),
        }
    base = list(taken.values())[1]
    rows = [
        [title, harness.spread(times, 0), f"{harness.quartiles([t / b for t, b in zip(times, base)])[1]:.2f}"]
        for title, times in taken.items()
    ]
    text = (
        "CPU milliseconds (user and system) of a fresh process, the interpreter's own start included: median of the "
        "repeats (quartiles), rows taking turns, and the median ratio to the empty command line."
    )
    imported = [f"`{title}` imports of {', '.join(HEAVY)}: {', '.join(m) or 'none'}." for title, m in modules.items()]
    header = ["", "CPU ms", "x empty"]
    if options.publish:
        raw = {"cpu_ms": taken, "modules": modules}
        harness.publish("startup", "Starting up", [text, harness.table(header, rows), "\n".join(imported)], stamp, raw)
    else:
        print(harness.table(header, rows), *imported, sep="\n\n")


if __name__ == "__main__":
    main()
