"""The examples run and reach the accuracies that the README gives."""

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


def test_a_pytorch_loop_with_a_teacher():
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "teacher_torch.py")], capture_output=True, text=True, check=True
    )
    found = dict(re.findall(r"^(teacher|no teacher|n=5) ([\d.]+) %", done.stdout, re.MULTILINE))
    accuracy = {name: float(value) for name, value in found.items()}
    assert accuracy["n=5"] > 94.5
    assert accuracy["n=5"] > accuracy["no teacher"]
    assert set(re.findall(r"after (\d+) updates", done.stdout)) == {"600"}


def test_the_example_changes_five_lines():
    code = (ROOT / "examples" / "teacher_torch.py").read_text().split('"""', 2)[2]
    loop = [line for line in code.splitlines() if "# palaver" in line and not line.startswith(("from", "import"))]
    assert len(loop) == 5
