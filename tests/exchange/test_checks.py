"""Misuse of the exchange from Python: one line that names the argument, before anything is compiled or trained."""

import math
import re
from functools import cache

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import optax
import pytest
from flax import nnx

import palaver as pv
from palaver.exchange import checks
from palaver.exchange.presence import presence
from palaver.types import NO_PEER

NAN = float("nan")
DATA = pv.data.from_arrays(np.random.default_rng(0).random((60, 4), np.float32), np.arange(60) % 3)


def mlp(rngs):
    return pv.models.MLP((4,), 3, hidden=(5,), rngs=rngs)


NODE = pv.supervised(mlp, pv.channels.logits())


def group(node=NODE, topology=None, **given):
    return pv.collective(node, pv.topology.ring(4, 2) if topology is None else topology, **({"batch_size": 4} | given))


def train(node=NODE, data=DATA, topology=None, group=None, **given):
    return pv.train(group or make_group(node, topology), data, **({"rounds": 1, "seeds": 1} | given))


make_group = group


def sleepy():
    return group(presence=presence(4, asleep=0.5))


def about_reference(**given):
    told = {"examples": "reference", "combine": "mean"} | given
    return train(group=group(pv.supervised(mlp, pv.channels.features()), **told), reference=0.3)


def table(*rows, dtype=np.int32):
    return lambda step: jnp.asarray(np.array(rows, dtype))


def channel(**given):
    return pv.supervised(mlp, pv.channels.logits()._replace(**given))


def shards(**given):
    return pv.shards(**{"x": DATA.x_train, "y": DATA.y_train, "nodes": 4, "seeds": [0]} | given)


def returning(change):
    """A node whose model returns what ``change`` makes of the outputs."""

    class Changed(nnx.Module):
        def __init__(self, rngs):
            self.inner = mlp(rngs)

        def __call__(self, x):
            return change(self.inner(x))

    return pv.supervised(Changed, pv.channels.logits())


def rule(change):
    return {"mine": lambda logits, answered: change(pv.decision.mean(logits, answered))}


def later(step):
    """Another table from round 100 on, with an id out of range."""
    tables = jnp.array([[[1], [0]], [[1], [7]]])
    return tables[(step >= 100).astype(jnp.int32)]


