"""Sites on separate machines: the node of the simulation as a process of its own, which trades packets with others.

The public names are listed in ``__init__.pyi``; each is imported when first used, since the command line reads its
flags from here.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
