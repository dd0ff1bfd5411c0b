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


def test_sites_of_three_frameworks():
    """Each of them, the linear model included, and their decision are better than in silence, beyond the seeds."""
    command = [sys.executable, str(ROOT / "examples" / "peers_mixed.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    number = r"(-?[\d.]+)"
    shown = rf"{number} \[{number}, {number}\]"
    rows = re.findall(rf"^(.+?) {{2,}}{shown} +{shown} +{shown}$", done.stdout, re.MULTILINE)
    assert [row[0] for row in rows] == ["JAX, MLP", "PyTorch, MLP", "scikit-learn, linear", "decision"]
    for name, *figures in rows:
        silent, _, _, talking, _, _, gain, low, high = map(float, figures)
        assert 0 < low < gain < high, name  # the 95 % interval, paired by seed, excludes 0
        assert round(talking - silent - gain, 1) in (-0.1, 0, 0.1)
