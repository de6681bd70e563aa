"""What docs/bicycle.md shows runs as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "bicycle.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.splitlines()[0])
def test_an_example_runs_in_a_fresh_python(example, tmp_path):
    done = subprocess.run([sys.executable, "-W", "error", "-c", example], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_pictures_are_small():
    folder = Path(__file__).resolve().parents[2] / "docs" / "pictures"
    assert 0 < sum(path.stat().st_size for path in folder.iterdir()) < 2 * 2**20
