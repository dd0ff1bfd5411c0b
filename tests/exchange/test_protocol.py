"""Algorithm 2 for one node: its decisions by hand, the rates of its coins, and the order of its own batches."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from palaver.exchange.protocol import Coins, Protocol, decide, local_batch, node_key, toss

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
