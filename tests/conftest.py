"""Lets tests import the helpers that lie beside them, and programs that several processes run be compiled once."""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # before JAX is imported, here and in the processes tests start
    folder = tempfile.mkdtemp(prefix="palaver-compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    atexit.register(shutil.rmtree, folder, ignore_errors=True)

if worker := os.environ.get("PYTEST_XDIST_WORKER"):  # JAX does not write its files in one go: to each worker its own
    os.environ["JAX_COMPILATION_CACHE_DIR"] += f"/{worker}"
