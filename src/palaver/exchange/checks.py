"""Checks of what a caller gives the exchange: rules and nodes of their own, and whether they suit the data.

Nothing is compiled: functions are traced for their shapes. Only a decision rule that is not palaver's is run, on one
small example.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import palaver.node
from palaver import decision
from palaver.arguments import failure_of, function, shown
from palaver.channels.checks import check_bits, check_payload
from palaver.data import Dataset
from palaver.data.inputs import to_float
from palaver.exchange.description import Collective
from palaver.exchange.mapping import received_shapes
from palaver.types import Batch, DecisionRule, Node, PalaverError, PyTree

_EXAMPLES = 2
"""That a rule is tried on: one that every node answers, and one that every other node does."""


def check_rules(rules: Any, nodes: int, classes: int) -> Mapping[str, DecisionRule]:
    """Decision rules, which may be a caller's own.

    Args:
        rules: what was given; None: all of ``palaver.decision.RULES``.
        nodes: N.
        classes: C.

    Returns:
        The rules by name.

    Raises:
        PalaverError: they are no functions by name; or one does not make finite floats ``[B, C]`` of finite logits
            ``[N, B, C]`` and a mask ``[N, B]``, of which some nodes gave no output.

    """
    rules = decision.RULES if rules is None else rules
    if not isinstance(rules, Mapping):
        raise PalaverError(f'rules is {shown(rules)}: give functions by name, such as RULES | {{"mine": mine}}')
    for name, rule in rules.items():
        function(f"rules[{name!r}]", rule, "a function of logits [N, B, C] and a mask [N, B]")
        if getattr(rule, "__module__", None) != decision.__name__:
            _check_rule(f"rules[{name!r}]", rule, nodes, classes)
    return rules


def _check_rule(name: str, rule: DecisionRule, nodes: int, classes: int) -> None:
    logits = np.random.default_rng(0).normal(size=(nodes, _EXAMPLES, classes)).astype(np.float32)
    answered = np.ones((nodes, _EXAMPLES), bool)
    answered[1::2, 1] = False
    remedy = f"make probabilities [B, {classes}] of logits [N, B, {classes}] and a mask [N, B]"
    with failure_of(name, remedy):
        found: Any = jax.eval_shape(rule, jnp.asarray(logits), jnp.asarray(answered))
    floats = isinstance(found, jax.ShapeDtypeStruct) and jnp.issubdtype(found.dtype, jnp.floating)
    if not floats or found.shape != (_EXAMPLES, classes):
        shape = (nodes, _EXAMPLES, classes)
        raise PalaverError(f"{name} gives {shown(found)} for logits {shape}: {remedy}, of floats")
    with failure_of(name, remedy):
        decided = np.asarray(rule(jnp.asarray(logits), jnp.asarray(answered)))
    finite = [bool(np.isfinite(row).all()) for row in decided]
    if not all(finite):
        who = "every node gave an output" if not finite[0] else "some nodes gave no output"
        raise PalaverError(f"{name} gives NaN or infinity for finite logits where {who}: {remedy}")


def check_nodes(group: Collective, data: Dataset) -> None:
    """Checks that the nodes, which may be a caller's own, suit the data and do what ``Node`` says.

    Args:
        group: the collective.
        data: its data set.

    Raises:
        PalaverError: the minibatch is larger than the training set; a model does not take such inputs; the payload has
            no batch axis, its bits are no whole number, or a step does not return what it should.

    """
    size, examples = group.protocol.batch_size, len(data.y_train)
    if size > examples:
        raise PalaverError(f"batch_size is {size} for {examples} training examples: give 1 to {examples}")
    x = jax.eval_shape(to_float, jax.ShapeDtypeStruct((size, *data.shape), data.x_train.dtype))
    for node, _ in group.groups:
        _check_node(node, x, jax.ShapeDtypeStruct((size,), jnp.int32))


def _check_node(node: Node, x: Any, labels: Any) -> None:
    with failure_of("the node's payload", "give a function of inputs and labels to the shapes of what a node sends"):
        payload = node.payload(x, labels)
    check_payload("the node's payload", payload, x.shape[0])
    check_bits("the node's bits", node.bits, payload)
    if getattr(node.step, "__module__", None) == palaver.node.__name__:
        return
    remedy = "return (NodeState, StepInfo) as palaver.types.Node says, the state of the same shapes and types"
    with failure_of("the node's step", remedy):
        key, consume = jax.eval_shape(lambda: (jax.random.key(0), jnp.bool_(True)))
        state = jax.eval_shape(node.init, key)
        received = received_shapes(node, payload)
        after, info = jax.eval_shape(node.step, key, state, Batch(x, labels), received, consume)
        same = [_shapes(tree) for tree in (state, after, payload, info.payload)]
    if same[0] != same[1] or same[2] != same[3] or info.loss.shape:
        raise PalaverError(f"the node's step gives other shapes or types than it was given: {remedy}")


def _shapes(tree: PyTree) -> tuple[Any, list[Any]]:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]