TOPOLOGY = {
    "id above": lambda: group(topology=table([1], [2])),
    "id below": lambda: group(topology=table([1, NO_PEER], [0, -2])),
    "pad of N": lambda: group(topology=table([1, 2, 3], [0, 3, 3], [0, 1, 3])),
    "self-loop": lambda: group(topology=table([1], [1])),
    "one axis": lambda: group(topology=table(1, 0)),
    "no node": lambda: group(topology=lambda step: jnp.zeros((0, 1), jnp.int32)),
    "no column": lambda: group(topology=lambda step: jnp.zeros((2, 0), jnp.int32)),
    "floats": lambda: group(topology=table([1.0], [0.0], dtype=np.float32)),
    "bools": lambda: group(topology=table([True], [False], dtype=bool)),
    "other shapes later": lambda: group(
        topology=lambda step: jnp.array([[1], [0]] if step < 5 else [[1, -1], [0, -1]])
    ),
    "other ids later": lambda: train(topology=later, rounds=2_000),
    "fails": lambda: group(topology=lambda step: {}["neighbours"]),
    "a table": lambda: group(topology=np.array([[1], [0]])),
    "a graph": lambda: group(topology=nx.path_graph(3)),
    "a name": lambda: group(topology="ring"),
    "a tuple of tables": lambda: group(topology=lambda step: (jnp.array([[1], [0]]),)),
}
RULES = {
    "scalar": lambda: train(rules=rule(jnp.mean)),
    "class ids": lambda: train(rules=rule(lambda p: p.argmax(-1))),
    "transposed": lambda: train(rules=rule(jnp.transpose)),
    "too many classes": lambda: train(rules=rule(lambda p: jnp.concatenate([p, p], -1))),
    "NaN": lambda: train(rules=rule(lambda p: p * NAN)),
    "NaN where masked": lambda: train(
        rules={"mine": lambda logits, answered: logits.sum(0) / jnp.where(answered.all(0), 1, NAN)[:, None]}
    ),
    "integers": lambda: train(rules=rule(lambda p: p.astype(jnp.int32))),
    "tuple": lambda: train(rules=rule(lambda p: (p, p))),
    "fails": lambda: train(rules={"mine": lambda logits, answered: logits @ answered}),
    "one argument": lambda: train(rules={"mine": lambda logits: logits[0]}),
    "no function": lambda: train(rules={"mine": "mean"}),
    "a list": lambda: train(rules=[pv.decision.mean]),
    "of evaluate": lambda: pv.evaluate(*trained(), DATA.x_test, DATA.y_test, rules=rule(jnp.mean)),
}
CHANNEL = {
    "payload without batch": ("encode", lambda: train(channel(encode=lambda o, y: o.logits.mean(0)))),
    "scalar payload": ("encode", lambda: train(channel(encode=lambda o, y: o.logits.mean()))),
    "payload of Python numbers": ("encode", lambda: train(channel(encode=lambda o, y: {"logits": o.logits, "n": 3}))),
    "encode fails": ("encode", lambda: train(channel(encode=lambda o, y: o.codes))),
    "bits None": ("bits", lambda: train(channel(bits=lambda shapes: None))),
    "bits float": ("bits", lambda: train(channel(bits=lambda shapes: 96.0))),
    "bits negative": ("bits", lambda: train(channel(bits=lambda shapes: -1))),
    "bits a number": ("bits", lambda: train(channel(bits=96))),
    "loss of examples": ("loss", lambda: train(channel(loss=lambda o, p: (o.logits - p).sum(-1)))),
    "loss None": ("loss", lambda: train(channel(loss=lambda o, p: None))),
    "loss fails": ("loss", lambda: train(channel(loss=lambda o, p: o.logits @ p))),
    "labels_of a scalar": ("labels_of", lambda: train(channel(labels_of=lambda p: p.argmax()))),
    "a name": ("channel", lambda: pv.supervised(mlp, "logits")),
    "a factory": ("channel", lambda: pv.supervised(mlp, pv.channels.logits)),
}
NODES = {
    "optimizer a name": ("optimizer", lambda: pv.supervised(mlp, optimizer="adam")),
    "optimizer a factory": ("optimizer", lambda: pv.supervised(mlp, optimizer=optax.adam)),
    "optimizer a rate": ("optimizer", lambda: pv.supervised(mlp, optimizer=1e-3)),
    "learning rate NaN": ("optimizer", lambda: pv.supervised(mlp, optimizer=optax.adam(NAN))),
    "scheduled rate NaN": ("optimizer", lambda: pv.supervised(mlp, optimizer=optax.sgd(lambda step: NAN))),
    "injected rate NaN": (
        "optimizer",
        lambda: pv.supervised(mlp, optimizer=optax.inject_hyperparams(optax.adam)(learning_rate=NAN)),
    ),
    "optimizer needs more": ("optimizer", lambda: pv.supervised(mlp, optimizer=optax.lbfgs())),
    "model a module": ("model", lambda: pv.supervised(mlp(nnx.Rngs(0)))),
    "model fails": ("shape", lambda: pv.supervised(lambda rngs: pv.models.MLP(4, 3, rngs=rngs))),
    "model of nothing": ("model", lambda: pv.supervised(lambda rngs: None)),
    "objective a function": ("objective", lambda: pv.learner(mlp, optax.l2_loss)),
    "projection 2.5": ("projection", lambda: pv.learner(mlp, pv.objectives.cross_entropy(), projection=2.5)),
    "projection -1": ("projection", lambda: pv.learner(mlp, pv.objectives.cross_entropy(), projection=-1)),
    "projection of another width": (
        "projection",
        lambda: train(pv.learner(mlp, pv.objectives.cross_entropy(), pv.channels.features(), projection=7)),
    ),
    "input width": ("model", lambda: train(pv.supervised(lambda rngs: pv.models.MLP((6,), 3, rngs=rngs)))),
    "classes": ("model", lambda: train(pv.supervised(lambda rngs: pv.models.MLP((4,), 4, rngs=rngs)))),
    "outputs a tuple": ("model", lambda: train(returning(tuple))),
    "outputs a dict": ("model", lambda: train(returning(lambda outputs: outputs._asdict()))),
    "outputs None": ("model", lambda: train(returning(lambda outputs: None))),
    "logits of one axis": ("model", lambda: train(returning(lambda outputs: outputs.logits[:, 0]))),
    "features of three axes": ("model", lambda: train(returning(lambda o: o._replace(features=o.features[None])))),
    "logits of another batch": ("model", lambda: train(returning(lambda o: o._replace(logits=o.logits[:1])))),
    "integer logits": ("model", lambda: train(returning(lambda o: o._replace(logits=o.logits.astype(int))))),
    "a Node's parts": ("nodes", lambda: group((mlp, 4))),
    "nodes None": ("nodes", lambda: group(None)),
    "nodes a name": ("nodes", lambda: group("mlp")),
    "counts as floats": ("nodes", lambda: group([(NODE, 2.5), (NODE, 1.5)])),
    "no groups": ("nodes", lambda: group([])),
    "own Node, payload without batch": ("payload", lambda: train(NODE._replace(payload=lambda x, y: jnp.float32(0)))),
    "own Node, bits None": ("bits", lambda: train(NODE._replace(bits=lambda shapes: None))),
    "own Node, step without info": ("step", lambda: train(NODE._replace(step=lambda k, s, b, p, c: s))),
}
SETTINGS = {
    "capacity 2.5": ("capacity", lambda: group(capacity=2.5)),
    "capacity True": ("capacity", lambda: group(capacity=True)),
    "capacity 0": ("capacity", lambda: group(capacity=0)),
    "capacity text": ("capacity", lambda: group(capacity="16")),
    "batch_size 4.0": ("batch_size", lambda: group(batch_size=4.0)),
    "batch_size 0": ("batch_size", lambda: group(batch_size=0)),
    "batch_size above the data": ("batch_size", lambda: pv.train(group(batch_size=1000), DATA, rounds=1)),
    "burn_in -1": ("burn_in", lambda: group(burn_in=-1)),
    "burn_in 2**31": ("burn_in", lambda: group(burn_in=2**31)),
    "burn_in 1.5": ("burn_in", lambda: group(burn_in=1.5)),
    "p_consume 1.5": ("p_consume", lambda: group(p_consume=1.5)),
    "p_consume NaN": ("p_consume", lambda: group(p_consume=NAN)),
    "p_consume NaN beside p_broadcast": ("p_consume", lambda: group(p_consume=NAN, p_broadcast=0.5)),
    "p_consume text": ("p_consume", lambda: group(p_consume="half")),
    "p_consume None": ("p_consume", lambda: group(p_consume=None)),
    "p_broadcast -0.1": ("p_broadcast", lambda: group(p_broadcast=-0.1)),
    "p_broadcast True": ("p_broadcast", lambda: group(p_broadcast=True)),
    "rebroadcast text": ("rebroadcast", lambda: group(rebroadcast="no")),
    "overflow None": ("overflow", lambda: group(overflow=None)),
    "overflow a list": ("overflow", lambda: group(overflow=["drop_oldest"])),
    "rounds 0": ("rounds", lambda: train(rounds=0)),
    "rounds -3": ("rounds", lambda: train(rounds=-3)),
    "rounds 1.5": ("rounds", lambda: train(rounds=1.5)),
    "rounds True": ("rounds", lambda: train(rounds=True)),
    "rounds 2**31": ("rounds", lambda: train(rounds=2**31)),
    "eval_every 0": ("eval_every", lambda: train(eval_every=0)),
    "eval_every 0.5": ("eval_every", lambda: train(eval_every=0.5)),
    "alpha NaN": ("alpha", lambda: train(split="dirichlet", alpha=NAN)),
    "alpha text": ("alpha", lambda: train(split="dirichlet", alpha="0.5")),
    "split a function": ("split", lambda: train(split=lambda labels: labels)),
    "split unhashable": ("split", lambda: train(split=["iid"])),
    "target NaN": ("target", lambda: train(target=NAN)),
    "target in per cent": ("target", lambda: train(target=90)),
    "devices 1.5": ("devices", lambda: train(devices=1.5)),
    "method a name": ("method", lambda: train(method="fedavg")),
    "method and nodes that sleep": ("presence", lambda: train(method=pv.baselines.ship(), group=sleepy())),
    "method and few labels": ("labelled", lambda: train(method=pv.baselines.ship(), labelled=0.5)),
    "method without a reference set": ("reference", lambda: train(method=pv.baselines.fedmd(), rounds=20)),
    "reference with own examples": ("reference", lambda: train(reference=0.2)),
    "weighted features": ("weighted", lambda: about_reference(weighted=True)),
    "least_change of features": ("least_change", lambda: about_reference(combine="latest", least_change=0.1)),
    "data of arrays": ("data", lambda: train(data=(DATA.x_train, DATA.y_train))),
    "group a node": ("group", lambda: pv.train(NODE, DATA, rounds=1)),
    "seeds 0": ("seeds", lambda: train(seeds=0)),
    "seeds 2.5": ("seeds", lambda: train(seeds=2.5)),
    "seeds True": ("seeds", lambda: train(seeds=True)),
    "seeds text": ("seeds", lambda: train(seeds="01")),
    "seeds None": ("seeds", lambda: train(seeds=None)),
    "no seeds": ("seeds", lambda: train(seeds=[])),
    "no seeds in an array": ("seeds", lambda: train(seeds=np.array([], int))),
    "seeds twice": ("seeds", lambda: train(seeds=[3, 3])),
    "seeds negative": ("seeds", lambda: train(seeds=[-1])),
    "seeds floats": ("seeds", lambda: train(seeds=[0.0, 1.0])),
    "seeds a float array": ("seeds", lambda: train(seeds=np.arange(2.0))),
    "seeds bools": ("seeds", lambda: train(seeds=[True, False])),
    "seeds of two axes": ("seeds", lambda: train(seeds=np.zeros((1, 2), int))),
    "seeds 2**32": ("seeds", lambda: train(seeds=[2**32])),
    "shards: nodes 4.0": ("nodes", lambda: shards(nodes=4.0)),
    "shards: nodes True": ("nodes", lambda: shards(nodes=True)),
    "shards: no seeds": ("seeds", lambda: shards(seeds=[])),
    "shards: seeds negative": ("seeds", lambda: shards(seeds=[-1])),
    "shards: fraction 1.5": ("fraction", lambda: shards(fraction=1.5)),
    "shards: fraction 0": ("fraction", lambda: shards(fraction=0.0)),
    "shards: fraction NaN": ("fraction", lambda: shards(fraction=NAN)),
    "shards: fewer labels": ("y", lambda: shards(y=DATA.y_train[:-1])),
    "shards: negative labels": ("y", lambda: shards(y=DATA.y_train - 1)),
    "shards: float labels": ("y", lambda: shards(y=DATA.y_train.astype(float))),
    "shards: text": ("x", lambda: shards(x=DATA.x_train.astype(str))),
    "shards: ragged": ("x", lambda: shards(x=[[1.0], [1.0, 2.0]])),
    "shards: NaN": ("x", lambda: shards(x=np.full_like(DATA.x_train, NAN))),
    "evaluate: width": ("x", lambda: pv.evaluate(*trained(), DATA.x_test[:, :2], DATA.y_test)),
    "evaluate: fewer labels": ("y", lambda: pv.evaluate(*trained(), DATA.x_test, DATA.y_test[:-1])),
    "evaluate: label beyond": ("y", lambda: pv.evaluate(*trained(), DATA.x_test, DATA.y_test + 3)),
    "evaluate: no examples": ("x", lambda: pv.evaluate(*trained(), DATA.x_test[:0], DATA.y_test[:0])),
}
MISUSES = {
    **{f"topology: {name}": ("topology", misuse) for name, misuse in TOPOLOGY.items()},
    **{f"rules: {name}": ("rules", misuse) for name, misuse in RULES.items()},
    **CHANNEL,
    **NODES,
    **SETTINGS,
}


