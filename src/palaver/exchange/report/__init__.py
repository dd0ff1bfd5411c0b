"""What a run of collectives found: tables, figures and words, from its result files alone.

``report`` is imported when first used: training needs the table of metrics beside it, but no figures.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"sections": ["report"]})
