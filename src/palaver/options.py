"""The options of every run, as flags."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Options:
    """What every run takes."""

    seeds: int | None = None
    """How many seeds, all trained at once (default: the experiment's own number)."""
    first_seed: int = 0
    """The first seed; the others follow it."""
    scale: Literal["tiny", "cpu", "thesis"] = "cpu"
    """tiny: a minute or two (table-3.1: on digits); cpu: an ordinary machine; thesis: the real thing, for a GPU."""
    only: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Run only configurations with this name; * and ? stand for any text and character. May be given several times."""
    data_root: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Where data sets lie or are downloaded to (default: $PALAVER_DATA, else the user's cache folder)."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Result folder (default: runs/EXPERIMENT-TIME)."""
    resume: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Go on with the interrupted run of this result folder, with the settings it was started with."""
    overwrite: bool = False
    """Replace an existing result folder."""
    devices: int | None = None
    """Distribute nodes over at most so many devices (default: all; on a CPU there is one per core)."""
    settings: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """TOML file of settings; flags override it."""
    checkpoint_seconds: float = 30.0
    """Seconds between two checkpoints at least; an interrupt always leaves one."""
