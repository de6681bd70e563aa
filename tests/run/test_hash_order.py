"""Hashes of texts are others in every process: nothing that is shown, kept or computed may know them."""

import os
import subprocess
import sys

PROGRAM = """
import json, sys
import eitherway as ew
from eitherway.report.page import render
from eitherway.run.journal import Journal

WORDS = {"relu", "gelu", "tanh", "silu", "mish", "elu"}

def cost(act, layers, mixed=0, extra=frozenset(WORDS)):
    if layers == 3:
        raise ew.Failed(f"{layers}")
    return layers + len(act) + (act in {"relu", "gelu", "tanh"})

space = ew.Space(
    layers=ew.Integer(1, 8),
    act=ew.Choice(["relu", "gelu", frozenset(WORDS), ("a", frozenset(WORDS))]),
    mixed=ew.Integer(1, 3).when(act=WORDS),
)
result = ew.minimize(cost, space, "ga", budget=60, journal="run.db", progress=None)
kept = Journal.read("run.db")
print(space, result.history["value"].tolist(), result.best["layers"], json.dumps(kept.configuration))
print(str(result).splitlines()[0], [type(v).__name__ for v in result.best.values()])
print([part for part in render([kept]).split() if "relu" in part or "mish" in part])
try:
    ew.minimize(cost, ew.Space(layers=ew.Integer(1, 2), act=ew.Choice([1, frozenset(WORDS)])), "de", progress=None)
except ew.CostError as error:
    print(error)
"""


def test_two_processes_with_other_hashes_say_and_keep_the_same(tmp_path):
    said = []
    for seed in ("1", "2"):
        folder = tmp_path / "run"  # the same path for both: it is told
        folder.mkdir()
        (folder / "program.py").write_text(PROGRAM)
        env = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "program.py"], cwd=folder, env=env, capture_output=True, timeout=100)
        assert done.returncode == 0, done.stderr.decode()
        said.append(done.stdout)
        folder.rename(tmp_path / f"run{seed}")
    assert b"gelu" in said[0]
    assert said[0] == said[1]
