"""Your own module, data, channel, topology and decision rule: the README's ten lines."""

import jax.numpy as jnp
from flax import nnx
from sklearn.datasets import load_digits

import palaver as pv

digits = load_digits()
data = pv.data.from_arrays(digits.images / 16, digits.target)


class Net(nnx.Module):
    """Any flax module that maps inputs to logits or ``pv.Outputs``."""

    def __init__(self, rngs):
        self.hidden, self.head = nnx.Linear(64, 48, rngs=rngs), nnx.Linear(48, 10, rngs=rngs)

    def __call__(self, x):
        features = nnx.relu(self.hidden(x.reshape(x.shape[0], -1)))
        return pv.Outputs(logits=self.head(features), features=features)


def boldest(logits, answered):
    """A decision rule: for each example, the node with the largest logit decides."""
    score = jnp.where(answered, logits.max(-1), -jnp.inf)
    return nnx.softmax(jnp.take_along_axis(logits, score.argmax(0)[None, :, None], axis=0)[0])


node = pv.supervised(Net, pv.channels.logits(temperature=0.5))
group = pv.collective(node, pv.topology.ring(10, neighbours=4), p_consume=0.5)
history = pv.train(group, data, rounds=300, seeds=5, rules=pv.decision.RULES | {"boldest": boldest})
print(f"average node   {100 * history.nodes[-1].mean():.1f} %")
for rule, accuracy in history.rules.items():
    print(f"{rule:20s} {100 * accuracy[-1].mean():.1f} %")
