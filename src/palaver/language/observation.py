"""Views: each agent's partial observation of the same input (thesis §4.2.1.1).

A view is made by a factory. What is drawn once and stays (a mask) is made by ``init`` for all agents; ``see`` is for
one agent and one batch.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from palaver.arguments import number
from palaver.types import Array, PalaverError, PyTree


class View(NamedTuple):
    """How agents see inputs, which are float32 in [0, 1]."""

    init: Callable[[Array, int, Sequence[int]], PyTree]
    """``init(key, agents, shape)``: what stays fixed, leaves ``[N, ...]`` if any; ``shape`` is one input's."""
    see: Callable[[Array, PyTree, Array], Array]
    """``see(key, own, x [B, *shape]) -> [B, *shape]``: what the agent with this fixed part sees."""


def _check_images(view: str, shape: Sequence[int]) -> None:
    if len(shape) < 2:
        raise PalaverError(f"{view} of inputs of shape {tuple(shape)}: give images, (H, W) or (H, W, C)")


def inversion(*, noise: float = 0.1) -> View:
    """Each agent inverts (``x → 1 − x``) pixels of its own, the same in every input: the thesis's (§4.2.1.1).

    >>> view = inversion(noise=1.0)
    >>> mask = view.init(jax.random.key(0), 2, (2,))
    >>> view.see(jax.random.key(1), mask[0], jnp.array([[0.0, 0.75]])).tolist()
    [[1.0, 0.25]]

    Args:
        noise: probability that a pixel is inverted, drawn for each agent and pixel at ``init``; in [0, 1].

    Returns:
        The view; its fixed part is the masks ``[N, *shape]``.

    Raises:
        PalaverError: ``noise`` is outside [0, 1].

    """
    noise = number("noise", noise, "[0, 1]")
    return View(
        init=lambda key, agents, shape: jax.random.bernoulli(key, noise, (agents, *shape)),
        see=lambda key, mask, x: jnp.where(mask, 1 - x, x),
    )


def halves() -> View:
    """Agents of even number see the left half of an image, the others the right half; the rest is 0.

    A middle column belongs to the right half.

    >>> view = halves()
    >>> seen = view.init(jax.random.key(0), 2, (1, 3))
    >>> [view.see(jax.random.key(1), own, jnp.ones((1, 1, 3))).tolist() for own in seen]
    [[[[1.0, 0.0, 0.0]]], [[[0.0, 1.0, 1.0]]]]

    Returns:
        The view, of images ``(H, W)`` or ``(H, W, C)``; its ``init`` raises ``PalaverError`` for other inputs. The
        fixed part is which columns each agent sees.

    """

    def init(key: Array, agents: int, shape: Sequence[int]) -> Array:
        _check_images("halves", shape)
        left = jnp.arange(shape[1]) < shape[1] // 2
        seen = left[None] ^ (jnp.arange(agents) % 2 == 1)[:, None]
        return seen.reshape(agents, 1, shape[1], *[1] * (len(shape) - 2))

    return View(init=init, see=lambda key, seen, x: jnp.where(seen, x, 0.0))


def crops(*, size: float = 0.75) -> View:
    """A window in a random place, drawn anew for each image each time it is seen; what is outside is 0.

    Args:
        size: the window's height and width as a share of the image's, in (0, 1]; rounded to whole pixels.

    Returns:
        The view, of images ``(H, W)`` or ``(H, W, C)``, without a fixed part.

    Raises:
        PalaverError: ``size`` is outside (0, 1], or (at ``init``) the inputs are no images.

    """
    size = number("size", size, "(0, 1]")

    def init(key: Array, agents: int, shape: Sequence[int]) -> PyTree:
        _check_images("crops", shape)
        return ()

    def see(key: Array, own: PyTree, x: Array) -> Array:
        windows = []
        for axis, one in zip((1, 2), jax.random.split(key), strict=True):
            length = x.shape[axis]
            width = max(1, round(size * length))
            start = jax.random.randint(one, (x.shape[0], 1), 0, length - width + 1)
            place = jnp.arange(length)[None]
            windows.append((place >= start) & (place < start + width))
        inside = windows[0][:, :, None] & windows[1][:, None, :]
        return jnp.where(inside.reshape(*inside.shape, *[1] * (x.ndim - 3)), x, 0.0)

    return View(init=init, see=see)


def additive(*, deviation: float = 0.3) -> View:
    """Normal noise on every pixel, drawn anew each time an input is seen; sums are not clipped to [0, 1].

    Args:
        deviation: standard deviation of the noise, 0 or more; pixels are in [0, 1].

    Returns:
        The view, of inputs of any shape, without a fixed part.

    Raises:
        PalaverError: ``deviation`` is negative or infinite.

    """
    deviation = number("deviation", deviation, "[0, inf)")
    return View(
        init=lambda key, agents, shape: (),
        see=lambda key, own, x: x + deviation * jax.random.normal(key, x.shape),
    )


VIEWS: dict[str, Callable[[Any], View]] = {
    "inversion": lambda settings: inversion(noise=settings.noise),
    "halves": lambda _: halves(),
    "crops": lambda settings: crops(size=settings.crop),
    "additive": lambda settings: additive(deviation=settings.noise),
}
"""Every view by the name that settings give it; an entry that is added here is accepted wherever names are.

The settings object has ``noise`` and ``crop``.
"""
