"""How many cases are tried: 2,000 in all, or as many as the environment variable ``PALAVER_FUZZ`` says."""

import os

from hypothesis import HealthCheck, Phase, settings

TOTAL = int(os.environ.get("PALAVER_FUZZ", "2000"))


def tries(share: float):
    """A test's share of all cases: the same ones each time, unless ``PALAVER_FUZZ`` asks for more of them."""
    return settings(
        max_examples=max(1, round(share * TOTAL)),
        derandomize="PALAVER_FUZZ" not in os.environ,
        database=None,
        deadline=None,
        phases=(Phase.generate,) if "PALAVER_FUZZ" in os.environ else (Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