@cache
def trained():
    """A simulation and its first state."""
    sim = pv.simulation(group(), shards())
    return sim, sim.init(jax.random.key(0)[None])


@pytest.mark.parametrize(("argument", "misuse"), MISUSES.values(), ids=MISUSES)
def test_misuse_is_refused_in_one_line_that_names_the_argument(argument, misuse):
    with pytest.raises(pv.PalaverError) as error:
        misuse()
    line = str(error.value)
    assert re.search(rf"\b{argument}\b", line), line
    assert "\n" not in line and ": " in line


def test_every_form_of_seeds_that_means_the_same_gives_the_same():
    for seeds in (2, np.int64(2), jnp.int32(2), (0, 1), range(2), np.arange(2), jnp.arange(2)):
        np.testing.assert_array_equal(shards(seeds=seeds).index, shards(seeds=[0, 1]).index)
    np.testing.assert_array_equal(train(seeds=np.array([3])).nodes, train(seeds=[3]).nodes)
    assert shards(seeds=np.array([4, 2**32 - 1], np.uint32)).index.shape[0] == 2


def test_numbers_of_numpy_count_as_pythons():
    mine = group(
        [(NODE, np.int32(3)), (NODE, np.array(1))],
        capacity=np.int64(2),
        batch_size=np.uint8(4),
        burn_in=np.int16(0),
        p_consume=np.float32(0.5),
        p_broadcast=np.float64(1),
        rebroadcast=np.True_,
    )
    assert (mine.capacity, mine.protocol) == (2, (0.5, 1.0, 4, True, 0, math.inf))
    assert [type(value) for value in mine.protocol] == [float, float, int, bool, int, float]
    assert [count for _, count in mine.groups] == [3, 1]
    assert train(rounds=np.int64(2), eval_every=np.int32(1)).rounds.tolist() == [1, 2]


