"""Bounds on the mutual information of inputs and messages that a critic learns (thesis §4.2.2.3).

Sender and critic maximise the same objective, an ``Information`` that a factory returns. A critic gives a score to an
input with a message: ``positives`` are scores of messages with their own inputs, ``negatives`` those with other inputs.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

from palaver.arguments import choice, count, number
from palaver.language.fit import fit
from palaver.models.blocks import Decoder, Sizes, Trunk
from palaver.types import Array, PalaverError, PyTree


class Information(NamedTuple):
    """An objective to maximise, and the estimate of mutual information that goes with it."""

    objective: Callable[[Array, Array, Array], tuple[Array, Array]]
    """``objective(positives [B], negatives [K, B], memory) -> (values [B], memory)``: each message's share of the
    objective, a function of that message alone; the gradient of their mean trains sender and critic.
    """
    nats: Callable[[Array, Array], Array]
    """``nats(positives [B], negatives [K, B])``: the estimate of I(X; S) in nats, a scalar."""
    all_pairs: bool
    """Whether each message is scored with all other inputs of the batch (K = B − 1), not with one (K = 1)."""
    of_likelihoods: bool = False
    """Whether scores have to be ``log q(x | s)``, without which the objective has no upper bound. Negatives are then
    scores of the same input with other messages, so that the input's own probability cancels.
    """


def jensen_shannon(*, all_pairs: bool = False) -> Information:
    """The discriminator of a GAN (thesis §4.2.2.3): ``E log D(x, s) + E log(1 − D(x′, s))``, ``D = σ(score)``.

    It is at most twice the Jensen–Shannon divergence of joint and product distributions, less log 4. At that
    maximum the score is ``log p(x, s) / p(x) p(s)``, so the mutual information is estimated as its mean over the joint.

    Args:
        all_pairs: see ``Information``; the thesis takes one other input.

    """

    def objective(positives: Array, negatives: Array, memory: Array) -> tuple[Array, Array]:
        return jax.nn.log_sigmoid(positives) + jax.nn.log_sigmoid(-negatives).mean(0), memory

    return Information(objective, lambda positives, negatives: positives.mean(), all_pairs)


def _log_mean_exp(x: Array, axis: int | None = None) -> Array:
    size = x.size if axis is None else x.shape[axis]
    return jax.nn.logsumexp(x, axis=axis) - math.log(size)


def donsker_varadhan(*, all_pairs: bool = False, decay: float = 0.99) -> Information:
    """MINE (Belghazi et al. 2018): ``E T(x, s) − log E exp T(x′, s)``, a lower bound on the mutual information.

    The gradient of a batch's logarithm is biased; the paper's correction divides by a moving average of the mean
    exponential instead, kept in ``memory`` (as a logarithm; +∞ before the first batch).

    Args:
        all_pairs: see ``Information``.
        decay: of the moving average, in [0, 1); 0: the batch's own mean, the biased gradient.

    Raises:
        PalaverError: ``decay`` is outside [0, 1).

    """
    decay = number("decay", decay, "[0, 1)")

    def objective(positives: Array, negatives: Array, memory: Array) -> tuple[Array, Array]:
        now = jax.lax.stop_gradient(_log_mean_exp(negatives))
        kept = memory + (math.log(decay) if decay else -jnp.inf)
        mixed = jnp.where(jnp.isfinite(memory), jnp.logaddexp(kept, now + math.log1p(-decay)), now)
        # Its gradient is E[exp T ∇T] over the average; the value is a message's share, not the bound.
        return positives - jnp.exp(negatives - mixed).mean(0), mixed

    return Information(objective, lambda positives, negatives: positives.mean() - _log_mean_exp(negatives), all_pairs)


def info_nce() -> Information:
    """InfoNCE (van den Oord et al. 2018): which of the batch's inputs is a message about? Always all pairs.

    ``E [T(x, s) − log 1/B Σ_x′ exp T(x′, s)]``, a lower bound on the mutual information and at most ``log B``.

    >>> round(float(info_nce().nats(jnp.full(4, 100.0), jnp.zeros((3, 4)))), 3)  # log 4
    1.386
    """

    def values(positives: Array, negatives: Array) -> Array:
        return positives - _log_mean_exp(jnp.concatenate([positives[None], negatives]), axis=0)

    return Information(
        lambda positives, negatives, memory: (values(positives, negatives), memory),
        lambda positives, negatives: values(positives, negatives).mean(),
        all_pairs=True,
    )


def barber_agakov() -> Information:
    """The variational bound of Barber and Agakov (2003): ``I(X; S) ≥ H(X) + E log q(x | s)``, less the constant H(X).

    The critic is a decoder that reconstructs the input from the message; the objective needs no negatives. Since H(X)
    is not known, nats are ``E [log q(x | s) − log 1/B Σ_s′ q(x | s′)]``, at most ``log B``: a lower bound that is far
    below the truth, and below 0, if the decoder's model has the numbers of an input independent and they are not.
    """
    nats = info_nce().nats
    return Information(lambda positives, _, memory: (positives, memory), nats, all_pairs=True, of_likelihoods=True)


OBJECTIVES: dict[str, Callable[[Any], Information]] = {
    "jensen-shannon": lambda settings: jensen_shannon(all_pairs=settings.all_pairs),
    "donsker-varadhan": lambda settings: donsker_varadhan(all_pairs=settings.all_pairs),
    "info-nce": lambda _: info_nce(),
    "barber-agakov": lambda _: barber_agakov(),
}
"""Every objective by name, from settings with ``all_pairs``; an entry added here is accepted wherever names are."""


class CriticLike(Protocol):
    """What ``scores`` needs of a critic: a flax module of one's own can be one."""

    of_likelihoods: bool
    """Whether scores are ``log q(x | s)``, which some objectives need (``Information.of_likelihoods``)."""

    def codes(self, x: Array, s: Array, /) -> tuple[Array, Array]:
        """``[A, H]`` and ``[B, H]``: what is computed once for each input and each message."""
        ...

    def pairs(self, x: Array, s: Array, /) -> Array:
        """Scores of codes side by side: ``[..., H]`` and ``[..., H]`` to ``[...]``."""
        ...

    def table(self, x: Array, s: Array, /) -> Array:
        """Scores of every input's code ``[A, H]`` with every message's ``[B, H]``: ``[A, B]``."""
        ...


