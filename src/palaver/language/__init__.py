"""A discrete language between agents (thesis ch. 4).

The public names are listed in ``__init__.pyi``; each is imported when first used, so that the report loads no engine.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
