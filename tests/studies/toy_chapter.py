"""A chapter of one's own, outside palaver: one parameter a seed is fitted to the mean of noisy numbers."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field

from palaver.report.drawing import configurations, panels
from palaver.report.grids import metric_grid
from palaver.studies.chapter import Chapter, Evaluation, Row, Study
from palaver.studies.fields import Count, NotNegative
from palaver.studies.findings import Figure, Findings, Metric, Section
from palaver.studies.formats import decimals
from palaver.studies.record import latest, tidy
from palaver.studies.results import metrics_of
from palaver.studies.seeds import seed_keys
from palaver.studies.settings import settings
from palaver.studies.statistics import interval
from palaver.types import PalaverError


@settings
class ToySettings:
    """Noisy numbers and how their mean is fitted."""

    mean: float = 3.0
    """Mean of the numbers."""
    noise: NotNegative = 1.0
    """Their standard deviation."""
    numbers: Count = 50
    """How many there are."""
    rate: Annotated[float, Field(gt=0, lt=2)] = 0.1
    """Step size of gradient descent; from 2 on it diverges."""
    steps: Count = 40
    """Steps of gradient descent."""
    eval_every: Count = 10
    """Steps between evaluations."""


METRICS = (
    Metric("estimate", "estimate", "units", form=decimals(3), headline="estimate {}", panel="estimate", compare=True),
    Metric("loss", "loss", "squared units", "lower", decimals(3), note="Half the mean squared error.", panel="loss"),
)


def evaluated(step: int) -> None:
    """Called after every evaluation."""


def _load(settings, by_name):
    random = np.random.default_rng(0)
    return settings.mean + settings.noise * random.standard_normal(settings.numbers).astype(np.float32)


def _check(settings, numbers, seeds, devices):
    if len(numbers) < 2:
        raise PalaverError(f"numbers is {len(numbers)}: give at least 2, of which each step takes one")


def _prepare(row, numbers, seeds, devices):
    own = row.settings

    def step(_, state):
        key, batch = jax.vmap(jax.random.split, out_axes=1)(state["key"])
        x = jnp.asarray(numbers)[jax.vmap(lambda k: jax.random.randint(k, (), 0, len(numbers)))(batch)]
        return {"key": key, "step": state["step"] + 1, "at": state["at"] - own.rate * (state["at"] - x)}

    @jax.jit
    def train(state, steps):
        return jax.lax.fori_loop(0, steps, step, state)

    def advance(state):
        state = train(state, min(own.eval_every, own.steps - int(state["step"])))
        done, at = int(state["step"]), np.asarray(state["at"])
        values = {"estimate": at, "loss": ((numbers - at[:, None]) ** 2).mean(1) / 2}
        frame = tidy(row.name, seeds, done, keep=np.isfinite(at), node={}, collective=values)
        evaluated(done)
        return state, Evaluation(done, frame, latest(frame, list(values)), done >= own.steps)

    def summarise(state, history):
        last = history.filter(history["round"] == own.steps)
        found = {m.name: interval(last.filter(last["metric"] == m.name)["value"].to_list()) for m in METRICS}
        return {"configuration": row.name, "metrics": found, "thesis": row.thesis, "diverged": {}}

    def begin():
        return {"key": seed_keys(seeds), "step": jnp.int32(0), "at": jnp.zeros(len(seeds))}

    return Study(begin, advance, summarise)


def _report(result):
    means = metrics_of(result, "estimate")
    draw = partial(panels, result, configurations(result), METRICS, "step")
    return Findings(
        verdict=[f"“{name}” found {found['mean']:.2f}." for name, found in means.items()],
        notices=[],
        sections=[Section("Estimates", METRICS[1].note, [metric_grid(result, "estimates", METRICS)])],
        figures=[Figure("fit", "Estimate and loss", "Over the steps of gradient descent.", draw)],
    )


CHAPTER = Chapter(
    name="toy",
    unit="steps",
    settings=ToySettings,
    scales={"tiny": ToySettings(steps=20), "cpu": ToySettings(), "thesis": ToySettings(steps=1000)},
    name_of=lambda settings: f"mean {settings.mean:g}",
    load=_load,
    check=_check,
    prepare=_prepare,
    metrics=METRICS,
    report=_report,
    length=lambda settings: settings.steps,
)


def rows(scale, overrides):
    """Numbers without noise and with it; the first is known exactly."""
    base = CHAPTER.scales[scale]
    return [Row("exact", base, {"noise": 0.0}, {"estimate": 3.0}), Row("noisy", base, {})]