def test_what_is_ones_own_and_right_is_accepted():
    def sharpest(logits, answered):
        return jnp.where(answered[..., None], jax.nn.softmax(logits), 0).max(0)

    def topology(step):
        return jnp.where(step % 2, jnp.array([[1, NO_PEER], [0, 2], [1, NO_PEER]]), jnp.full((3, 2), NO_PEER))

    mine = pv.channels.logits()._replace(
        encode=lambda outputs, labels: {"v": outputs.logits, "y": labels},
        decode=None,  # a receiver gets what was sent
        loss=lambda outputs, sent: ((outputs.logits - sent["v"]) ** 2).mean(),
        bits=lambda shapes: np.int64(8 * sum(leaf.size // leaf.shape[0] for leaf in jax.tree.leaves(shapes))),
        labels_of=lambda sent: sent["y"],
    )
    node = pv.supervised(
        mlp, mine, optimizer=optax.chain(optax.clip(1.0), optax.sgd(optax.cosine_decay_schedule(0.1, 9)))
    )
    found = train(node, topology=topology, rules=pv.decision.RULES | {"sharpest": sharpest})
    assert set(found.rules) == {*pv.decision.RULES, "sharpest"}
    assert found.simulation.bits == 8 * (3 + 1)
    own = node._replace(step=lambda *given: node.step(*given))
    np.testing.assert_array_equal(train(own, topology=topology).nodes, found.nodes)


def test_checks_of_what_is_built_in_compile_nothing():
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, _, **named: compiled.append(event) if "backend_compile" in event else None
    )
    mine = group([(NODE, 4)], p_broadcast=0.5)
    compiled.clear()
    checks.check_rules(None, 4, 3)
    checks.check_nodes(mine, DATA)
    assert not compiled


def test_a_topology_may_end_with_the_run():
    tables = jnp.stack([pv.topology.ring(3, 2)(0)] * 4)
    assert train(topology=lambda step: jnp.take(tables, step, axis=0), rounds=4).nodes.shape[0] == 1
    with pytest.raises(pv.PalaverError, match="in round 10: give ids of other nodes"):
        train(topology=lambda step: jnp.take(tables, step, axis=0), rounds=11)


def test_a_reference_set_that_no_packet_is_about_is_refused():
    with pytest.raises(pv.PalaverError, match='^reference is for collectives with examples="reference": leave it out$'):
        train(reference=0.5)
