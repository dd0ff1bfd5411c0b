"""Estimates of mutual information against its true value: correlated normal numbers and noisy bits.

``python -m benchmarks.information [FIGURE.svg]`` prints a table and draws it, of five seeds; not in ``make bench``.
"""

from __future__ import annotations

import math
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import entropy

from palaver.language.information import barber_agakov, donsker_varadhan, estimate, info_nce, jensen_shannon
from palaver.report.drawing import COLOURS, MARKERS, STYLE, to_svg
from palaver.studies.statistics import interval

OBJECTIVES = {
    "Jensen–Shannon": jensen_shannon(),
    "Donsker–Varadhan (MINE)": donsker_varadhan(),
    "Donsker–Varadhan, biased": donsker_varadhan(decay=0.0),
    "Donsker–Varadhan, all pairs": donsker_varadhan(all_pairs=True),
    "InfoNCE": info_nce(),
    "Barber–Agakov": barber_agakov(),
}
"""The scores of the last are likelihoods of bits, so it has no value for normal numbers."""
TRAINING = {"hidden": 32, "batch_size": 128, "judged": 256, "steps": 1500, "learning_rate": 3e-3}
SEEDS, PAIRS, HELD_OUT, WIDTH = 5, 20_000, 10_000, 4


def gaussians(correlation: float, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Pairs of four normal numbers each."""
    x, noise = jax.random.normal(key, (2, PAIRS + HELD_OUT, WIDTH))
    return x, correlation * x + math.sqrt(1 - correlation**2) * noise


def channel(flip: float, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Four bits and, one-hot, the output of a binary symmetric channel for them."""
    sent, flipped = jax.random.split(key)
    bits = jax.random.bernoulli(sent, 0.5, (PAIRS + HELD_OUT, WIDTH))
    got = bits ^ jax.random.bernoulli(flipped, flip, bits.shape)
    return bits.astype(jnp.float32), jax.nn.one_hot(got.astype(int), 2)


SOURCES = {
    "normal numbers of correlation": {
        rho: (-WIDTH / 2 * math.log(1 - rho**2), partial(gaussians, rho)) for rho in (0.0, 0.3, 0.6, 0.8, 0.9)
    },
    "bits flipped with probability": {
        flip: (WIDTH * (math.log(2) - float(entropy([flip, 1 - flip]))), partial(channel, flip))
        for flip in (0.5, 0.3, 0.2, 0.1, 0.01)
    },
}


def main() -> None:
    found: dict[str, dict[str, list[tuple[float, dict]]]] = {}
    for source, cases in SOURCES.items():
        print(f"| {source} | nats | " + " | ".join(OBJECTIVES) + " |")
        print("|---|---|" + "---|" * len(OBJECTIVES))
        for level, (nats, draw) in cases.items():
            cells = []
            for name, objective in OBJECTIVES.items():
                if objective.of_likelihoods and not source.startswith("bits"):
                    cells.append("–")
                    continue

                def one(key: jax.Array, objective=objective, draw=draw) -> jax.Array:
                    drawn, fitted = jax.random.split(key)
                    x, s = draw(drawn)
                    held_out = x[PAIRS:], s[PAIRS:]
                    kind = "likelihood" if objective.of_likelihoods else "joint"
                    return estimate(objective, x[:PAIRS], s[:PAIRS], held_out, key=fitted, kind=kind, **TRAINING)

                keys = jax.random.split(jax.random.key(0), SEEDS)
                own = interval(np.asarray(jax.jit(jax.vmap(one))(keys), float).tolist())
                found.setdefault(source, {}).setdefault(name, []).append((nats, own))
                mean, low, high = (round(own[end], 2) + 0.0 for end in ("mean", "low", "high"))  # no minus before 0
                cells.append(f"{mean:.2f} [{low:.2f}, {high:.2f}]")
            print(f"| {level} | {nats + 0.0:.2f} | " + " | ".join(cells) + " |", flush=True)
        print()
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(figure_of(found))


def figure_of(found: dict[str, dict[str, list[tuple[float, dict]]]]) -> str:
    """The estimates' errors over the truth, with intervals."""
    with matplotlib.style.context(["default", STYLE, {"font.size": 9}]):
        figure = Figure(figsize=(7, 3.4), layout="constrained")
        for place, (source, objectives) in enumerate(found.items()):
            axes = figure.add_subplot(1, 2, place + 1)
            for colour, marker, (name, points) in zip(COLOURS, MARKERS, objectives.items(), strict=False):
                truth = np.array([nats for nats, _ in points])
                error = np.array([own["mean"] for _, own in points]) - truth
                spread = np.array([own["high"] - own["mean"] for _, own in points])
                axes.errorbar(
                    truth, error, yerr=spread, color=colour, marker=marker, ms=4, lw=1.3, capsize=2, label=name
                )
            axes.axhline(0, color="#595959", lw=0.8)
            axes.set(
                title=source.rsplit(" ", 2)[0],
                xlabel="mutual information, nats",
                ylabel="error, nats" if not place else None,
            )
            if place:
                figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
        return to_svg(figure)


if __name__ == "__main__":
    main()
