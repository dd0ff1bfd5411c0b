"""Which lowering of a convolution is fastest for ten nodes in one compiled scan on this backend.

``python -m benchmarks.convolution``: node-steps/s of the CNN of benchmark (b), ours (patches × matmul, nodes mapped one
after the other on each core) against each alternative.
"""

from palaver.devices import use_cores

use_cores()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from benchmarks.measure import Prepared, alternate, real, say  # noqa: E402
from palaver.exchange.settings import CollectiveSettings  # noqa: E402
from palaver.models import convolution as lowering  # noqa: E402

COUNT = 2
SETTINGS = CollectiveSettings(data="cifar10", model="cnn", batch_size=64)


def plain(x, kernel, strides, padding, **_layout):
    """Patches × matmul with JAX's own derivative."""
    patches = lowering._patches(x, strides[0], tuple(padding), jnp.dtype(jnp.float32))
    return (patches @ kernel.reshape(-1, kernel.shape[-1])).reshape(len(x), x.shape[1] // 2, x.shape[2] // 2, -1)


def side(data, convolution=lowering.patches_conv, loop=None, devices=None):
    """Compiles the collective with another lowering; two rounds a call."""
    kept, lowering._convolution = lowering._convolution, lambda _dtype: convolution
    try:
        return Prepared(SETTINGS, data, COUNT, loop=loop, devices=devices).advance
    finally:
        lowering._convolution = kept


cifar = real("cifar10", (32, 32, 3))
medians = alternate(
    {
        "ours": side(cifar),
        "vmap_over_nodes": side(cifar, loop="vmap"),
        "one_device": side(cifar, devices=1),
        "jax_derivative": side(cifar, plain),
        "native_convolution": side(cifar, jax.lax.conv_general_dilated),
    },
    repeats=5,
)
ours = 10 * COUNT / medians.pop("ours")
say(**{name: (ours, 10 * COUNT / seconds, "node-steps/s") for name, seconds in medians.items()})
