"""What a language's agents take: parameters, bits and memory, from shapes alone."""

import jax
import jax.numpy as jnp
import numpy as np

from palaver.data import Dataset
from palaver.language.generators import bits_available
from palaver.language.levels import receives
from palaver.language.settings import LanguageSettings, make_language
from palaver.studies.memory import WORD, Footprint, abstract, nbytes, peak

_SYMBOL = 2
"""Bytes of a symbol's id in evaluation."""


def footprint(settings: LanguageSettings, data: Dataset, seeds: int, devices: int) -> Footprint:
    """What the agents of a language take (``Chapter.footprint``).

    Args:
        settings: of the language.
        data: the data set.
        seeds: S games that are trained together.
        devices: not used: languages are trained on one device.

    Returns:
        Parameters of all agents of a seed, the bits of the messages that they receive in training, and the memory.

    Raises:
        PalaverError: settings that this data set does not allow.

    """
    game = make_language(settings, data)
    state = jax.eval_shape(game.init, jax.random.key(0))
    batch = abstract(settings.batch_size, *data.shape)
    labels = abstract(settings.batch_size, dtype=jnp.int32)
    memory = {
        "learners": seeds * nbytes(state),
        "data": data.x_train.nbytes,
        "working memory": max(
            # The state before the step is given up for the one after it.
            seeds * (peak(game.step, jax.random.key(0), state, batch, labels) - nbytes(state)),
            _evaluation(settings, data, seeds),
        ),
    }
    return Footprint(sum(leaf.size for leaf in jax.tree.leaves(state.params)), _bits(settings), memory)


def _evaluation(settings: LanguageSettings, data: Dataset, seeds: int) -> int:
    """Bytes of all agents' messages about the training and the test set, and of one agent's as one-hot vectors."""
    examples = len(data.y_train) + len(data.y_test)
    inputs = examples * data.x_train[0].size * WORD
    symbols = examples * settings.length
    return seeds * settings.agents * symbols * _SYMBOL + symbols * settings.vocabulary * WORD + inputs


def _bits(settings: LanguageSettings) -> float | None:
    """Bits of all messages that are received in training; None where none are."""
    if settings.level == "none" or settings.agents == 1:
        return None
    neighbours = np.asarray(settings.make_topology(settings.agents, settings.steps)(jnp.int32(0)))
    pairs = int(receives(settings.level, neighbours).sum())
    drawn = settings.samples if settings.estimator == "reinforce" else 1
    message = bits_available(settings.length, settings.vocabulary, variable=settings.variable_length)
    return float(settings.steps * settings.batch_size * pairs * drawn) * message
