"""Exchange of gradients in every step, in lock-step or not: what "distributed training" means by default."""

import jax
import jax.numpy as jnp

from palaver.baselines.method import Cohort, Memory, Method, Played, Sent, States, halves, mean
from palaver.types import Array, Gradients, NodeState, PyTree


def synchronous() -> Method:
    """Every node takes the same step, along the mean of all gradients: ``θ ← θ − η · (1/N) Σ_i g_i(θ)``.

    It is one model trained on minibatches of N · B examples (thesis §1.3.2.2), by the nodes' own optimiser. Batch
    statistics are averaged like gradients.

    Returns:
        The method. A node sends 2 · 32 · P · (N − 1) / N bits a round, in a ring all-reduce.

    """

    def play(cohort: Cohort, nodes: States, memory: Memory) -> Played:
        found, trained = cohort.gradients(nodes, cohort.rows)
        return Played(cohort.update(nodes, mean(cohort, found)), memory, trained.loss, Sent(messages=1))

    return Method(
        name="synchronous SGD",
        play=play,
        bits=lambda sizes: 2 * 32 * sizes.parameters * (sizes.nodes - 1) / sizes.nodes,
        expected=lambda _, rounds: Sent(messages=rounds),
        averages=True,
    )


def asynchronous() -> Method:
    """Nodes push gradients to a server one after the other, each of the parameters that it pulled at its last push.

    ``θ_{t+1} = θ_t − (η / s) · g(θ_{t−s})``, with the server's optimiser in place of η. In a round every node pushes
    once, in the order of the ids: s, the pushes since it pulled, is N − 1, and in the first round the node's id. The
    update is divided by s, at least 1 (Dean et al. 2012, "Large scale distributed deep networks"; Zhang et al. 2015,
    "Staleness-aware async-SGD"). A node's accuracy is that of the parameters that it pulled last.

    Returns:
        The method. A node sends 2 · 32 · P bits a round: its gradient, and its share of what the server sends.

    """

    def play(cohort: Cohort, nodes: States, memory: Memory) -> Played:
        found, trained = cohort.gradients(nodes, cohort.rows)
        every = jax.tree.map(cohort.gather, found[0])
        count, (_, update) = cohort.weight.shape[1], halves(cohort.node)

        def push(server: NodeState, given: tuple[Array, Gradients]) -> tuple[NodeState, tuple[PyTree, PyTree]]:
            node, gradients = given
            after = jax.vmap(lambda state, grads: update(state, grads, jnp.bool_(False)))(server, gradients)
            staleness = jnp.where(cohort.round == 0, node, count - 1)
            step: PyTree = jax.tree.map(
                lambda old, new: old + (new - old) / jnp.maximum(staleness, 1), server.params, after.params
            )
            server = after._replace(params=step)
            return server, (server.params, server.model_state)

        # The last node pulls last: its parameters are the server's, and the server's optimiser is kept at every node.
        server = jax.tree.map(lambda leaf: cohort.gather(leaf)[:, -1], nodes[0])
        server, pulled = jax.lax.scan(push, server, (jnp.arange(count), _swapped(every)))
        params, model_state = jax.tree.map(cohort.local, _swapped(pulled))
        optimiser = jax.tree.map(
            lambda leaf, old: jnp.broadcast_to(leaf[:, None], old.shape), server.opt_state, nodes[0].opt_state
        )
        return Played((NodeState(params, model_state, optimiser),), memory, trained.loss, Sent(messages=1))

    return Method(
        name="asynchronous SGD",
        play=play,
        bits=lambda sizes: 2 * 32 * sizes.parameters,
        expected=lambda _, rounds: Sent(messages=rounds),
        averages=True,
    )


def _swapped(tree: PyTree) -> PyTree:
    """``[S, N, ...]`` to ``[N, S, ...]`` and back."""
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), tree)
