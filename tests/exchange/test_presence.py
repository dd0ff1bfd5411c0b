"""Which nodes are there when: rates, lengths of sleep, and who is slow or vanishes, by their closed forms."""

from functools import partial
from itertools import groupby

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import quick
from palaver import topology
from palaver.exchange.description import collective
from palaver.exchange.presence import Presence, presence, present
from palaver.models import MLP
from palaver.node import supervised
from palaver.types import PalaverError

KEYS = jnp.stack([jax.random.key(seed) for seed in range(6)])


def calendar(described: Presence, nodes: int, rounds: int):
    """``awake`` and ``active``, ``[S, N, rounds]``."""
    one = partial(present, described, nodes=nodes)
    by_round = jax.vmap(lambda key, node, step: one(key, node, step=step), (None, None, 0))
    by_node = jax.vmap(jax.vmap(by_round, (None, 0, None)), (0, None, None))
    return map(np.asarray, quick.jit(by_node)(KEYS, jnp.arange(nodes), jnp.arange(rounds)))


def runs(row: np.ndarray) -> list[tuple[bool, int]]:
    """Stretches of the same value and their lengths, without the first and the last, which may be cut."""
    return [(bool(value), len(list(same))) for value, same in groupby(row.tolist())][1:-1]


def test_by_default_every_node_is_there():
    awake, active = calendar(presence(5), 5, 50)
    assert awake.all() and active.all()
    assert presence(5).whole and Presence().whole


@pytest.mark.parametrize(("asleep", "length"), [(0.3, 1), (0.2, 7)])
def test_sleep_has_its_rate_and_length(asleep, length):
    nodes, rounds = 20, 700
    awake, active = calendar(presence(nodes, asleep=asleep, asleep_rounds=length), nodes, rounds)
    assert (awake == active).all()
    stretches = len(KEYS) * nodes * rounds / length
    assert abs((~awake).mean() - asleep) < 5 * np.sqrt(asleep * (1 - asleep) / stretches)
    nights = [many for row in awake.reshape(-1, rounds) for there, many in runs(row) if not there]
    assert all(many % length == 0 for many in nights)
    # Consecutive stretches are independent: one in ``1 - asleep`` is the last of a night.
    assert np.mean(nights) / length == pytest.approx(1 / (1 - asleep), rel=0.1)
    # Nodes fall asleep independently, and in every round as often.
    together = (~awake[:, :-1] & ~awake[:, 1:]).mean()
    assert together == pytest.approx(asleep**2, abs=5 * asleep / np.sqrt(stretches))
    begins = np.flatnonzero(np.diff(awake.astype(int), axis=2).any((0, 1)))
    assert set(begins % length) == set(range(length))


@pytest.mark.parametrize("every", [1, 2, 5])
def test_slow_nodes_act_once_in_so_many_rounds_and_are_reached_in_all(every):
    awake, active = calendar(presence(8, slow=3, slow_every=every), 8, 40)
    assert awake.all()
    acts = active.sum(2)
    assert (np.sort(acts, axis=1) == [40 // every] * 3 + [40] * 5).all()
    slow = active[acts < 40].reshape(-1, 40 // every, every) if every > 1 else np.ones((0, 40, 1))
    assert (slow.sum(2) == 1).all()


def test_exactly_so_many_vanish_for_good_and_others_in_other_seeds():
    awake, active = calendar(presence(8, vanish=3, vanish_at=11), 8, 40)
    assert awake[..., :11].all()
    assert (awake == active).all()
    gone = ~awake[..., 11:]
    assert (gone.all(2) == gone.any(2)).all()
    assert (gone.all(2).sum(1) == 3).all()
    assert len({tuple(row) for row in gone.all(2).tolist()}) > 3


def test_slow_nodes_vanish_last():
    awake, active = calendar(presence(8, slow=3, vanish=5, vanish_at=20, slow_every=2), 8, 40)
    slow = active[..., :20].sum(2) == 10
    assert (slow.sum(1) == 3).all()
    assert (slow == awake[..., 39]).all()


def test_a_node_sleeps_as_it_does_among_more_nodes():
    few, many = (next(iter(calendar(presence(n, asleep=0.4, asleep_rounds=3), n, 60))) for n in (4, 9))
    np.testing.assert_array_equal(few, many[:, :4])


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"asleep": 1.0}, "asleep is 1.0: give a number in [0, 1)"),
        ({"asleep_rounds": 0}, "asleep_rounds is 0: give 1 to 2147483647 rounds"),
        ({"asleep_rounds": 2**40}, "asleep_rounds is 1099511627776: give 1 to 2147483647 rounds"),
        ({"slow": 6}, "slow is 6: give 0 to 5 nodes"),
        ({"slow_every": 0}, "slow_every is 0: give 1 to 2147483647 rounds"),
        ({"vanish": 5}, "vanish is 5: give 0 to 4 nodes, so that one is left"),
        ({"vanish": True}, "vanish is True: give a whole number, 0 to 4 nodes, so that one is left"),
        ({"vanish": 1, "vanish_at": -1}, "vanish_at is -1: give 0 to 2147483647"),
        ({"vanish": 1, "vanish_at": 2**31}, "vanish_at is 2147483648: give 0 to 2147483647"),
        ({"vanish_at": 4}, "vanish_at is 4 and no node vanishes: give vanish too, or leave it out"),
    ],
)
def test_what_is_refused(given, line):
    with pytest.raises(PalaverError) as error:
        presence(5, **given)
    assert str(error.value) == line


def test_a_presence_is_checked_for_the_collective_that_gets_it():
    node = supervised(lambda rngs: MLP((2,), 3, hidden=(), rngs=rngs))
    with pytest.raises(PalaverError, match=r"^vanish is 7: give 0 to 4 nodes, so that one is left$"):
        collective(node, topology.full(5), presence=presence(10, vanish=7))
    with pytest.raises(PalaverError, match=r"^presence is 0.5: give what palaver.exchange.presence.presence returns$"):
        collective(node, topology.full(5), presence=0.5)  # type: ignore[arg-type]
    described = presence(5, asleep=0.5, slow=2)
    assert collective(node, topology.full(5), presence=described).presence == described
