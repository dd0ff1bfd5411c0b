"""Algorithm 2 for one node: its decisions by hand, the rates of its coins, and the order of its own batches."""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import quick
from palaver.exchange.protocol import Coins, Protocol, decide, local_batch, node_key, reference_start, toss

KEY = jax.random.key(3)


@pytest.mark.parametrize("rebroadcast", [True, False])
def test_every_decision_by_hand(rebroadcast):
    protocol = Protocol(0.5, 0.5, batch_size=4, rebroadcast=rebroadcast, burn_in=10)
    for consume, broadcast, step, waiting in itertools.product([False, True], [False, True], [9, 10], [0, 2]):
        coins = Coins(jnp.bool_(consume), jnp.bool_(broadcast), KEY)
        found = decide(protocol, coins, jnp.int32(step), jnp.int32(waiting))
        reads = consume and waiting > 0
        assert bool(found.consume) == reads
        assert bool(found.broadcast) == (broadcast and step >= 10 and (rebroadcast or not reads))


def test_coins_have_their_rates_and_are_independent():
    protocol = Protocol(0.3, 0.6, batch_size=1)
    keys = jax.vmap(lambda node: node_key(KEY, node))(jnp.arange(200))
    coins = jax.vmap(lambda key: jax.vmap(lambda step: toss(protocol, key, step))(jnp.arange(100)))(keys)
    consume, broadcast = np.asarray(coins.consume), np.asarray(coins.broadcast)
    tolerance = 5 * 0.5 / np.sqrt(consume.size)
    assert abs(consume.mean() - 0.3) < tolerance
    assert abs(broadcast.mean() - 0.6) < tolerance
    assert abs((consume & broadcast).mean() - 0.18) < tolerance  # independent
    assert abs((consume[1:] & consume[:-1]).mean() - 0.09) < tolerance
    assert abs((consume[:, 1:] & consume[:, :-1]).mean() - 0.09) < tolerance


def test_own_batches_visit_every_example_once_a_pass():
    protocol = Protocol(0.5, 0.5, batch_size=3)
    read = [local_batch(protocol, node_key(KEY, 1), jnp.int32(3 * number), jnp.int32(7)) for number in range(7)]
    passes = np.concatenate(read).reshape(3, 7)
    assert (np.sort(passes, axis=1) == np.arange(7)).all()
    assert len({tuple(one) for one in passes.tolist()}) == 3


@pytest.mark.parametrize(("rows", "starts"), [(12, [0, 4, 8]), (14, [0, 4, 8, 10]), (4, [0])])
def test_every_pass_over_a_reference_set_takes_each_block_once_and_all_rows(rows, starts):
    protocol, passes = Protocol(0.5, 0.5, batch_size=4), 30
    start = quick.jit(jax.vmap(partial(reference_start, protocol, size=rows)))
    steps = jnp.arange(passes * len(starts))
    found = start(jnp.broadcast_to(KEY, steps.shape), steps)
    by_pass = np.asarray(found).reshape(passes, len(starts))
    assert (np.sort(by_pass, axis=1) == starts).all()
    assert {row for start in starts for row in range(start, start + 4)} == set(range(rows))
    # Passes differ, and so do nodes, which read in orders of their own.
    assert len({tuple(one) for one in by_pass.tolist()}) > min(10, math.factorial(len(starts)) - 1)
    own = jax.vmap(lambda node: node_key(KEY, node))(jnp.arange(len(steps)))
    assert set(start(own, jnp.full_like(steps, 5)).tolist()) == set(starts)


@pytest.mark.parametrize(("half_life", "burn_in"), [(20.0, 0), (60.0, 30), (1e-30, 0)])
def test_broadcasts_fall_to_half_in_a_half_life(half_life, burn_in):
    protocol, nodes, rounds = Protocol(0.5, 0.8, 1, burn_in=burn_in, half_life=half_life), 400, 240
    keys = jax.vmap(lambda node: node_key(KEY, node))(jnp.arange(nodes))
    steps = jnp.arange(rounds, dtype=jnp.int32)

    def broadcasts(key, step):
        coins = toss(protocol, key, step)
        return decide(protocol, coins, step, jnp.int32(0)).broadcast

    by_step = jax.vmap(jax.vmap(broadcasts, (None, 0)), (0, None))
    sent = np.asarray(quick.jit(by_step)(keys, steps))
    chance = 0.8 * 0.5 ** np.minimum(np.arange(rounds) / half_life, 1000) * (np.arange(rounds) >= burn_in)
    spread = np.sqrt((chance * (1 - chance)).sum() / nodes)
    assert abs(sent.sum(1).mean() - chance.sum()) < 5 * spread
    begin, later = (sent[:, at : at + int(half_life)].sum() for at in (burn_in, burn_in + int(half_life)))
    assert half_life < 1 or later / begin == pytest.approx(0.5, abs=0.05)
