"""Whom a receiver believes: Cohen's κ by hand, the states of a sender, and what one sender can weigh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from palaver.gate import (
    FORGIVE,
    LEAST,
    MEMORY,
    MUTE,
    MUTED,
    NEW,
    PROBATION,
    TRUSTED,
    Trust,
    agreement,
    belief,
    observe,
    strangers,
)

ONE_HOT = np.eye(4)[np.arange(32) % 4]


def told(scores, *, before=None, packets=NEW):
    """Trust after so many packets of each sender, with these agreements."""
    trust = strangers(len(scores)) if before is None else before
    for _ in range(packets):
        trust = observe(trust, jnp.asarray(scores), jnp.ones(len(scores), bool))
    return trust


def test_agreement_is_kappa_of_the_votes():
    """Of votes for one class each, by hand."""
    twin, said = np.eye(2)[[0] * 25 + [1] * 25], np.eye(2)[[0] * 20 + [1] * 5 + [0] * 10 + [1] * 15]
    # They agree about 35 of 50; by chance about 0.5 · 0.6 + 0.5 · 0.4.
    assert agreement(twin, said) == pytest.approx((0.7 - 0.5) / (1 - 0.5), abs=1e-6)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (ONE_HOT, 1.0),
        (np.roll(ONE_HOT, 1, 1), -1 / 3),
        (np.tile(np.eye(4)[2], (32, 1)), 0.0),
        (np.full((32, 4), 0.25), 0.0),
        (0.6 * ONE_HOT + 0.1, 0.6),
    ],
)
def test_agreement_with_a_certain_twin(said, expected):
    assert agreement(ONE_HOT, said) == pytest.approx(expected, abs=1e-6)


def test_what_does_not_depend_on_the_row_agrees_with_no_twin():
    draws = np.random.default_rng(0)
    twin = draws.dirichlet(np.ones(5), size=32)
    constant = np.tile(draws.dirichlet(np.ones(5)), (32, 1))
    assert abs(agreement(twin, constant)) < 1e-6
    # A little truth in it is worth no more than it is.
    own = np.eye(5)[twin.argmax(-1)]
    assert agreement(twin, 0.95 * constant + 0.05 * own) < 0.1 * agreement(twin, own)


def test_rows_count_by_the_certainty_of_the_twin():
    """Of eight rows the twin knows four, which two classes are about; of the others it knows next to nothing."""
    unknown = np.array([0.28, 0.24, 0.24, 0.24])
    twin = np.array([*np.eye(4)[[0, 1, 0, 1]], *[unknown] * 4])
    right, false = np.eye(4)[[0, 1, 0, 1, 2, 3, 2, 3]], np.eye(4)[[2, 3, 2, 3, 0, 0, 0, 0]]
    assert agreement(twin, right) == pytest.approx(1, abs=1e-4)
    assert agreement(twin, false) == pytest.approx(0, abs=1e-4)
    assert agreement(np.full((8, 4), 0.25), right) == 0


def test_a_sender_is_on_probation_first():
    trust = told([0.5, 0.5], packets=NEW - 1)
    assert trust.state.tolist() == [PROBATION, PROBATION] and belief(trust).tolist() == [0, 0]
    trust = observe(trust, jnp.array([0.5, 0.5]), jnp.array([True, False]))
    assert trust.state.tolist() == [TRUSTED, PROBATION]
    assert trust.count.tolist() == [NEW, NEW - 1]
    assert belief(trust).tolist() == [1, 0]


def test_senders_are_measured_by_the_median_and_weigh_at_most_as_it_does():
    trust = told([0.9, 0.4, 0.3, 0.19, -0.2])
    assert trust.state.tolist() == [TRUSTED, TRUSTED, TRUSTED, TRUSTED, MUTED]
    np.testing.assert_allclose(belief(trust), [1, 1, 1, 0.19 / 0.3, 0], rtol=1e-5)
    even = told([0.8, 0.6, 0.4, 0.2])
    np.testing.assert_allclose(belief(even), [1, 1, 0.8, 0], rtol=1e-5)
    assert even.state.tolist() == [TRUSTED, TRUSTED, TRUSTED, MUTED]


def test_a_majority_that_says_nothing_is_not_believed():
    trust = told([0.5, 1e-7, -1e-7, 0.0])
    assert trust.state.tolist() == [TRUSTED, MUTED, MUTED, MUTED]
    assert belief(trust).tolist() == [1, 0, 0, 0]
    assert told([LEAST / 2] * 3).state.tolist() == [MUTED] * 3


@pytest.mark.parametrize("state", [TRUSTED, MUTED])
def test_between_the_two_limits_a_sender_stays_what_it_is(state):
    between = (MUTE + FORGIVE) / 2 * 0.4
    scores, count = jnp.array([0.4, 0.4, 0.4, between]), jnp.full(4, 10)
    trust = Trust(scores, count, jnp.array([TRUSTED, TRUSTED, TRUSTED, state]))
    assert observe(trust, scores, jnp.ones(4, bool)).state[3] == state
    for share, expected in ((MUTE - 0.01, MUTED), (FORGIVE + 0.01, TRUSTED)):
        one = scores.at[3].set(share * 0.4)
        assert observe(trust._replace(score=one), one, jnp.ones(4, bool)).state[3] == expected


def test_the_mean_is_of_all_packets_and_then_of_the_latest():
    draws = np.random.default_rng(1).random(MEMORY).tolist()
    trust = strangers(1)
    for number, agreed in enumerate(draws, 1):
        trust = observe(trust, jnp.array([agreed]), jnp.array([True]))
        assert trust.score[0] == pytest.approx(np.mean(draws[:number]), abs=1e-6)
    after = observe(trust, jnp.array([0.0]), jnp.array([True]))
    assert after.score[0] == pytest.approx(np.mean(draws) * (1 - 1 / MEMORY), abs=1e-6)
    unheard = observe(after, jnp.array([np.nan]), jnp.array([False]))
    np.testing.assert_array_equal(unheard.score, after.score)


def test_one_who_turns_liar_is_muted_within_so_many_packets():
    trust = told([0.5, 0.5, 0.5], packets=100)
    turned = told([0.5, 0.5, -0.05], before=trust, packets=MEMORY)
    assert turned.state.tolist() == [TRUSTED, TRUSTED, MUTED]
    assert told([0.5] * 3, before=turned, packets=MEMORY).state.tolist() == [TRUSTED] * 3


def test_one_program_for_every_packet():
    traced = list[Trust]()

    @jax.jit
    def counted(trust: Trust, agreed: jax.Array, heard: jax.Array) -> Trust:
        traced.append(trust)
        return observe(trust, agreed, heard)

    trust = strangers(5)
    for sender in range(5):
        trust = counted(trust, jnp.full(5, 0.3), jnp.arange(5) == sender)
    assert len(traced) == 1
    assert trust.count.tolist() == [1] * 5 and (trust.count.dtype, trust.state.dtype) == (jnp.int32, jnp.int32)
