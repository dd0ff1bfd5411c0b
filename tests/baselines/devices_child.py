"""What ``test_devices`` runs in a process of its own: baselines on one device, and over all that ``XLA_FLAGS`` makes.

``python devices_child.py FILE`` stores, by method, everything that the two states hold.
"""

import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from palaver import channels, topology
from palaver.baselines import METHODS
from palaver.exchange.description import collective
from palaver.exchange.rivals import rival
from palaver.exchange.sharding import ONE_DEVICE, NodeSharding, auto_sharding
from palaver.exchange.state import Shards
from palaver.models import MLP
from palaver.node import supervised

NODES, SEEDS, EXAMPLES, ROUNDS, RUNS = 8, [1, 2], 120, 9, 2
NAMES = ("async-sgd", "codistillation-stale", "gossip", "scarlet")
SETTINGS = SimpleNamespace(
    rounds=9,
    burn_in=0,
    period=3,
    digest=1,
    cache=50,
    keep_moments=False,
    peer_weight=1.0,
    outer_rate=0.7,
    outer_momentum=0.9,
)


def play(name: str, sharding: NodeSharding) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    index = np.stack([rng.permutation(96).reshape(NODES, -1) for _ in SEEDS])
    data = Shards(
        x=jnp.asarray(rng.normal(size=(EXAMPLES, 3)).astype(np.float32)),
        y=jnp.asarray(rng.integers(0, 4, EXAMPLES), jnp.int32),
        index=jnp.asarray(index, jnp.int32),
        size=jnp.asarray(rng.integers(3, 13, index.shape[:2]), jnp.int32),
    )
    node = supervised(lambda rngs: MLP((3,), 4, hidden=(4,), dropout=0.2, rngs=rngs), channels.logits())
    group = collective(node, topology.ring(NODES, 2), p_consume=0.0, p_broadcast=0.0, batch_size=4)
    reference = jnp.broadcast_to(jnp.arange(96, EXAMPLES, dtype=jnp.int32), (len(SEEDS), EXAMPLES - 96))
    sim = rival(METHODS[name](SETTINGS), group, data, SEEDS, reference=reference, sharding=sharding)
    state = sim.init(jnp.stack([jax.random.key(seed) for seed in SEEDS]))
    for _ in range(RUNS):  # the second goes on from what the first has left on the devices
        state = sim.advance(state, ROUNDS)
    held = jax.tree.leaves(state.nodes)[0].sharding.num_devices
    found = {"state": state, "logits": sim.logits(state, np.asarray(data.x[:5]))}
    flat, _ = jax.tree_util.tree_flatten_with_path(jax.tree.map(_bare, found))
    return {"devices": np.array(held)} | {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in flat}


def _bare(leaf):
    return jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


if __name__ == "__main__":
    many = auto_sharding([NODES])
    found = {name: (play(name, ONE_DEVICE), play(name, many)) for name in NAMES}
    Path(sys.argv[1]).write_bytes(pickle.dumps(found))
