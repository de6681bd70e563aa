"""The page about the chain rule: everything on it runs and says what it says there."""

import re
import runpy
from pathlib import Path

import torch

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "chain-rule.md").read_text(encoding="utf-8")


def test_every_python_block_of_the_page_runs_after_the_ones_before_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "a.py"
    program.write_text("\n".join(re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)))
    with torch.random.fork_rng(devices=[]):
        runpy.run_path(str(program))
    said = capsys.readouterr().out
    assert (tmp_path / "chain.png").exists() and (tmp_path / "chain-factors.png").exists()
    quoted = [line for line in PAGE.splitlines() if line.startswith("    from link") or line.startswith("    dC/dw = ")]
    assert len(quoted) == 3 and all(line.strip() in said for line in quoted[1:])
    assert "= -0.6282 · 3 = -1.88452" in said
    assert "entry (1, 1): backward says 1.41615, differences say 2.12422" in said
