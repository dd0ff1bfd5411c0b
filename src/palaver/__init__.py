"""palaver: many models that learn by exchanging labels, logits, features or a language, never gradients or weights.

The public names are listed in ``__init__.pyi``; each is imported when first used, since JAX takes a second to import.
"""

import lazy_loader

from palaver.version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
