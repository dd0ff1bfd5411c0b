"""Learners of every framework, small, and what they are trained on."""

import jax
import numpy as np
import optax
import torch
from sklearn.linear_model import SGDClassifier

from palaver import channels
from palaver.models import MLP
from palaver.node import supervised
from palaver.peers.learners.flax import FlaxLearner
from palaver.peers.learners.sklearn import SklearnLearner
from palaver.peers.learners.torch import TorchLearner
from palaver.types import NO_LABEL

CLASSES, INPUTS, BATCH, RATE = 3, 4, 6, 0.5
LOGITS = channels.logits()


class WithFeatures(torch.nn.Module):
    """An MLP with dropout and batch norm that also gives its hidden layer."""

    def __init__(self, width: int = 8):
        super().__init__()
        self.trunk = torch.nn.Sequential(torch.nn.Linear(INPUTS, width), torch.nn.BatchNorm1d(width), torch.nn.ReLU())
        self.drop, self.head = torch.nn.Dropout(0.5), torch.nn.Linear(width, CLASSES)

    def forward(self, x):
        features = self.drop(self.trunk(x.flatten(1)))
        return self.head(features), features


def in_flax(channel=LOGITS, *, hidden=(), optimizer=None, dropout=0.0):
    node = supervised(
        lambda rngs: MLP((INPUTS,), CLASSES, hidden=hidden, dropout=dropout, rngs=rngs),
        channel,
        optimizer=optimizer or optax.sgd(RATE),
    )
    return FlaxLearner(node, node.init(jax.random.key(0)))


def in_torch(channel=LOGITS, *, module=None, optimizer=None):
    torch.manual_seed(0)
    module = module() if module else torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(INPUTS, CLASSES))
    optimizer = optimizer or (lambda parameters: torch.optim.SGD(parameters, lr=RATE))
    return TorchLearner(module, optimizer(module.parameters()), channel, classes=CLASSES)


def linear(**given):
    return SGDClassifier(loss="log_loss", penalty=None, learning_rate="constant", eta0=RATE, **given)


def in_sklearn(channel=LOGITS, *, estimator=linear):
    return SklearnLearner(estimator(), channel, classes=CLASSES)


def batch(seed, rows=BATCH):
    """Inputs, labels, and distributions over the classes."""
    draws = np.random.default_rng(seed)
    target = draws.dirichlet(np.ones(CLASSES), rows).astype(np.float32)
    return draws.random((rows, INPUTS)).astype(np.float32), draws.integers(CLASSES, size=rows).astype(np.int32), target


def seed_of(step):
    return np.array([step, 7], np.uint32)


def train(learner, steps, *, start=0):
    """Own batches and received ones in turn, and some labels unknown."""
    for step in range(start, start + steps):
        x, labels, target = batch(step)
        if step % 2:
            learner.learn(x, np.full(BATCH, NO_LABEL, np.int32), target, seed=seed_of(step))
        else:
            labels[0] = NO_LABEL
            learner.learn(x, labels, None, seed=seed_of(step))


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], name)


def gradients(x, error):
    """Of the mean cross-entropy of a linear model, where its probabilities are off by ``error [B, C]``."""
    return x.T @ error / len(x), error.mean(0)


def weights_of(learner):
    """``[D, C]`` and ``[C]``."""
    if isinstance(learner, FlaxLearner):
        head = learner.state.params["head"]
        return np.asarray(head["kernel"]), np.asarray(head["bias"])
    if isinstance(learner, TorchLearner):
        return tuple(part.detach().numpy().T.copy() for part in learner.module[1].parameters())
    return learner.estimator.coef_.T.copy(), learner.estimator.intercept_.copy()
