"""What ``test_sharding`` runs in processes of its own: collectives on one device, on many, on two machines.

``python sharding_child.py FOLDER many`` simulates them on one device and over all of this process's, and stores both;
``python sharding_child.py FOLDER PORT PROCESS`` is one of two processes that simulate them together.
The number of CPU devices comes from ``XLA_FLAGS``.
"""

import pickle
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.experimental.multihost_utils import process_allgather

from palaver import channels, topology
from palaver.exchange.description import collective
from palaver.exchange.liars import liars
from palaver.exchange.presence import presence
from palaver.exchange.sharding import ONE_DEVICE, NodeSharding, auto_sharding
from palaver.exchange.simulate import simulation
from palaver.exchange.state import Shards
from palaver.models import MLP
from palaver.node import supervised

ROUNDS, SEEDS, EXAMPLES = 12, 2, 96
GROUP, KINDS = 8, [((4,), 0.25), ((3, 2), 0.0)]
"""Nodes of each kind, and the kinds: hidden widths and dropout."""
TALKS: dict[str, dict[str, Any]] = {
    "own": {},
    "reference": {
        "examples": "reference",
        "combine": "mean",
        "decay": 0.7,
        "weighted": True,
        "least_change": 0.02,
        "presence": presence(16, asleep=0.2, asleep_rounds=2, slow=3, vanish=2, vanish_at=5),
    },
    "gate": {
        "examples": "reference",
        "combine": "mean",
        "least_change": 0.001,
        "gate": "twin",
        "liars": liars(16, number=5, lie="random"),
    },
}
"""What they talk about."""


def shards(nodes: int) -> Shards:
    rng = np.random.default_rng(0)
    index = np.stack([rng.permutation(EXAMPLES).reshape(nodes, -1) for _ in range(SEEDS)])
    return Shards(
        x=jnp.asarray(rng.normal(size=(EXAMPLES, 3)).astype(np.float32)),
        y=jnp.asarray(rng.integers(0, 4, EXAMPLES), jnp.int32),
        index=jnp.asarray(index, jnp.int32),
        size=jnp.full((SEEDS, nodes), index.shape[2] - 1, jnp.int32),
        reference=jnp.asarray(index[:, :, -1], jnp.int32),
    )


def play(sharding: NodeSharding, talk: str) -> dict[str, np.ndarray]:
    """Everything the state holds after ``ROUNDS`` rounds, and the nodes' logits, by path."""
    groups = []
    for hidden, dropout in KINDS:

        def model(rngs: nnx.Rngs, hidden=hidden, dropout=dropout) -> nnx.Module:
            return MLP((3,), 4, hidden=hidden, dropout=dropout, rngs=rngs)

        groups.append((supervised(model, channels.labels_logits(), optimizer=optax.sgd(0.1)), GROUP))
    nodes = GROUP * len(KINDS)
    chances = {"p_consume": 0.5, "p_broadcast": 0.9 if talk == "gate" else 0.5, "capacity": 2, "batch_size": 4}
    group = collective(groups, topology.ring(nodes, 3), **chances, **TALKS[talk])
    data = shards(nodes)
    sim = simulation(group, data, sharding=sharding)
    state = sim.advance(sim.init(jnp.stack([jax.random.key(seed) for seed in (1, 2)])), ROUNDS)
    logits = sim.logits(state, np.asarray(data.x[:5]))
    split = jax.tree.leaves(state.nodes)[0].sharding.num_devices
    state = state._replace(key=jax.random.key_data(state.key), nodes=_bare(state.nodes), twins=_bare(state.twins))
    found = {"state": state, "logits": logits}
    flat = jax.tree_util.tree_flatten_with_path(process_allgather(found, tiled=True))[0]
    return {"devices": np.array(split)} | {jax.tree_util.keystr(path): leaf for path, leaf in flat}


def _bare(tree):
    """Random keys as the numbers they hold."""

    def bare(leaf):
        return jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf

    return jax.tree.map(bare, tree)


def main(folder: Path, *place: str) -> None:
    if place == ("many",):
        assert auto_sharding([GROUP, GROUP], work=10**5) is ONE_DEVICE  # too little for two
        assert auto_sharding([GROUP, GROUP], work=3 * 10**6) is not ONE_DEVICE
        places = ONE_DEVICE, auto_sharding([GROUP, GROUP])
        (folder / "many.pickle").write_bytes(pickle.dumps({talk: [play(at, talk) for at in places] for talk in TALKS}))
        return
    port, process = map(int, place)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=process)
    found = {talk: play(auto_sharding([GROUP, GROUP]), talk) for talk in TALKS}
    (folder / f"process{process}.pickle").write_bytes(pickle.dumps(found))
    jax.distributed.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
