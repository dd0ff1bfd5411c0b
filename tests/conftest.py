"""Lets tests import the helpers beside them, and compiles a program once that several tests or processes run."""

import atexit
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and so would the tests

if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # before JAX is imported, here and in the processes tests start
    folder = tempfile.mkdtemp(prefix="palaver-compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    atexit.register(shutil.rmtree, folder, ignore_errors=True)

# JAX does not write its files in one go, so that each process of pytest gets its own folder.
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    os.environ["JAX_COMPILATION_CACHE_DIR"] += f"/{worker}"
