"""DiLoCo: very many local steps, whose sum a second optimiser takes as a gradient."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from palaver.arguments import count, number
from palaver.baselines.method import Cohort, Memory, Method, Played, Sent, Sizes, States, due, shared_model


def diloco(*, period: int = 500, outer_rate: float = 0.7, momentum: float = 0.9) -> Method:
    """Every H rounds the shared parameters θ take a Nesterov step along ``Δ = θ − (1/N) Σ_i θ_i``.

    ``v ← μ v + Δ; θ ← θ − η (Δ + μ v)``, and all nodes go on from θ with their own optimisers' moments. Douillard et
    al. 2023, "DiLoCo: Distributed low-communication training of language models"; H and rates are those of OpenDiLoCo.
    The paper's inner optimiser is AdamW, here it is the nodes' own. As for ``fedavg``, an evaluation after a multiple
    of H rounds sees the shared parameters, and later steps stay local.

    Args:
        period: H, rounds between outer steps.
        outer_rate: η, above 0.
        momentum: μ, in [0, 1).

    Returns:
        The method. A node sends 2 · 32 · P / H bits a round.

    Raises:
        PalaverError: a number that is out of range.

    """
    period, outer_rate = count("period", period), number("outer_rate", outer_rate, "(0, inf)")
    outer = optax.sgd(outer_rate, momentum=number("momentum", momentum, "[0, 1)"), nesterov=True)

    def start(_sizes: Sizes, nodes: States) -> Memory:
        shared = jax.tree.map(lambda leaf: leaf[:, 0], nodes[0].params)
        return Memory(shared=(shared, outer.init(shared)))

    def play(cohort: Cohort, nodes: States, memory: Memory) -> Played:
        def synchronise(given: tuple[States, Memory]) -> tuple[States, Memory]:
            (state,), memory = given
            shared, moments = memory.shared
            averaged = shared_model(cohort, state)
            delta = jax.tree.map(lambda before, after: before - after[:, 0], shared, averaged.params)
            step, moments = outer.update(delta, moments, shared)
            moved: Any = optax.apply_updates(shared, step)
            params = jax.tree.map(lambda leaf, old: jnp.broadcast_to(leaf[:, None], old.shape), moved, averaged.params)
            return (averaged._replace(params=params),), memory._replace(shared=(moved, moments))

        nodes, trained = cohort.step(nodes, cohort.rows)
        now = due(cohort, period)
        nodes, memory = jax.lax.cond(now, synchronise, lambda given: given, (nodes, memory))
        return Played(nodes, memory, trained.loss, Sent(messages=now))

    return Method(
        name="diloco",
        play=play,
        bits=lambda sizes: 2 * 32 * sizes.parameters,
        expected=lambda _, rounds: Sent(messages=rounds // period),
        period=period,
        start=start,
        averages=True,
    )
