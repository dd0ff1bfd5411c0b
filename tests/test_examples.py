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
    """Each of them, the linear model included, and their decision are better than in silence."""
    command = [sys.executable, str(ROOT / "examples" / "peers_mixed.py"), "--rounds", "100", "--seeds", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = re.findall(r"^(.+?) {2,}([\d.]+) +([\d.]+) +(-?[\d.]+)$", done.stdout, re.MULTILINE)
    gains = {name: float(gain) for name, _, _, gain in rows}
    assert list(gains) == ["JAX, MLP", "PyTorch, MLP", "scikit-learn, linear", "decision"]
    assert min(gains[site] for site in list(gains)[:3]) > 5
    assert gains["decision"] > 2
    assert all(
        round(float(talking) - float(silent) - gains[name], 1) in (-0.1, 0, 0.1) for name, silent, talking, _ in rows
    )
