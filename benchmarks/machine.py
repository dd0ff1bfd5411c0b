"""What a table of timings must say about the machine that it was measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

UNITS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_bf16": "AVX-512 BF16",
    "amx_tile": "AMX",
    "asimd": "NEON",
    "sve": "SVE",
}
"""Vector units that change how fast a matrix product is, by Linux's name for them."""


def describe() -> str:
    """The cores that this process may use, and their vector units.

    Returns:
        Such as ``2 cores, AVX2, AVX-512``; where Linux's list of them cannot be read, the architecture.

    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text().split()) if info.exists() else set()
    units = [name for flag, name in UNITS.items() if flag in flags] or [f"{platform.machine()}, vector units unknown"]
    return f"{cores} core{'s' if cores != 1 else ''}, {', '.join(units)}"