MakeCritic: TypeAlias = Callable[[nnx.Rngs], CriticLike]
"""``make(rngs)``: a critic with its initial parameters."""


def _flat(x: Array) -> Array:
    return x.reshape(x.shape[0], -1)


class _Joint(nnx.Module):
    """A network of one hidden layer on input and message together; see ``CRITICS``."""

    of_likelihoods = False

    def __init__(self, shape: Sizes, message: Sizes, hidden: int, rngs: nnx.Rngs):
        init = nnx.initializers.he_normal()
        # One layer over both, as two: the input's share is the same for every message.
        self.input = nnx.Linear(math.prod(shape), hidden, kernel_init=init, rngs=rngs)
        self.message = nnx.Linear(math.prod(message), hidden, kernel_init=init, use_bias=False, rngs=rngs)
        self.head = nnx.Linear(hidden, 1, rngs=rngs)

    def codes(self, x: Array, s: Array) -> tuple[Array, Array]:
        return self.input(_flat(x)), self.message(_flat(s))

    def pairs(self, x: Array, s: Array) -> Array:
        return self.head(nnx.relu(x + s))[..., 0]

    def table(self, x: Array, s: Array) -> Array:
        return self.pairs(x[:, None], s[None])


class _Separable(nnx.Module):
    """The inner product of a code of the input and one of the message; see ``CRITICS``."""

    of_likelihoods = False

    def __init__(self, shape: Sizes, message: Sizes, hidden: int, rngs: nnx.Rngs):
        self.hidden = hidden
        self.input = Trunk(shape, [hidden], convolutional=False, rngs=rngs)
        self.message = Trunk(message, [hidden], convolutional=False, rngs=rngs)
        self.input_code = nnx.Linear(hidden, hidden, rngs=rngs)
        self.message_code = nnx.Linear(hidden, hidden, rngs=rngs)

    def codes(self, x: Array, s: Array) -> tuple[Array, Array]:
        return self.input_code(self.input(x)) / math.sqrt(self.hidden), self.message_code(self.message(s))

    def pairs(self, x: Array, s: Array) -> Array:
        return (x * s).sum(-1)

    def table(self, x: Array, s: Array) -> Array:
        return x @ s.T


class _Likelihood(nnx.Module):
    """The log-likelihood of the input by a decoder of the message; see ``CRITICS``."""

    of_likelihoods = True

    def __init__(self, shape: Sizes, message: Sizes, hidden: int, rngs: nnx.Rngs):
        self.message = Decoder(shape, math.prod(message), [hidden], convolutional=False, rngs=rngs)

    def codes(self, x: Array, s: Array) -> tuple[Array, Array]:
        return _flat(x), _flat(self.message(_flat(s)))

    def pairs(self, x: Array, s: Array) -> Array:
        return (x * s).sum(-1) - nnx.softplus(s).sum(-1)

    def table(self, x: Array, s: Array) -> Array:
        return x @ s.T - nnx.softplus(s).sum(-1)


CRITICS: dict[str, Callable[..., CriticLike]] = {"joint": _Joint, "separable": _Separable, "likelihood": _Likelihood}
"""Every critic by the name that settings give it, from ``(shape, message, hidden, rngs)``.

``joint``       the score is the output of a network of one hidden layer on input and message together.
``separable``   the inner product of a code of each, as wide as the hidden layer; all pairs cost as little as one.
``likelihood``  ``log q(x | s)`` of a decoder whose input is the message: each number of x, which has to be in [0, 1],
                is an independent Bernoulli variable. All pairs cost as little as one here too.
An entry that is added here is accepted wherever names are.
"""


