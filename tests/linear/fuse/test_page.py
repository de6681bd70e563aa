"""Every python block of the page about fusing runs, in order."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[3] / "docs" / "fusing.md"


def test_every_python_block_of_the_page_runs_after_the_ones_before_it():
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 4
    exec(compile("\n".join(blocks), str(PAGE), "exec"), {"__name__": "page"})
