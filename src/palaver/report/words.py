"""The words of a chapter's report, kept beside its code in ``words.toml``."""

import tomllib
from importlib import resources


def words(package: str) -> dict[str, str]:
    """The texts of ``words.toml`` in a package, by name; each a single line."""
    return tomllib.loads(resources.files(package).joinpath("words.toml").read_text(encoding="utf-8"))
