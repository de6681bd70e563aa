"""The page about the chain rule: everything on it runs and says what it says there."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "chain-rule.md").read_text(encoding="utf-8")


def test_every_python_block_of_the_page_runs_after_the_ones_before_it(tmp_path):
    program = tmp_path / "a.py"
    program.write_text("\n".join(re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)))
    done = subprocess.run([sys.executable, "-W", "error", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "chain.png").exists() and (tmp_path / "chain-factors.png").exists()
    quoted = [line for line in PAGE.splitlines() if line.startswith("    from link") or line.startswith("    dC/dw = ")]
    assert len(quoted) == 3 and all(line.strip() in done.stdout for line in quoted[1:])
    assert "= -0.6282 · 3 = -1.88452" in done.stdout
    assert "entry (1, 1): backward says 1.41615, differences say 2.12422" in done.stdout
