"""Early stopping: a node ends at its best evaluation, and takes part in nothing but decisions from then on."""

import os
import subprocess
import sys

import jax
import numpy as np
import optax
import polars as pl
import pytest

from palaver import channels, topology
from palaver.data import load
from palaver.data.dataset import subset
from palaver.exchange.build import make_collective
from palaver.exchange.description import collective
from palaver.exchange.settings import CollectiveSettings
from palaver.exchange.train import train
from palaver.models import MLP, VAE
from palaver.node import learner, supervised
from palaver.objectives import elbo
from palaver.types import PalaverError

NODES, SEEDS, PATIENCE, ROUNDS, EVERY = 5, [0, 1], 2, 120, 10


def trained(patience, channel=channels.none, **how):
    node = supervised(lambda rngs: MLP((8, 8), 10, hidden=(16,), rngs=rngs), channel(), optimizer=optax.adam(0.02))
    group = collective(node, topology.full(NODES), patience=patience, batch_size=8, **how)
    data = subset(load("digits"), 100, 60, 60)
    return train(group, data, seeds=SEEDS, rounds=ROUNDS, eval_every=EVERY)


@pytest.fixture(scope="module")
def silent():
    return [trained(patience, p_consume=0.0, p_broadcast=0.0) for patience in (0, PATIENCE)]


def test_a_silent_node_stops_where_its_curve_without_stopping_says(silent):
    free, stopped = silent
    assert not np.asarray(free.state.stopped).any()
    for seed in range(len(SEEDS)):
        for node in range(NODES):
            curve = free.nodes[:, seed, node]
            best, at = -1.0, 0
            for place, accuracy in enumerate(curve):
                if accuracy > best:
                    best, at = accuracy, place
                elif place - at == PATIENCE:
                    break
            else:
                assert not stopped.state.stopped[seed, node]
                np.testing.assert_array_equal(stopped.nodes[:, seed, node], curve)
                continue
            # As without stopping until it stops, and at its best from then on.
            expected = np.concatenate([curve[: at + PATIENCE + 1], np.full(len(curve) - at - PATIENCE - 1, best)])
            np.testing.assert_array_equal(stopped.nodes[:, seed, node], expected)
            assert stopped.state.stopped[seed, node]
            assert stopped.state.position[seed, node] == 8 * EVERY * (at + PATIENCE + 1)
    assert np.asarray(stopped.state.stopped).sum() > NODES


def test_what_is_reported_is_of_all_nodes_at_their_best(silent):
    free, stopped = silent
    data = subset(load("digits"), 100, 60, 60)
    right = np.asarray(stopped.simulation.logits(stopped.state, data.x_validation)).argmax(-1) == data.y_validation
    np.testing.assert_allclose(right.mean(-1), stopped.nodes[-1])
    # Also of those that would have had more patience.
    for seed, node in np.ndindex(len(SEEDS), NODES):
        last = ROUNDS // EVERY if not stopped.state.stopped[seed, node] else None
        assert stopped.nodes[-1, seed, node] >= free.nodes[:last, seed, node].max() or last is None
    found = stopped.metrics.filter(pl.col("metric") == "test_average_accuracy")["value"].to_numpy()
    right = np.asarray(stopped.simulation.logits(stopped.state, data.x_test)).argmax(-1) == data.y_test
    np.testing.assert_allclose(found, right.mean((1, 2)))


def test_nodes_that_have_stopped_neither_speak_nor_train_nor_hear():
    found = trained(1, channels.labels)
    stopped = np.asarray(found.state.stopped)
    assert stopped.any()
    before = jax.tree.map(np.array, (found.state.counts.broadcast, found.state.nodes, found.state.inbox.count))
    after = found.simulation.advance(found.state, 20)
    np.testing.assert_array_equal(before[2][stopped], np.asarray(after.inbox.count)[stopped])
    np.testing.assert_array_equal(before[0][stopped], np.asarray(after.counts.broadcast)[stopped])
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[stopped], np.asarray(b)[stopped]), before[1], after.nodes)
    assert not np.asarray(after.loss)[stopped].any()


def test_nodes_without_labels_do_not_stop():
    node = learner(lambda rngs: VAE((8, 8), latent=4, rngs=rngs), elbo())
    group = collective(node, topology.full(2), patience=3, p_broadcast=0.0)
    with pytest.raises(PalaverError, match="patience is 3 for nodes that learn without labels"):
        train(group, load("digits"), seeds=[0], rounds=2)


def test_a_baseline_has_no_early_stopping():
    with pytest.raises(PalaverError, match="patience is 3: give 0 for method fedavg, which needs all"):
        CollectiveSettings(method="fedavg", patience=3)
    with pytest.raises(PalaverError, match="patience is 3: give 0 for objective vae"):
        CollectiveSettings(objective="vae", channel="features", patience=3)
    assert make_collective(CollectiveSettings(patience=3), load("digits")).patience == 3


RESUMED = """
import sys
from pathlib import Path
import jax
import numpy as np
from palaver.data import load
from palaver.exchange.settings import CollectiveSettings
from palaver.exchange import sharding
from palaver.exchange.study import prepare
from palaver.studies.chapter import Configuration
from palaver.studies.checkpoints import Checkpoints

sharding._LEAST_WORK = 1.0
settings = CollectiveSettings(
    nodes=4, widths=(8,), patience=1, rounds=120, eval_every=10, learning_rate=0.03, examples=200, batch_size=8
)
study = prepare(Configuration("it", settings), settings.load(load), [0, 1], 2)
state = study.begin()
for step in (1, 2, 3):
    state, _ = study.advance(state)
checkpoints = Checkpoints(Path(sys.argv[1]))
checkpoints.save(3, state, {})
back = checkpoints.restore(study.begin()).state
finished = False
while not finished:
    state, one = study.advance(state)
    back, other = study.advance(back)
    finished = one.finished
    assert one.frame.equals(other.frame)
print(state[0].nodes[0].params["head"]["kernel"].sharding.num_devices, int(np.asarray(state[0].stopped).sum()) > 0)
"""


def test_on_two_devices_it_goes_on_from_a_checkpoint(tmp_path):
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-c", RESUMED, str(tmp_path)],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "2 True\n", done.stderr
