"""How much of an input its message alone determines: a decoder trained on hard messages (thesis §4.2.2.2)."""

import jax
from flax import nnx

from palaver.data.inputs import to_float
from palaver.language.fit import fit
from palaver.models.blocks import Decoder
from palaver.types import Array, PyTree


def reconstruct(key: Array, symbols: Array, x: Array, held_out: Array, *, vocabulary: int, steps: int = 1000) -> Array:
    """Reconstructions by a trained decoder from messages that it was not trained on. ``vmap`` it over senders.

    The decoder has a hidden layer of 256 units and is trained on the squared error by Adam on batches of 256; its
    outputs are squashed to [0, 1].

    Args:
        key: of the decoder and its batches.
        symbols: ``[M, L]`` ids of training messages.
        x: ``[M, ...]`` the inputs that they are about, uint8 pixels or numbers in [0, 1].
        held_out: ``[T, L]`` other messages.
        vocabulary: V.
        steps: of Adam.

    Returns:
        ``[T, ...]`` reconstructions.

    """
    made, drawn = jax.random.split(key)
    decoder = Decoder(x.shape[1:], symbols.shape[1] * vocabulary, [256], convolutional=False, rngs=nnx.Rngs(made))
    structure, params = nnx.split(decoder)

    def decoded(params: PyTree, symbols: Array) -> Array:
        messages = jax.nn.one_hot(symbols, vocabulary).reshape(len(symbols), -1)
        return nnx.sigmoid(nnx.merge(structure, params)(messages))

    def loss(params: PyTree, memory: tuple[()], rows: Array) -> tuple[Array, tuple[()]]:
        return ((decoded(params, symbols[rows]) - to_float(x[rows])) ** 2).mean(), memory

    return decoded(fit(drawn, params, loss, (), size=len(symbols), batch_size=256, steps=steps), held_out)