def Critic(shape: Sizes, message: Sizes, *, hidden: int = 256, kind: str = "joint", rngs: nnx.Rngs) -> CriticLike:
    """Makes the module that gives scores to inputs with messages.

    Args:
        shape: of one input; it is flattened.
        message: of one message; it is flattened.
        hidden: units of a hidden layer, ReLU.
        kind: of score, a name in ``CRITICS``.
        rngs: of the parameters' initial values.

    Returns:
        The critic, of the named kind.

    Raises:
        PalaverError: ``hidden`` is below 1, or an unknown kind.

    """
    hidden = count("critic's hidden", hidden, unit="unit")
    return CRITICS[choice("critic's kind", kind, CRITICS)](shape, message, hidden, rngs)


def scores(
    critic: CriticLike, x: Array, s: Array, *, all_pairs: bool, of_likelihoods: bool = False
) -> tuple[Array, Array]:
    """Scores of a batch of inputs with its messages; ``all_pairs`` and ``of_likelihoods`` as in ``Information``.

    Args:
        critic: gives the scores.
        x: ``[B, ...]`` inputs.
        s: ``[B, ...]`` the message about each.
        all_pairs: whether K is B − 1; otherwise it is 1, the negative is of the example before in the batch.
        of_likelihoods: whether negatives are of an input with other messages, not of a message with other inputs.

    Returns:
        ``positives [B]`` and ``negatives [K, B]``.

    """
    x, s = critic.codes(x, s)
    if not all_pairs:
        shifted = (x, jnp.roll(s, 1, axis=0)) if of_likelihoods else (jnp.roll(x, 1, axis=0), s)
        return critic.pairs(x, s), critic.pairs(*shifted)[None]
    table = critic.table(x, s)
    if of_likelihoods:
        table = table.T
    size = table.shape[0]
    # Column b without its b-th row: the flat table falls into pieces that each begin with a diagonal element.
    negatives = table.T.reshape(-1)[:-1].reshape(size - 1, size + 1)[:, 1:].reshape(size, size - 1).T
    return jnp.diagonal(table), negatives


def estimate(
    information: Information,
    x: Array,
    s: Array,
    held_out: tuple[Array, Array],
    *,
    key: Array,
    hidden: int = 128,
    kind: str = "joint",
    batch_size: int = 256,
    judged: int = 256,
    steps: int = 3000,
    learning_rate: float = 1e-3,
) -> Array:
    """Mutual information in nats by a ``Critic`` that is trained on given pairs, estimated on held-out ones.

    Args:
        information: the objective.
        x: ``[M, ...]`` inputs; for likelihoods numbers in [0, 1].
        s: ``[M, ...]`` the message or other variable of each.
        held_out: other inputs and messages, ``[T, ...]`` each.
        key: of the critic and of the batches.
        hidden: units of the critic.
        kind: of critic, a name in ``CRITICS``.
        batch_size: pairs in a batch of training.
        judged: held-out pairs in a batch, whose logarithm is InfoNCE's upper bound.
        steps: of Adam.
        learning_rate: of Adam.

    Returns:
        Scalar: nats, mean over all whole batches of held-out pairs.

    Raises:
        PalaverError: numbers of inputs and messages that differ, batches of fewer than 2 or of more than T pairs, or an
            objective of likelihoods with another kind of critic.

    """
    _check(x, s, held_out, batch_size, judged)
    made, drawn, shuffle = jax.random.split(key, 3)
    critic = Critic(x.shape[1:], s.shape[1:], hidden=hidden, kind=kind, rngs=nnx.Rngs(made))
    if information.of_likelihoods and not critic.of_likelihoods:
        raise PalaverError(f"critic's kind is {kind}: this objective needs kind likelihood")
    structure, params = nnx.split(critic)

    def scored(params: PyTree, pairs: tuple[Array, Array], rows: Array, all_pairs: bool) -> tuple[Array, Array]:
        critic, (x, s) = nnx.merge(structure, params), pairs
        return scores(critic, x[rows], s[rows], all_pairs=all_pairs, of_likelihoods=information.of_likelihoods)

    def loss(params: PyTree, memory: Array, rows: Array) -> tuple[Array, Array]:
        values, memory = information.objective(*scored(params, (x, s), rows, information.all_pairs), memory)
        return -values.mean(), memory

    memory = jnp.float32(jnp.inf)
    params = fit(
        drawn, params, loss, memory, size=len(x), batch_size=batch_size, steps=steps, learning_rate=learning_rate
    )
    batches = len(held_out[0]) // judged
    rows = jax.random.permutation(shuffle, len(held_out[0]))[: batches * judged].reshape(batches, judged)
    return jax.lax.map(lambda rows: information.nats(*scored(params, held_out, rows, True)), rows).mean()


def _check(x: Array, s: Array, held_out: tuple[Array, Array], batch_size: int, judged: int) -> None:
    if len(x) != len(s) or len(held_out[0]) != len(held_out[1]):
        raise PalaverError(
            f"{len(x)} inputs with {len(s)} messages, held out {len(held_out[0])} with {len(held_out[1])}: "
            "give as many of both"
        )
    if min(batch_size, judged) < 2 or len(held_out[0]) < judged:
        raise PalaverError(
            f"{len(held_out[0])} held-out pairs in batches of {judged}, training in batches of {batch_size}: "
            "give at least 2 to a batch, and no larger batch than there are held-out pairs"
        )
