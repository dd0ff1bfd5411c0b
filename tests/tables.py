"""The configurations of an experiment as the command line makes them."""

from palaver import experiments


def configurations(name, scale, **overrides):
    return [row.under(overrides) for row in experiments.rows(name, scale, overrides)]
