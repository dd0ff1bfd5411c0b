"""The options of every run, as flags."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import UseAppendAction, arg


@dataclass(frozen=True)
class Options:
    """What every run takes."""

    seeds: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: the experiment's own number)")] = None
    """How many seeds, all trained at once."""
    first_seed: int = 0
    """The first seed; the others follow it."""
    scale: Literal["tiny", "cpu", "thesis"] = "cpu"
    """tiny: minutes (tables 3.1 and 4.1: on digits); cpu: an ordinary machine; thesis: the real thing, for a GPU."""
    only: UseAppendAction[tuple[str, ...]] = ()
    """Run only configurations with this name; * and ? stand for any text and character. May be given several times."""
    data_root: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: $PALAVER_DATA, or a cache)")] = (
        None
    )
    """Where data sets lie or are downloaded to."""
    out: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: runs/EXPERIMENT-TIME)")] = None
    """Result folder."""
    resume: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """Go on with the interrupted run of this result folder, with the settings it was started with."""
    overwrite: bool = False
    """Replace an existing result folder."""
    dry_run: bool = False
    """Only show what would be run: configurations, parameters, bits and memory."""
    devices: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: all)")] = None
    """Distribute nodes over at most so many devices, of all hosts together; on a CPU there is one per core."""
    hosts: Annotated[int | Literal["auto"] | None, arg(metavar="INT|auto", help_behavior_hint="(default: 1)")] = None
    """Distribute nodes over so many machines, each of which runs this command; auto: those of a Slurm, Open MPI 4 or
    cloud TPU job. Host 0 alone writes results, and its flags count (docs/scaling.md).
    """
    host_id: Annotated[int | None, arg(metavar="INT", help_behavior_hint="")] = None
    """This machine's number among the hosts, from 0; not with auto."""
    coordinator: Annotated[str | None, arg(metavar="HOST:PORT", help_behavior_hint="")] = None
    """Where host 0 can be reached by all hosts, and a free port there; not with auto."""
    settings: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """TOML file of settings; flags override it."""
    checkpoint_seconds: float = 30.0
    """Seconds between two checkpoints at least; an interrupt always leaves one."""
