"""A PyTorch training loop whose examples a teacher chooses: the lines that palaver needs are marked "# palaver".

It needs the extra ``torch``: ``pip install -c constraints.txt -e ".[torch]"``.
"""

import tempfile
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from palaver.data import load
from palaver.teaching import Indexed, TeacherStack, precompute  # palaver

PASSES = 15
"""Over the training set without a teacher; with it, five times as many passes of a fifth of the updates each."""


def mlp(*widths: int) -> torch.nn.Sequential:
    """Dense layers with ReLU."""
    layers: list[torch.nn.Module] = []
    for before, after in pairwise(widths):
        layers += [torch.nn.Linear(before, after), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def accuracy(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Share of the examples that are classified right, in percent."""
    with torch.no_grad():
        return 100 * (model(x).argmax(-1) == y).float().mean().item()


def train(model: torch.nn.Module, batches: Iterable[tuple[Tensor, Tensor]], passes: int, lr: float = 0.003) -> None:
    """Adam and the cross-entropy, with class ids or distributions as targets."""
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(passes):
        for x, target in batches:
            optimiser.zero_grad()
            cross_entropy(model(x), target).backward()
            optimiser.step()


def main() -> None:
    """Trains a teacher, a student without it, and a student whose examples it chooses, with as many updates."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # more threads slow networks of this size down
    digits = load("digits")
    parts = (digits.x_train, digits.x_test)
    x, x_test = (torch.as_tensor(part.reshape(len(part), -1), dtype=torch.float32) / 255 for part in parts)
    y, y_test = (torch.as_tensor(part, dtype=torch.int64) for part in (digits.y_train, digits.y_test))

    data = TensorDataset(x, y)

    teacher = mlp(64, 256, 256, 10)
    train(teacher, DataLoader(data, batch_size=32, shuffle=True), passes=30, lr=0.001)
    print(f"teacher {accuracy(teacher, x_test, y_test):.1f} %")

    plain = mlp(64, 16, 10)
    train(plain, DataLoader(data, batch_size=32, shuffle=True), passes=PASSES)
    print(f"no teacher {accuracy(plain, x_test, y_test):.1f} % after {PASSES * -(-len(x) // 32)} updates")

    student = mlp(64, 16, 10)
    predict = torch.no_grad()(lambda x: student(x).softmax(-1))  # palaver
    table = precompute(lambda x: teacher(x).softmax(-1), x, Path(tempfile.mkdtemp()) / "teacher.npy")  # palaver
    batches = DataLoader(Indexed(data), batch_size=32, shuffle=True)  # palaver
    stack = TeacherStack(batches, predict, table, size=5)  # palaver
    train(student, stack, passes=5 * PASSES)  # palaver: one minibatch of every five, with soft targets
    print(f"n=5 {accuracy(student, x_test, y_test):.1f} % after {stack.counts.updates} updates")
    print(f"{stack.counts.student_forwards} examples scored, {stack.counts.chosen} trained on")


if __name__ == "__main__":
    main()
