"""Puts the helpers beside it within reach (``browser``, ``synthetic``) and gives every test a result folder."""

import sys
from pathlib import Path

import pytest

if (_here := str(Path(__file__).parent)) not in sys.path:
    sys.path.insert(0, _here)


@pytest.fixture
def result_folder(tmp_path: Path) -> Path:
    """A small synthetic result; its numbers are in ``synthetic.CONFIGURATIONS``."""
    from synthetic import make_result

    return make_result(tmp_path / "run")
