"""The command line: ``palaver list | run | report | compare``."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import time
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import jax
import pooch
import tyro
from rich.console import Console

import palaver
from palaver.data import Dataset, load
from palaver.engines import keep_compiled, use_cores
from palaver.experiments import EXPERIMENTS, collective, language, runner
from palaver.experiments.folder import open_folder
from palaver.experiments.kinds import KINDS, kind_of
from palaver.experiments.language_settings import LanguageSettings
from palaver.experiments.settings import CollectiveSettings
from palaver.experiments.study import Row
from palaver.live import live, show
from palaver.report import compare_table, read_result, write_report
from palaver.types import PalaverError

T = TypeVar("T")

USAGE = """usage: palaver COMMAND ...

  palaver list                    the experiments
  palaver run quickstart          the main job on scikit-learn's digits, about a minute
  palaver run table-2.1           thesis Tables 2.1 and 2.2 (--scale tiny|cpu|thesis)
  palaver run table-2.3           nodes that learn without labels
  palaver run table-3.1           a teacher that picks the examples
  palaver run table-4.1           a discrete language between agents
  palaver run collective ...      one collective with your own settings
  palaver run language ...        one language with your own settings
  palaver report DIR ...          rebuild the page of result folders from their files
  palaver compare DIR DIR ...     results side by side

