"""(j) Talking about a reference set from elsewhere: accuracy with digits, patches of photographs, and noise.

Ten sites with skewed digits (Dirichlet 0.1) as in ``palaver run quickstart``, 5 seeds: the settings are those of its
outputs on a reference set, and only the 314 inputs that all nodes have are others.
"""

import jax
import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_sample_image

from palaver.data import Dataset, load
from palaver.exchange.build import make_collective
from palaver.exchange.train import train
from palaver.experiments import rows
from palaver.report.grids import percent_cell

SEEDS = 5


def patches(count: int) -> np.ndarray:
    """Grey patches ``[count, 8, 8]`` of scikit-learn's photograph of a temple, stretched to 0 to 255 each."""
    photo = load_sample_image("china.jpg").mean(-1)
    rng = np.random.default_rng(0)
    corners = rng.integers(0, np.array(photo.shape) - 8, (count, 2))
    cut = np.stack([photo[row : row + 8, column : column + 8] for row, column in corners])
    low, high = cut.min((1, 2), keepdims=True), cut.max((1, 2), keepdims=True)
    return (255 * (cut - low) / np.maximum(high - low, 1)).astype(np.uint8)


def main() -> None:
    """Prints average node and collective, validation accuracy, for each reference set."""
    digits = load("digits")
    row = next(row for row in rows("quickstart", "cpu", {}) if "reference" in row.name).under()
    settings, count = row.settings, round(row.settings.reference * len(digits.y_train))
    kept = len(digits.y_train) - count
    noise = np.random.default_rng(0).integers(0, 256, (count, *digits.shape), np.uint8)
    sets = {"digits": None, "patches of a photograph": patches(count), "noise": noise}
    table = Table("reference set", "average node %", "collective %")
    for name, inputs in sets.items():
        data = digits if inputs is None else _without(digits, kept)
        history = train(
            *(make_collective(settings, data), data),
            rounds=settings.rounds,
            seeds=SEEDS,
            eval_every=settings.rounds,
            split=settings.split,
            alpha=settings.skew,
            reference=settings.reference if inputs is None else inputs,
        )
        found = history.summary["metrics"]
        table.add_row(name, percent_cell(found["average_accuracy"]), percent_cell(found["collective_accuracy"]))
    Console().print(table)


def _without(data: Dataset, kept: int) -> Dataset:
    """So many of the training examples: as many as sites have that set others apart."""
    return data._replace(x_train=data.x_train[:kept], y_train=data.y_train[:kept])


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    main()
