"""Codistillation: every node also learns from what its peers predict for its own minibatch."""

import jax
import jax.numpy as jnp

from palaver.arguments import count, number
from palaver.baselines.method import Cohort, Memory, Method, Played, Sent, Sizes, States, with_peers
from palaver.types import Array


def codistillation(*, weight: float = 1.0, burn_in: int = 0) -> Method:
    """``CE(y) + w · CE(q_i)``, where ``q_i`` is the mean of the other nodes' softmax outputs on node i's minibatch.

    Anil et al. 2018, "Large scale distributed neural network training through online distillation", with predictions
    of the peers as they are now. The nodes' data differ, so that every minibatch travels to all peers.

    Args:
        weight: w, 0 or more.
        burn_in: rounds before the nodes learn from each other.

    Returns:
        The method. After the burn-in a node sends its B inputs to N − 1 peers each round, and 32 · C · B bits of
        predictions to each of them.

    Raises:
        PalaverError: a number that is out of range.

    """
    return _codistillation("codistillation", weight, burn_in, None)


def stale_codistillation(*, weight: float = 1.0, burn_in: int = 0, period: int = 50) -> Method:
    """As ``codistillation``, with the predictions of the peers' parameters as they were at the last exchange.

    This is the paper's own form: each node keeps a copy of its peers and predicts for itself, so that no example leaves
    its node. Anil et al. 2018 find that copies may be old.

    Args:
        weight: w, 0 or more.
        burn_in: rounds before the nodes learn from each other.
        period: T, rounds between exchanges of parameters, from the end of the burn-in on.

    Returns:
        The method. After the burn-in a node sends 32 · P · (N − 1) / T bits a round.

    Raises:
        PalaverError: a number that is out of range.

    """
    return _codistillation("codistillation from stale checkpoints", weight, burn_in, count("period", period))


def _codistillation(name: str, weight: float, burn_in: int, period: int | None) -> Method:
    """Both forms; without a period the peers are those of this round."""
    weight = number("weight", weight, "[0, inf)")
    burn_in = count("burn_in", burn_in, least=0, unit="rounds")

    def start(_sizes: Sizes, nodes: States) -> Memory:
        return Memory() if period is None else Memory(own=_copied(nodes))

    def play(cohort: Cohort, nodes: States, memory: Memory) -> Played:
        others, examples = cohort.rows.shape[1] - 1, cohort.rows.shape[2]
        learns = cohort.round >= burn_in
        if period is None:
            teachers, sent = nodes, Sent(messages=learns * others, examples=learns * others * examples)
        else:
            copies = learns & ((cohort.round - burn_in) % period == 0)
            teachers = jax.lax.cond(copies, lambda: _copied(nodes), lambda: memory.own)
            memory, sent = Memory(own=teachers), Sent(messages=copies * others)
        classes = jax.eval_shape(cohort.predict, teachers, cohort.rows[:, :1]).shape[-1]
        said = jax.lax.cond(
            learns,
            lambda: _of_others(jax.nn.softmax(cohort.predict(teachers, cohort.rows))),
            lambda: jnp.zeros((*cohort.rows.shape, classes)),
        )
        now = jnp.where(learns, weight, 0.0)
        nodes, trained = cohort.step(nodes, cohort.rows, with_peers(cohort, said, now), scale=1 + now)
        return Played(nodes, memory, trained.loss, sent)

    def bits(sizes: Sizes) -> float:
        return 32 * (sizes.classes * sizes.batch_size if period is None else sizes.parameters)

    def expected(sizes: Sizes, rounds: int) -> Sent:
        learns, others = max(0, rounds - burn_in), sizes.nodes - 1
        if period is None:
            return Sent(messages=learns * others, examples=learns * others * sizes.batch_size)
        return Sent(messages=-(-learns // period) * others)

    return Method(name=name, play=play, bits=bits, expected=expected, start=start, soft=True)


def _copied(nodes: States) -> States:
    """What predictions need of the nodes: all but their optimisers."""
    return tuple(state._replace(opt_state=()) for state in nodes)


def _of_others(said: Array) -> Array:
    """What all nodes say ``[S, N, N, B, C]`` about each node's minibatch to the mean of the others ``[S, N, B, C]``."""
    count = said.shape[1]
    others = (1 - jnp.eye(count)) / (count - 1)
    return jnp.einsum("ji,sjibc->sibc", others, said)
