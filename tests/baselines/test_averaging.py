"""Methods that average parameters or gradients: closed forms on a quadratic, and literal loops."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from literal import NODES, RATE, SEEDS, Run, assert_same, keys, mlp, params, quadratic, shards, trained

from palaver import topology
from palaver.baselines import asynchronous, diloco, fedavg, gossip, synchronous
from palaver.baselines.gossip import matrix
from palaver.baselines.method import Cohort, shared_model
from palaver.types import NodeState, PalaverError

ROUNDS = 11


def runs(node, loop, *, data=None, rounds=ROUNDS):
    """``loop(run)`` in every round of every seed."""
    found = [Run(place, node, alike=True, **({} if data is None else {"data": data})) for place in range(len(SEEDS))]
    for run in found:
        for run.round in range(rounds):
            loop(run)
    return found


def local_steps(run):
    for i in range(NODES):
        run.step(i, run.batch(i))


def set_all(run, vector):
    for i in range(NODES):
        run.set_params(i, vector)


def constant_shards():
    """Each node has one example, so that its minibatches are all alike; the nodes' weights are the same."""
    return shards()._replace(size=jnp.ones((len(SEEDS), NODES), jnp.int32))


def centres(data):
    return np.asarray(data.x[data.index[:, :, 0]])


def test_synchronous_descent_on_a_quadratic_is_the_closed_form():
    data = constant_shards()
    state, sim = trained(synchronous(), ROUNDS, quadratic(), data)
    begin, centre = params(sim.init(keys())), centres(data).mean(1, keepdims=True)
    np.testing.assert_allclose(params(state), centre + (1 - RATE) ** ROUNDS * (begin - centre), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("period", [1, 4])
def test_federated_averaging_on_a_quadratic_is_the_closed_form(period):
    data, shrink = constant_shards(), (1 - RATE) ** period
    state, sim = trained(fedavg(period=period), 2 * period, quadratic(), data)
    at, own = params(sim.init(keys())), centres(data)
    for _ in range(2):
        at = np.broadcast_to((own + shrink * (at - own)).mean(1, keepdims=True), at.shape)
    np.testing.assert_allclose(params(state), at, rtol=1e-5, atol=1e-6)


def test_averaging_every_step_of_gradient_descent_is_synchronous_descent():
    node, data = mlp(optax.sgd(0.1)), shards(equal=True)
    one, other = (trained(method, ROUNDS, node, data)[0] for method in (fedavg(period=1), synchronous()))
    np.testing.assert_allclose(params(one), params(other), rtol=1e-4, atol=1e-6)
    assert np.abs(params(one) - params(trained(fedavg(period=2), ROUNDS, node, data)[0])).max() > 1e-4


@pytest.mark.parametrize("reset", [True, False])
def test_federated_averaging_is_a_loop_over_weighted_means(reset):
    """Averages after rounds 4 and 8; three local steps after them."""
    node = mlp()

    def loop(run):
        local_steps(run)
        if (run.round + 1) % 4 == 0:
            set_all(run, np.average(run.params(), axis=0, weights=run.weight))
            if reset:
                new = node.init(run.init_key).opt_state
                run.states = [state._replace(opt_state=new) for state in run.states]

    state, _ = trained(fedavg(period=4, reset=reset), ROUNDS, node)
    assert_same(state, runs(node, loop))
    assert np.ptp(params(state), axis=1).max() > 1e-3
    assert np.ptp(params(trained(fedavg(period=4), 8, node)[0]), axis=1).max() == 0


def test_diloco_is_a_loop_of_nesterov_steps():
    node, outer, moments = mlp(), {}, {}

    def loop(run):
        shared = outer.setdefault(run.place, run.params()[0])
        local_steps(run)
        if (run.round + 1) % 3 == 0:
            delta = shared - np.mean(run.params(), axis=0)
            moments[run.place] = 0.8 * moments.get(run.place, 0) + delta
            outer[run.place] = shared - 0.6 * (delta + 0.8 * moments[run.place])
            set_all(run, outer[run.place])

    state, _ = trained(diloco(period=3, outer_rate=0.6, momentum=0.8), ROUNDS, node)
    assert_same(state, runs(node, loop))


def test_diloco_without_momentum_at_rate_1_is_federated_averaging_without_reset():
    data = shards(equal=True)
    one, _ = trained(diloco(period=3, outer_rate=1.0, momentum=0.0), ROUNDS, data=data)
    other, _ = trained(fedavg(period=3, reset=False), ROUNDS, data=data)
    np.testing.assert_allclose(params(one), params(other), rtol=1e-4, atol=1e-6)


def test_asynchronous_descent_pushes_gradients_of_what_was_pulled():
    """Each node's update is divided by its staleness: the id in the first round, then N - 1."""

    def loop(run):
        found = [run.gradients(i, run.batch(i)) for i in range(NODES)]
        for i in range(NODES):
            server = run.states[i - 1]  # the node before has just pulled; of the first, the last
            before = run.params()[i - 1]
            run.states[i] = server
            run.update(i, found[i])
            staleness = max(1, i if run.round == 0 else NODES - 1)
            run.set_params(i, before + (run.params()[i] - before) / staleness)

    node = mlp()
    state, _ = trained(asynchronous(), ROUNDS, node)
    assert_same(state, runs(node, loop))


def test_an_asynchronous_push_without_staleness_is_a_plain_step():
    data = constant_shards()
    state, sim = trained(asynchronous(), 1, quadratic(), data)
    begin, own = params(sim.init(keys()))[:, 0], centres(data)[:, 0]
    np.testing.assert_allclose(params(state)[:, 0], begin - RATE * (begin - own), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "graph",
    [
        topology.ring(NODES, 2),
        topology.full(NODES),
        topology.random_regular(8, 3),
        topology.from_graph([[0, 1, 0, 0], [1, 0, 1, 1], [0, 1, 0, 0], [0, 1, 0, 0]]),
    ],
)
def test_the_weights_of_gossip_are_doubly_stochastic(graph):
    weight = np.asarray(matrix(graph(0)))
    np.testing.assert_allclose(weight.sum(0), 1, rtol=1e-6)
    np.testing.assert_allclose(weight.sum(1), 1, rtol=1e-6)
    np.testing.assert_array_equal(weight, weight.T)
    assert (weight >= 0).all() and (np.diag(weight) > 0).all()


def test_the_weights_of_a_star_are_those_of_the_hub():
    """Decentralizepy's formula: every edge has 1 / (3 + 1), and each leaf keeps the rest."""
    star = topology.from_graph([[0, 1, 1, 1], [1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]])
    expected = [[0.25] * 4] + [[0.25] + [0.75 * (i == j) for j in range(3)] for i in range(3)]
    np.testing.assert_allclose(matrix(star(0)), expected, rtol=1e-6)


def test_gossip_is_a_step_and_a_product_with_the_weights():
    node, graph = mlp(), topology.ring(NODES, 2)
    weight = np.asarray(matrix(graph(0)))

    def loop(run):
        local_steps(run)
        for i, vector in enumerate(weight @ np.stack(run.params())):
            run.set_params(i, vector)

    state, _ = trained(gossip(), ROUNDS, node, graph=graph)
    assert_same(state, runs(node, loop))


def test_gossip_keeps_the_mean_of_all_nodes():
    """On a quadratic the mean moves as if all nodes took their steps at it."""
    data = constant_shards()
    state, sim = trained(gossip(), ROUNDS, quadratic(), data)
    begin, centre = params(sim.init(keys())).mean(1), centres(data).mean(1)
    np.testing.assert_allclose(
        params(state).mean(1), centre + (1 - RATE) ** ROUNDS * (begin - centre), rtol=1e-5, atol=1e-6
    )


def test_gossip_refuses_a_directed_graph():
    graph = topology.from_graph([[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]])
    with pytest.raises(PalaverError, match="node 1 does not send to node 0: give an undirected graph"):
        trained(gossip(), 1, graph=graph)


def test_batch_statistics_are_averaged_and_counters_are_not():
    """Where the nodes are on one device, ``gather`` has nothing to do."""
    cohort = Cohort(*[None] * len(Cohort._fields))._replace(gather=lambda leaf: leaf)
    statistics = {"mean": jnp.array([[1.0, 4.0]]), "count": jnp.array([[1, 3]])}
    state = NodeState({"w": jnp.array([[[2.0], [6.0]]])}, statistics, {"moment": jnp.array([[1.0, 2.0]])})
    after = shared_model(cohort, state, jnp.array([[0.75, 0.25]]))
    assert after.params["w"].tolist() == [[[3.0], [3.0]]]
    assert after.model_state["mean"].tolist() == [[1.75, 1.75]]
    assert after.model_state["count"].tolist() == [[1, 3]]
    assert after.opt_state["moment"].tolist() == [[1.0, 2.0]]
    assert shared_model(cohort, state).params["w"].tolist() == [[[4.0], [4.0]]]
