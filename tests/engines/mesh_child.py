"""What ``test_mesh`` runs in processes of their own: one collective on one device, on many, on two machines.

``python mesh_child.py FOLDER many`` plays it on one device and over all of this process's, and stores both results;
``python mesh_child.py FOLDER PORT PROCESS`` is one of two processes that play it together.
The number of CPU devices comes from ``XLA_FLAGS``.
"""

import pickle
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.experimental.multihost_utils import process_allgather

from palaver import channels, topology
from palaver.engines.mesh import ONE_DEVICE, across
from palaver.engines.simulate import Shards, collective, simulation
from palaver.models import MLP
from palaver.node import supervised

ROUNDS, NODES, SEEDS, EXAMPLES = 12, 8, 2, 96
COLLECTIVES = {"one kind": [(4,)], "two groups": [(4,), (3, 2)]}


def shards(nodes: int) -> Shards:
    rng = np.random.default_rng(0)
    index = np.stack([rng.permutation(EXAMPLES).reshape(nodes, -1) for _ in range(SEEDS)])
    return Shards(
        x=jnp.asarray(rng.normal(size=(EXAMPLES, 3)).astype(np.float32)),
        y=jnp.asarray(rng.integers(0, 4, EXAMPLES), jnp.int32),
        index=jnp.asarray(index, jnp.int32),
        size=jnp.full((SEEDS, nodes), index.shape[2], jnp.int32),
    )


def play(name: str, spread) -> dict[str, np.ndarray]:
    """Everything the state holds after ``ROUNDS`` rounds, and the nodes' logits, by path."""
    kinds = COLLECTIVES[name]
    groups = []
    for hidden in kinds:

        def model(rngs: nnx.Rngs, hidden=hidden) -> nnx.Module:
            return MLP((3,), 4, hidden=hidden, dropout=0.25, rngs=rngs)

        node = supervised(model, channels.labels_logits(), optimizer=optax.sgd(0.1))
        groups.append((node, NODES))
    nodes = NODES * len(kinds)
    group = collective(groups, topology.ring(nodes, 3), p_consume=0.5, p_broadcast=0.5, capacity=2, batch_size=4)
    data = shards(nodes)
    sim = simulation(group, data, spread=spread)
    state = sim.advance(sim.init(jnp.stack([jax.random.key(seed) for seed in (1, 2)])), ROUNDS)
    said = sim.logits(state, np.asarray(data.x[:5]))
    split = jax.tree.leaves(state.nodes)[0].sharding.num_devices
    state = state._replace(key=jax.random.key_data(state.key), nodes=_bare(state.nodes))
    found = {"state": state, "logits": said}
    flat = jax.tree_util.tree_flatten_with_path(process_allgather(found, tiled=True))[0]
    return {"devices": np.array(split)} | {jax.tree_util.keystr(path): leaf for path, leaf in flat}


def _bare(tree):
    """Random keys as the numbers they hold."""

    def bare(leaf):
        return jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf

    return jax.tree.map(bare, tree)


def main(folder: Path, *place: str) -> None:
    if place == ("many",):
        found = {name: (play(name, ONE_DEVICE), play(name, across([NODES]))) for name in COLLECTIVES}
        (folder / "many.pickle").write_bytes(pickle.dumps(found))
        return
    port, process = map(int, place)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=process)
    found = play("two groups", across([NODES]))
    (folder / f"process{process}.pickle").write_bytes(pickle.dumps(found))
    jax.distributed.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
