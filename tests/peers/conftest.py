"""Lets the tests of peers import the helpers beside them."""

import sys
from pathlib import Path

if (_here := str(Path(__file__).parent)) not in sys.path:
    sys.path.insert(0, _here)
