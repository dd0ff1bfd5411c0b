"""Federated averaging: many local steps, then the mean of all parameters."""

import jax
import jax.numpy as jnp

from palaver.arguments import count, flag
from palaver.baselines.method import Cohort, Memory, Method, Played, Sent, States, due, shared_model


def fedavg(*, period: int = 10, reset: bool = True) -> Method:
    """Every k rounds all nodes go on from the mean of their parameters, ``θ = Σ_i (n_i / n) θ_i``.

    McMahan et al. 2017, "Communication-efficient learning of deep networks from decentralized data". Averages come at
    the end of rounds k, 2k, …: an evaluation after a multiple of k rounds sees averaged nodes, and steps after the last
    multiple stay local. Batch statistics are averaged too, which does not give those of the averaged network: use group
    norm.

    Args:
        period: k, rounds between averages.
        reset: whether the nodes' optimisers begin anew after each average, as those of clients without memory do;
            otherwise they keep their moments.

    Returns:
        The method. A node sends 2 · 32 · P / k bits a round, its share of what the server sends included.

    Raises:
        PalaverError: k is below 1.

    """
    period, reset = count("period", period), flag("reset", reset)

    def play(cohort: Cohort, nodes: States, memory: Memory) -> Played:
        def average(nodes: States) -> States:
            state = shared_model(cohort, nodes[0], cohort.weight)
            if reset:
                new = cohort.node.init(jax.random.key(0)).opt_state
                state = state._replace(
                    opt_state=jax.tree.map(lambda old, leaf: jnp.broadcast_to(leaf, old.shape), state.opt_state, new)
                )
            return (state,)

        nodes, trained = cohort.step(nodes, cohort.rows)
        now = due(cohort, period)
        nodes = jax.lax.cond(now, average, lambda nodes: nodes, nodes)
        return Played(nodes, memory, trained.loss, Sent(messages=now))

    return Method(
        name="fedavg",
        play=play,
        bits=lambda sizes: 2 * 32 * sizes.parameters,
        expected=lambda _, rounds: Sent(messages=rounds // period),
        period=period,
        averages=True,
    )
