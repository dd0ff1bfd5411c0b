"""DS-FL and SCARLET: nodes learn from a sharpened mean of their class probabilities on a public set."""

import jax

from palaver.arguments import number
from palaver.baselines.digest import digest
from palaver.baselines.method import Method, log


def dsfl(*, period: int = 50, rounds: int = 10, examples: int = 1000, temperature: float = 0.1) -> Method:
    """A cycle: training on own data, then on ``q = softmax(p̄ / T)`` on public examples, ``p̄`` the mean probabilities.

    Itahara et al. 2020, "Distillation-based semi-supervised federated learning for communication-efficient
    collaborative training with non-IID private data"; q is their entropy reduction aggregation.

    Args:
        period: rounds in a cycle.
        rounds: of them, those that train on the consensus.
        examples: of the reference set in a cycle, at most.
        temperature: T, above 0; below about 0.2 the consensus is harder than ``p̄``.

    Returns:
        The method. A node sends 2 · 32 · C bits for each of these examples and cycle.

    Raises:
        PalaverError: a number that is out of range.

    """
    temperature = number("temperature", temperature, "(0, inf)")
    return digest(
        "ds-fl",
        lambda logits: jax.nn.log_softmax(jax.nn.softmax(logits).mean(1) / temperature),
        period=period,
        rounds=rounds,
        examples=examples,
        first=False,
    )


def scarlet(*, period: int = 50, rounds: int = 10, examples: int = 1000, power: float = 2.0, cache: int = 5) -> Method:
    """As ``dsfl``, with ``q = p̄^β / Σ p̄^β``, which nodes remember and do not send again for D cycles.

    "Soft-label caching and sharpening for communication-efficient federated distillation", arXiv 2504.19602.

    Args:
        period: rounds in a cycle.
        rounds: of them, those that train on the consensus.
        examples: of the reference set in a cycle, at most.
        power: β, above 0; above 1 the consensus is harder than ``p̄``.
        cache: D, cycles; the paper has 50, for cycles that are a fraction of these.

    Returns:
        The method. A node sends 2 · 32 · C bits for each of these examples that is not cached.

    Raises:
        PalaverError: a number that is out of range.

    """
    power = number("power", power, "(0, inf)")
    return digest(
        "scarlet",
        lambda logits: jax.nn.log_softmax(power * log(jax.nn.softmax(logits).mean(1))),
        period=period,
        rounds=rounds,
        examples=examples,
        first=False,
        cache=cache,
    )
