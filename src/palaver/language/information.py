"""How much a message says about an input: bounds on mutual information that a critic learns (thesis §4.2.2.3).

Sender and critic climb the same objective ("max-max"). A critic is a flax module that scores an input with a message:
``codes(x, s)`` is what it computes once for each of them, ``pairs`` and ``table`` scores of codes. ``joint`` are scores
of messages with their own inputs, ``others`` those with other inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from palaver.models.blocks import Decoder, Trunk
from palaver.types import Array, PalaverError


class Information(NamedTuple):
    """An objective to climb, and the mutual information in nats that it stands for."""

    climb: Callable[[Array, Array, Array], tuple[Array, Array]]
    """``climb(joint [B], others [K, B], memory) -> (values [B], memory)``: each message's share of the objective, a
    function of that message alone; their mean's gradient trains sender and critic.
    """
    nats: Callable[[Array, Array], Array]
    """``nats(joint [B], others [K, B])``: the estimate of I(X; S)."""
    all_pairs: bool
    """Whether each message is scored with all other inputs of the batch (K = B − 1), not with one (K = 1)."""
    of_likelihoods: bool = False
    """Whether scores have to be ``log q(x | s)``, without which it has no upper bound. Others are then scores of the
    same input with other messages, which an input's own probability does not enter.
    """


def jensen_shannon(*, all_pairs: bool = False) -> Information:
    """The discriminator of a GAN (thesis §4.2.2.3): ``E log D(x, s) + E log(1 − D(x′, s))``, ``D = σ(score)``.

    It is at most twice the Jensen–Shannon divergence of joint and product distributions, less log 4. There the score is
    ``log p(x, s) / p(x) p(s)``, so the mutual information is estimated as its mean over the joint.

    Args:
        all_pairs: see ``Information``; the thesis takes one other example.

    """

    def climb(joint: Array, others: Array, memory: Array) -> tuple[Array, Array]:
        return jax.nn.log_sigmoid(joint) + jax.nn.log_sigmoid(-others).mean(0), memory

    return Information(climb, lambda joint, others: joint.mean(), all_pairs)


def _log_mean_exp(x: Array, axis: Any = None) -> Array:
    count = x.size if axis is None else x.shape[axis]
    return jax.nn.logsumexp(x, axis=axis) - math.log(count)


def donsker_varadhan(*, all_pairs: bool = False, decay: float = 0.99) -> Information:
    """MINE (Belghazi et al. 2018): ``E T(x, s) − log E exp T(x′, s)``, a lower bound on the mutual information.

    A batch's logarithm has a biased gradient; the paper's correction divides by a moving average of the mean
    exponential instead, kept in ``memory`` (as a logarithm; +∞ before the first batch).

    Args:
        all_pairs: see ``Information``.
        decay: of the moving average, in [0, 1); 0: the batch's own mean, the biased gradient.

    Raises:
        PalaverError: ``decay`` is outside [0, 1).

    """
    if not 0 <= decay < 1:
        raise PalaverError(f"decay is {decay}: give a number in [0, 1)")

    def climb(joint: Array, others: Array, memory: Array) -> tuple[Array, Array]:
        now = jax.lax.stop_gradient(_log_mean_exp(others))
        kept = memory + (math.log(decay) if decay else -jnp.inf)
        mixed = jnp.where(jnp.isfinite(memory), jnp.logaddexp(kept, now + math.log1p(-decay)), now)
        # Its gradient is E[exp T ∇T] over the average; the value stands for a message's share, not for the bound.
        term = jnp.exp(others - mixed).mean(0)
        return joint - term, mixed

    return Information(climb, lambda joint, others: joint.mean() - _log_mean_exp(others), all_pairs)


def info_nce() -> Information:
    """InfoNCE (van den Oord et al. 2018): which of the batch's inputs is a message about? Always all pairs.

    ``E [T(x, s) − log 1/B Σ_x′ T-exponentials]``, a lower bound on the mutual information and at most ``log B``.
    """

    def values(joint: Array, others: Array) -> Array:
        return joint - _log_mean_exp(jnp.concatenate([joint[None], others]), axis=0)

    return Information(
        lambda joint, others, memory: (values(joint, others), memory),
        lambda joint, others: values(joint, others).mean(),
        all_pairs=True,
    )


def barber_agakov() -> Information:
    """The variational bound of Barber and Agakov (2003): ``I(X; S) ≥ H(X) + E log q(x | s)``, less the constant H(X).

    The critic is a decoder that reconstructs the input from the message, and no other has to be told apart. Since H(X)
    is not known, nats are ``E [log q(x | s) − log 1/B Σ_s′ q(x | s′)]``, at most ``log B``: a lower bound that is far
    below the truth, and below 0, where a decoder takes the numbers of an input for independent and they are not.
    """
    nats = info_nce().nats
    return Information(lambda joint, others, memory: (joint, memory), nats, all_pairs=True, of_likelihoods=True)


Kind: TypeAlias = Literal["joint", "separable", "likelihood"]
"""What a critic's score is:

