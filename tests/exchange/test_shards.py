"""Who has which examples, which are the reference set, and whose labels are known."""

import jax.numpy as jnp
import numpy as np
import pytest

from palaver.exchange.shards import portions, shards
from palaver.types import NO_LABEL, PalaverError

EXAMPLES, NODES, SEEDS = 103, 4, [3, 8, 9]
X = np.arange(EXAMPLES, dtype=np.float32)[:, None]
Y = np.arange(EXAMPLES) % 5


def owned(parts, seed):
    """The rows of all shards of a seed."""
    return [row[:size].tolist() for row, size in zip(parts.index[seed], parts.size[seed], strict=True)]


@pytest.mark.parametrize("split", ["iid", "dirichlet", "class"])
@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_a_reference_set_is_disjoint_from_every_shard(split, fraction):
    parts = shards(X, Y, NODES, SEEDS, split=split, fraction=fraction, reference=0.2)
    assert parts.reference is not None and parts.reference.shape == (3, 21)
    for seed in range(3):
        rows, reference = [row for part in owned(parts, seed) for row in part], parts.reference[seed].tolist()
        assert len(set(rows)) == len(rows) == round(fraction * 82)
        assert len(set(reference)) == 21
        assert not set(rows) & set(reference)
    assert len({tuple(sorted(row)) for row in parts.reference.tolist()}) == 3


@pytest.mark.parametrize("split", ["iid", "dirichlet", "class"])
def test_the_shards_are_those_of_a_fraction_of_the_same_size(split):
    among = shards(X, Y, NODES, SEEDS, split=split, reference=0.2)
    alone = shards(X, Y, NODES, SEEDS, split=split, fraction=0.8)
    assert portions(EXAMPLES, 1.0, 0.2) == (82, 21) and portions(EXAMPLES, 0.8, 0.0) == (82, 0)
    np.testing.assert_array_equal(among.index, alone.index)
    np.testing.assert_array_equal(among.size, alone.size)
    assert alone.reference is None


def test_a_reference_set_of_ones_own_follows_the_examples():
    own = 1000 + np.arange(17, dtype=np.float32)[:, None]
    parts, without = shards(X, Y, NODES, SEEDS, reference=own), shards(X, Y, NODES, SEEDS)
    np.testing.assert_array_equal(parts.index, without.index)
    assert parts.reference is not None and parts.reference.shape == (3, 17)
    for row in parts.reference.tolist():  # all of it, for each seed in an order of its own
        assert sorted(np.asarray(parts.x)[row, 0].tolist()) == own[:, 0].tolist()
    assert len({tuple(row) for row in parts.reference.tolist()}) == 3
    assert (np.asarray(parts.y)[EXAMPLES:] == NO_LABEL).all()
    np.testing.assert_array_equal(np.asarray(parts.y)[:EXAMPLES], Y)


@pytest.mark.parametrize("labelled", [0.5, 0.25, 1e-6])
def test_the_share_of_labelled_examples_is_exact(labelled):
    parts = shards(X, Y, NODES, SEEDS, split="dirichlet", labelled=labelled)
    assert parts.labelled is not None
    sizes = np.asarray(parts.size)
    np.testing.assert_array_equal(parts.labelled, np.maximum(1, np.round(labelled * sizes)))
    assert len(np.unique(sizes)) > 3
    assert shards(X, Y, NODES, SEEDS).labelled is None


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"reference": 1.0}, "reference is 1.0: give a number in [0, 1)"),
        ({"reference": -0.1}, "reference is -0.1: give a number in [0, 1)"),
        (
            {"reference": 0.999, "nodes": 1},
            "reference is 0.999 of 103 examples, which leaves none: give a smaller share",
        ),
        ({"labelled": 0.0}, "labelled is 0.0: give a number in (0, 1]"),
        (
            {"reference": np.zeros((9, 2), np.float32)},
            "reference has shape (9, 2) and type float32: give inputs [rows, ...] of the training set's shape (1,) and "
            "type float32",
        ),
        (
            {"reference": np.zeros((9, 1), np.uint8)},
            "reference has shape (9, 1) and type uint8: give inputs [rows, ...] of the training set's shape (1,) and "
            "type float32",
        ),
        (
            {"reference": np.zeros((0, 1), np.float32)},
            "reference has shape (0, 1) and type float32: give inputs [rows, ...] of the training set's shape (1,) and "
            "type float32",
        ),
        (
            {"reference": np.zeros((), np.float32)},
            "reference has shape () and type float32: give inputs [rows, ...] of the training set's shape (1,) and "
            "type float32",
        ),
    ],
)
def test_what_is_refused(given, line):
    with pytest.raises(PalaverError) as error:
        shards(X, Y, **({"nodes": NODES, "seeds": SEEDS} | given))
    assert str(error.value) == line


def test_reference_inputs_that_are_no_numbers_are_refused():
    with pytest.raises(PalaverError, match=r"^reference.*(NaN|finite)"):
        shards(X, Y, NODES, SEEDS, reference=np.full((9, 1), np.nan, np.float32))


def test_inputs_of_other_types_become_those_of_the_training_set():
    """As the training set's own: numbers become float32, whatever array they come in."""
    numbers = (1000 + np.arange(17))[:, None]
    for own in (numbers, numbers.astype(np.float64), jnp.asarray(numbers)):
        parts = shards(X.astype(np.float64), Y, NODES, SEEDS, reference=own)
        assert parts.reference is not None
        assert parts.x.dtype == np.float32
        assert np.asarray(parts.x)[EXAMPLES:, 0].tolist() == numbers[:, 0].tolist()
