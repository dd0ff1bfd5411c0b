"""The one error that palaver raises for what a caller gave."""


class PalaverError(ValueError):
    """A mistake in what the caller gave: its one line says what, where, what is allowed and what to do.

    The command line prints it and exits with code 2.
    """