``joint``       a network of input and message together, of one hidden layer.
``separable``   the inner product of a code of each, of as many units as are hidden, which makes all pairs as cheap as
                one.
``likelihood``  ``log q(x | s)``, of a decoder that reads the message: each number of the input, which has to be in
                [0, 1], is a Bernoulli variable of its own. All pairs are as cheap as one here too.

A critic of one's own has the methods ``codes``, ``pairs`` and ``table``, and says by ``kind`` if it gives likelihoods.
"""


class Critic(nnx.Module):
    """Scores of inputs with messages.

    Args:
        shape: of one input; it is flattened.
        message: of one message; it is flattened.
        hidden: units of a hidden layer, ReLU.
        kind: of score.

    Raises:
        PalaverError: ``hidden`` is below 1, or an unknown kind.

    """

    def __init__(
        self,
        shape: Sequence[int],
        message: Sequence[int],
        *,
        hidden: int = 256,
        kind: Kind = "joint",
        rngs: nnx.Rngs,
    ):
        if hidden < 1:
            raise PalaverError(f"critic's hidden is {hidden}: give at least 1 unit")
        if kind not in get_args(Kind):
            raise PalaverError(f"critic's kind is {kind!r}: choose one of {', '.join(get_args(Kind))}")
        self.kind, self.hidden = kind, hidden
        init = nnx.initializers.he_normal()
        if kind == "likelihood":
            self.message = Decoder(shape, math.prod(message), [hidden], convolutional=False, rngs=rngs)
        elif kind == "separable":
            self.input = Trunk(shape, [hidden], convolutional=False, rngs=rngs)
            self.message = Trunk(message, [hidden], convolutional=False, rngs=rngs)
            self.input_code = nnx.Linear(hidden, hidden, rngs=rngs)
            self.message_code = nnx.Linear(hidden, hidden, rngs=rngs)
        else:
            # One layer over both, as two: the input's share is the same for every message.
            self.input = nnx.Linear(math.prod(shape), hidden, kernel_init=init, rngs=rngs)
            self.message = nnx.Linear(math.prod(message), hidden, kernel_init=init, use_bias=False, rngs=rngs)
            self.head = nnx.Linear(hidden, 1, rngs=rngs)

    def codes(self, x: Array, s: Array) -> tuple[Array, Array]:
        """``[A, H]`` and ``[B, H]``: what is computed once for each input and each message."""
        x, s = x.reshape(x.shape[0], -1), s.reshape(s.shape[0], -1)
        if self.kind == "likelihood":
            return x, self.message(s).reshape(s.shape[0], -1)
        x, s = self.input(x), self.message(s)
        if self.kind == "joint":
            return x, s
        return self.input_code(x) / math.sqrt(self.hidden), self.message_code(s)

    def pairs(self, x: Array, s: Array) -> Array:
        """Scores of codes side by side: ``[..., H]`` and ``[..., H]`` to ``[...]``."""
        match self.kind:
            case "likelihood":
                return (x * s).sum(-1) - nnx.softplus(s).sum(-1)
            case "separable":
                return (x * s).sum(-1)
            case _:
                return self.head(nnx.relu(x + s))[..., 0]

    def table(self, x: Array, s: Array) -> Array:
        """Scores of every input's code ``[A, H]`` with every message's ``[B, H]``: ``[A, B]``."""
        match self.kind:
            case "likelihood":
                return x @ s.T - nnx.softplus(s).sum(-1)
            case "separable":
                return x @ s.T
            case _:
                return self.pairs(x[:, None], s[None])


def scores(critic: Any, x: Array, s: Array, *, all_pairs: bool, of_likelihoods: bool = False) -> tuple[Array, Array]:
    """``joint [B]`` and ``others [K, B]`` of inputs and their messages, side by side in a batch; see ``Information``.

    Others are of a message with other inputs, or of an input with other messages if scores are likelihoods. The only
    other, without ``all_pairs``, is the neighbour's in the batch.
    """
    x, s = critic.codes(x, s)
    if not all_pairs:
        turned = (x, jnp.roll(s, 1, axis=0)) if of_likelihoods else (jnp.roll(x, 1, axis=0), s)
        return critic.pairs(x, s), critic.pairs(*turned)[None]
    table = critic.table(x, s)
    if of_likelihoods:
        table = table.T
    count = table.shape[0]
    # Column b without its b-th row: the flat table falls into pieces that each begin with a diagonal element.
    others = table.T.reshape(-1)[:-1].reshape(count - 1, count + 1)[:, 1:].reshape(count, count - 1).T
    return jnp.diagonal(table), others


def estimate(
    information: Information,
    x: Array,
    s: Array,
    held_out: tuple[Array, Array],
    *,
    key: Array,
    hidden: int = 128,
    kind: Kind = "joint",
    batch_size: int = 256,
    judged: int | None = None,
    steps: int = 3000,
    learning_rate: float = 1e-3,
) -> Array:
    """Trains a critic on pairs that are given and estimates their mutual information on others, in nats.

    Args:
        information: the objective.
        x: ``[M, ...]`` inputs; for likelihoods numbers in [0, 1].
        s: ``[M, ...]`` what goes with each.
        held_out: as many of both as the estimate is made on.
        key: of the critic and of the batches.
        hidden: units of the critic.
        kind: of critic, see ``Critic``.
        batch_size: pairs in a batch of training.
        judged: held-out pairs in a batch, whose logarithm is the most that InfoNCE tells; None: ``batch_size``.
        steps: of Adam.
        learning_rate: of Adam.

    Returns:
        Scalar: nats, mean over batches of ``judged`` held-out pairs, as many as there are whole ones.

    Raises:
        PalaverError: inputs and messages that are not pairs, fewer held-out ones than a batch, fewer than 2 to a
            batch, or an objective of likelihoods with another kind of critic.

    """
    if len(x) != len(s) or len(held_out[0]) != len(held_out[1]):
        raise PalaverError(
            f"{len(x)} inputs with {len(s)} messages, held out {len(held_out[0])} with {len(held_out[1])}: "
            "give as many of both"
        )
    if information.of_likelihoods and kind != "likelihood":
        raise PalaverError(f"kind is {kind} for an objective of likelihoods: give likelihood")
    judged = batch_size if judged is None else judged
    if min(batch_size, judged) < 2 or len(held_out[0]) < judged:
        raise PalaverError(
            f"{len(held_out[0])} held-out pairs in batches of {judged}, training in batches of {batch_size}: "
            "give at least 2 to a batch, and no larger batch than there are held-out pairs"
        )
    made, drawn, left = jax.random.split(key, 3)
    critic = Critic(x.shape[1:], s.shape[1:], hidden=hidden, kind=kind, rngs=nnx.Rngs(made))
    structure, params = nnx.split(critic)
    optimizer, how = optax.adam(learning_rate), {"of_likelihoods": information.of_likelihoods}

    def loss(params: Any, memory: Array, rows: Array) -> tuple[Array, Array]:
        joint, others = scores(nnx.merge(structure, params), x[rows], s[rows], all_pairs=information.all_pairs, **how)
        values, memory = information.climb(joint, others, memory)
        return -values.mean(), memory

    def step(carry: Any, key: Array) -> tuple[Any, None]:
        params, state, memory = carry
        rows = jax.random.randint(key, (batch_size,), 0, x.shape[0])
        slope, memory = jax.grad(loss, has_aux=True)(params, memory, rows)
        updates, state = optimizer.update(slope, state, params)
        return (optax.apply_updates(params, updates), state, memory), None

    begun = (params, optimizer.init(params), jnp.float32(jnp.inf))
    (params, _, _), _ = jax.lax.scan(step, begun, jax.random.split(drawn, steps))
    whole = held_out[0].shape[0] // judged * judged
    order = jax.random.permutation(left, held_out[0].shape[0])[:whole].reshape(-1, judged)

    def told(rows: Array) -> Array:
        pair = held_out[0][rows], held_out[1][rows]
        return information.nats(*scores(nnx.merge(structure, params), *pair, all_pairs=True, **how))

    return jax.lax.map(told, order).mean()
