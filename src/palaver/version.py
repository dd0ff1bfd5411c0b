"""The version, by itself so that whatever records it need not import the package."""

__version__ = "0.1.0"
