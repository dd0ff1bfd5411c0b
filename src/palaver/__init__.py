"""palaver: many models that learn by talking to each other."""

__version__ = "0.1.0"