Every command takes --help."""


@dataclass(frozen=True)
class Options:
    """What every run takes."""

    seeds: int | None = None
    """How many seeds, all trained at once (default: the experiment's own)."""
    first_seed: int = 0
    """The first seed; the others follow it."""
    scale: Literal["tiny", "cpu", "thesis"] = "cpu"
    """tiny: a minute or two (table-3.1: on digits); cpu: an ordinary machine; thesis: the real thing, for a GPU."""
    data_root: Path | None = None
    """Where data sets lie or are downloaded to (default: $PALAVER_DATA, else the user's cache folder)."""
    out: Path | None = None
    """Result folder (default: runs/EXPERIMENT-TIME)."""
    resume: Path | None = None
    """Go on with the interrupted run of this result folder, with the settings it was started with."""
    overwrite: bool = False
    """Replace an existing result folder."""
    devices: int | None = None
    """Spread the nodes over at most so many devices (default: all; on a CPU one per core)."""
    settings: Path | None = None
    """TOML file of settings (palaver run collective, language); flags override it."""
    checkpoint_seconds: float = 30.0
    """Seconds between two checkpoints at least; an interrupt always leaves one."""


@dataclass(frozen=True)
class Named:
    """An experiment of the list, with its own settings."""

    options: tyro.conf.OmitArgPrefixes[Options] = field(default_factory=Options)
    data: str | None = None
    """Data set in place of the experiment's own: digits, mnist, fashion-mnist, cifar10, idx:DIR or npz:FILE."""


@dataclass(frozen=True)
class OwnCollective:
    """One collective with your own settings."""

    options: tyro.conf.OmitArgPrefixes[Options]
    settings: tyro.conf.OmitArgPrefixes[CollectiveSettings]


@dataclass(frozen=True)
class OwnLanguage:
    """One language with your own settings."""

    options: tyro.conf.OmitArgPrefixes[Options]
    settings: tyro.conf.OmitArgPrefixes[LanguageSettings]


OWN: dict[str, tuple[Any, Any]] = {"collective": (OwnCollective, collective), "language": (OwnLanguage, language)}
"""What takes its settings from the command line: the flags, and the module of its scales and its row."""


@dataclass(frozen=True)
class Folders:
    """Result folders."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional] = field(default=())
    """Result folders made by palaver run."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0, 2 for bad input, 130 when interrupted."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        match args:
            case [] | ["-h" | "--help", *_]:
                print(USAGE)
            case ["--version"]:
                print(palaver.__version__)
            case ["list"] | ["run"] | ["list" | "run", "-h" | "--help", *_]:
                _list()
            case ["run", name, *rest] if not name.startswith("-"):
                return _run(name, rest)
            case ["report", *rest]:
                _report(_parse(Folders, rest, "palaver report"))
            case ["compare", *rest]:
                _compare(_parse(Folders, rest, "palaver compare"))
            case _:
                raise PalaverError(f"{' '.join(args[:1])!r} is not a command: see palaver --help")
    except PalaverError as error:
        print(f"palaver: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("palaver: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _parse(kind: type[T], args: list[str], prog: str, default: T | None = None) -> T:
    """Flags to a dataclass; tyro's boxed complaint becomes one line."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(kind, args=args, prog=prog, default=default)  # type: ignore[arg-type]
    except SystemExit as stop:
        if not stop.code:
            raise
    # Its title stands in the box's border, or where the terminal is plain, above the first rule.
    lines = [line.strip("│ ") for line in said.getvalue().splitlines() if not line.startswith(("╭", "╰"))]
    parts = [
        " ".join(part) for rule, part in groupby(lines, lambda line: bool(re.fullmatch("[-─]+", line))) if not rule
    ]
    words = (parts[0] if "│" in said.getvalue() else parts[1]).strip()
    raise PalaverError(f"{words.rstrip('.')}; see {prog} --help")


def _list() -> None:
    """The experiments, one a line."""
    for name, experiment in EXPERIMENTS.items():
        print(f"{name:<14}{experiment.about}")
    for name in OWN:
        print(f"{name:<14}one {name} with your own settings (every setting is a flag)")
    print("palaver run NAME starts one; palaver run NAME --help shows its flags")


def _run(name: str, args: list[str]) -> int:
    """Settings to configurations, then trains them."""
    prog = f"palaver run {name}"
    if name in OWN:
        options, rows, seeds = _own_settings(name, args, prog)
    elif name in EXPERIMENTS:
        named = _parse(Named, args, prog)
        _check_resume(named.options, alone=named.data is None)
        options, experiment = named.options, EXPERIMENTS[name]
        rows, seeds = experiment.rows(options.scale, named.data), experiment.seeds
        if options.settings is not None:
            raise PalaverError(f"{name} brings its own settings: use --settings with palaver run {' or '.join(OWN)}")
    else:
        raise PalaverError(f"{name!r} is not an experiment: choose one of {', '.join([*EXPERIMENTS, *OWN])}")
    seeds = seeds if options.seeds is None else options.seeds
    if seeds < 1:
        raise PalaverError(f"seeds is {seeds}: give a count of at least 1")
    if not 0 <= options.first_seed <= 2**32 - seeds:
        raise PalaverError(f"first_seed is {options.first_seed}: give 0 to {2**32 - seeds} for {seeds} seeds")
    use_cores()
    keep_compiled(Path(pooch.os_cache("palaver")) / "compiled")
    return _train(name, options, rows, list(range(options.first_seed, options.first_seed + seeds)))


def _check_resume(options: Options, *, alone: bool) -> None:
    """A resumed run has its settings already: flags that say otherwise would be lost in silence."""
    may = Options(resume=options.resume, data_root=options.data_root, checkpoint_seconds=options.checkpoint_seconds)
    if options.resume is not None and not (alone and options == may):
        raise PalaverError(
            f"--resume {options.resume} goes on with the settings it was started with: "
            "beside it give only --data-root and --checkpoint-seconds"
        )


def _own_settings(name: str, args: list[str], prog: str) -> tuple[Options, list[Row], int]:
    """The scale's settings, overridden by the file's, overridden by the flags."""
    flags, experiment = OWN[name]
    plain = [arg for arg in args if arg not in ("-h", "--help")]
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            options, _ = tyro.cli(Options, args=plain, return_unknown_args=True)
    except SystemExit:
        options = Options()  # the full parse below says what is wrong
    settings = experiment.SCALES[options.scale]
    if options.settings is not None:
        settings = _from_toml(options.settings, settings, prog)
    own = _parse(flags, args, prog, flags(Options(), settings))
    _check_resume(own.options, alone=own.settings == settings)
    return own.options, [experiment.row(own.settings)], 5


def _from_toml(path: Path, base: T, prog: str) -> T:
    """The settings of a TOML file over ``base``; keys are the flags' names, with - or _."""
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PalaverError(f"settings file {path} cannot be read: {error}") from None
    known, changes = asdict(base), {}  # type: ignore[call-overload]
    for key, value in content.items():
        name = key.replace("-", "_")
        if name not in known:
            raise PalaverError(f"{path} sets {key!r}, which is no setting: see {prog} --help")
        value = tuple(value) if isinstance(value, list) else value
        value = float(value) if isinstance(known[name], float) and type(value) is int else value
        if type(value) is not type(known[name]):
            raise PalaverError(f"{path} sets {key} to {value!r}: give a {type(known[name]).__name__}")
        changes[name] = value
    return replace(base, **changes)  # type: ignore[type-var]


def _train(name: str, options: Options, rows: list[Row], seeds: list[int]) -> int:
    """Checks everything, opens the folder, runs with live progress, prints the tables."""

    @cache
    def data(dataset: str) -> Dataset:
        return load(dataset, options.data_root)

    console = Console(width=None if sys.stdout.isatty() else 120)
    out = options.resume or options.out or Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    if options.resume is None:
        for row in rows:  # bad input must leave nothing behind: all of it is looked at before anything is made
            row.settings.check()
        kind = KINDS[kind_of(rows)]
        for row in rows:
            kind.check(row.settings, kind.load(row.settings, data), seeds, options.devices)
        stored = runner.plan(name, options.scale, rows, seeds, options.devices or len(jax.devices()))
        folder = open_folder(out, resume=False, overwrite=options.overwrite)
    else:
        folder = open_folder(out, resume=True, overwrite=False)
        stored = runner.stored_plan(folder)
        if stored["experiment"] != name:
            raise PalaverError(f"{out} is a run of {stored['experiment']}: resume it with that name")
        console.print(f"resuming {out} with the settings it was started with")
    try:
        with live(console, stored) as progress:
            runner.run(
                stored,
                data,
                folder,
                progress=progress,
                checkpoint_seconds=options.checkpoint_seconds,
            )
    except runner.Interrupted:
        print(f"palaver: stopped; palaver run {name} --resume {out} goes on from here", file=sys.stderr)
        return 130
    show(console, read_result(out))
    console.print(f"report: {out / 'report.html'}", soft_wrap=True)
    return 0


def _report(given: Folders) -> None:
    if not given.folders:
        raise PalaverError("no folder given: palaver report DIR ...")
    for folder in given.folders:
        print(f"report: {write_report(folder)}")


def _compare(given: Folders) -> None:
    if len(given.folders) < 2:
        raise PalaverError("give at least two result folders: palaver compare DIR DIR")
    Console(width=None if sys.stdout.isatty() else 120).print(compare_table([read_result(f) for f in given.folders]))


if __name__ == "__main__":
    sys.exit(main())
