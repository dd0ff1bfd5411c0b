"""The errors that palaver raises in one line: a mistake of the caller, and a fault of the machine."""


class PalaverError(ValueError):
    """A mistake in what the caller gave: its one line says what, where, what is allowed and what to do.

    The command line prints it and exits with code 2.
    """


class MachineError(RuntimeError):
    """A fault of the machine, such as a full disk: its one line says what failed, where, and what to do.

    The command line prints it and exits with code 1.
    """
