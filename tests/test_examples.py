"""The README's example runs and gets where it says."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_bring_your_own():
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "bring_your_own.py")], capture_output=True, text=True, check=True
    )
    accuracy = {name.strip(): float(value) for name, value in re.findall(r"(.+?)\s+([\d.]+) %", done.stdout)}
    assert accuracy["average node"] > 85
    assert accuracy["boldest"] > 85
    assert accuracy["confidence"] > accuracy["average node"]
