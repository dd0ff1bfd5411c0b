"""What the commands do: settings to a plan, the run with its progress, the report of folders, their comparison."""

import json
import math
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import pooch
from rich.console import Console

from palaver import experiments
from palaver.data import Dataset, load
from palaver.devices import keep_compiled, use_cores
from palaver.options import Options
from palaver.report.grids import compare_grid
from palaver.report.page import write_report
from palaver.report.terminal import live, print_table, show, to_table
from palaver.studies import hosts, runner
from palaver.studies.budget import budget_grid, check_budget, footprints, room_ahead
from palaver.studies.chapter import AnyChapter, Configuration, Row
from palaver.studies.folder import PARTIAL, Folder, open_folder
from palaver.studies.memory import allocation_errors
from palaver.studies.plan import Plan, check_plan, shared_plan, stored_plan
from palaver.studies.results import read_result
from palaver.studies.settings import changed, read_toml
from palaver.studies.stopping import resumable
from palaver.types import PalaverError

T = TypeVar("T", Configuration, Row)


def chapter_of(name: str) -> AnyChapter:
    """The chapter of an experiment, or the chapter itself by its name."""
    experiment = experiments.EXPERIMENTS.get(name)
    return experiments.chapter(name if experiment is None else experiment.chapter)


def flags(name: str) -> Any:
    """Every setting of an experiment's chapter, as a dataclass that checks nothing yet, with defaults to show.

    They are those of a configuration of one's own, or of an experiment, whose configurations set some of them
    themselves. Flags are first read, then applied to every configuration, which checks them.
    """
    chapter = chapter_of(name)
    own = name not in experiments.EXPERIMENTS
    shown = chapter.scales["cpu"] if own else experiments.rows(name, "cpu", {})[0].base

    def unchecked(self: Any, **given: Any) -> None:
        self.__dict__.update(given)

    return type("Flags", (chapter.settings,), {"__init__": unchecked})(**vars(shown))


@allocation_errors()
def run(name: str, options: Options, given: frozenset[str], overrides: Mapping[str, Any]) -> int:
    """Runs an experiment, or goes on with an interrupted run.

    Args:
        name: of the experiment, or of a chapter.
        options: of the run.
        given: names of the options that were given.
        overrides: settings that were given as flags.

    Returns:
        The exit code.

    Raises:
        PalaverError: bad input; nothing has been written then.
        MachineError: the disk is full or the memory does not suffice.

    """
    if not 0 <= options.checkpoint_seconds < math.inf:
        raise PalaverError(f"checkpoint_seconds is {options.checkpoint_seconds}: give 0 or more, and finite")
    together = hosts.check_hosts(options.hosts, options.host_id, options.coordinator)
    if together and not chapter_of(name).sharded:
        raise PalaverError(f"{chapter_of(name).name} trains on one device: leave out --hosts")
    use_cores()
    keep_compiled(Path(pooch.os_cache("palaver")) / "compiled")
    if together:
        hosts.join(options.hosts or 1, options.host_id, options.coordinator)
    with hosts.lost_hosts():
        if hosts.first():
            _lead(name, options, given, overrides)
        else:
            _follow(options)
    return 0


def _follow(options: Options) -> None:
    """Takes part in what host 0 runs."""
    by_name = _loader(options)
    content = hosts.share()
    if content:  # otherwise host 0 only shows what would be run
        plan = shared_plan(content, experiments.chapter)
        _check(plan, by_name, None)
        _check_data(plan, by_name)
        runner.follow(plan, by_name)
    hosts.leave()


def _lead(name: str, options: Options, given: frozenset[str], overrides: Mapping[str, Any]) -> None:
    """Runs an experiment, or goes on with an interrupted run, on this host and those that follow it."""
    by_name = _loader(options)
    console = Console(width=None if sys.stdout.isatty() else 120)
    if options.resume is not None:
        if overrides or given - _BESIDE_RESUME:
            beside = ", ".join(f"--{option.replace('_', '-')}" for option in sorted(_BESIDE_RESUME - {"resume"}))
            raise PalaverError(
                f"--resume {options.resume} goes on with the settings it was started with: beside it give only {beside}"
            )
        out = options.resume
        if out.name.endswith(PARTIAL):  # as the folder is called until it is complete
            out = out.with_name(out.name.removesuffix(PARTIAL))
        with _opened(name, out, resume=True) as folder:
            plan = stored_plan(folder, experiments.chapter)
            if plan.experiment != name:
                raise PalaverError(f"{out} is a run of {plan.experiment}: resume it with that name")
            plan = plan._replace(devices=_devices_now(plan, options))
            console.print(f"resuming {out} with the settings it was started with")
            _run(plan, by_name, folder, console, options, _check(plan, by_name, None))
    else:
        out = options.out or Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
        plan = _plan(name, options, overrides)
        ahead = _check(plan, by_name, console if options.dry_run else None)
        if options.dry_run:
            hosts.share(b"")
            hosts.leave()
            return
        with _opened(name, out, overwrite=options.overwrite) as folder:
            _run(plan, by_name, folder, console, options, ahead)
    hosts.leave()
    result = read_result(out, experiments.chapter)
    show(console, result, plan.chapter.report(result))
    console.print(f"report: {out / 'report.html'}", soft_wrap=True)


_BESIDE_RESUME = frozenset({"resume", "data_root", "checkpoint_seconds", "hosts", "host_id", "coordinator"})
"""The options that an interrupted run may be given."""


def _devices_now(plan: Plan, options: Options) -> int:
    """Over how many devices an interrupted run goes on: all of these hosts, otherwise as many as before, if it can."""
    have = len(jax.devices()) if plan.chapter.sharded else 1
    return have if options.hosts else min(plan.devices, have)


def _loader(options: Options) -> Callable[[str], Dataset]:
    """``by_name(dataset)``, which loads a data set once."""

    @cache
    def by_name(dataset: str) -> Dataset:
        return load(dataset, options.data_root)

    return by_name


def _check_data(plan: Plan, by_name: Callable[[str], Dataset]) -> None:
    """Raises ``PalaverError`` on every host unless all have the same data."""
    if jax.process_count() > 1:
        datasets = [plan.chapter.load(row.settings, by_name) for row in plan.configurations]
        hosts.check_same("data set", (part for data in datasets for part in data if isinstance(part, np.ndarray)))


@contextmanager
def _opened(name: str, out: Path, *, resume: bool = False, overwrite: bool = False) -> Generator[Folder]:
    """The result folder, which this process holds; what stops it tells how to go on with the run."""
    command = f"palaver run {name} --resume {out}"
    opened = open_folder(out, resume=resume, overwrite=overwrite)
    with opened as folder, resumable(folder.settings, command), hosts.lost_hosts():
        yield folder


def _run(
    plan: Plan, by_name: Callable[[str], Dataset], folder: Folder, console: Console, options: Options, ahead: int
) -> None:
    """Runs the plan, or what is left of it, with its progress on the console."""
    hosts.share(json.dumps(plan.to_json()).encode())
    _check_data(plan, by_name)
    with live(console, plan) as progress:
        runner.run(
            *(plan, by_name, folder),
            report=lambda done: write_report(done, experiments.chapter),
            progress=progress,
            checkpoint_seconds=options.checkpoint_seconds,
            ahead=ahead,
        )


def _check(plan: Plan, by_name: Callable[[str], Dataset], console: Console | None) -> int:
    """Raises ``PalaverError`` for what the machine or the data do not allow; prints the plan where it has a console.

    Returns:
        How many configurations may be made ready while another one trains.

    """
    chapter, seeds = plan.chapter, len(plan.seeds)
    found = footprints(chapter, plan.configurations, by_name, seeds, plan.devices)
    if console is not None:
        print_table(console, to_table(budget_grid(plan.configurations, found, plan.devices)))
    check_budget(chapter, plan.configurations, found, by_name, seeds, plan.devices)
    check_plan(plan, by_name)
    return room_ahead(found, plan.devices) if chapter.ahead else 0


def _plan(name: str, options: Options, overrides: Mapping[str, Any]) -> Plan:
    """What is to be run."""
    chapter = chapter_of(name)
    overrides = (read_toml(options.settings) if options.settings else {}) | dict(overrides)
    where = f"{options.settings}: " if options.settings else ""
    experiment = experiments.EXPERIMENTS.get(name)
    if experiment:
        number = experiment.seeds
        rows = _under(name, options, overrides, where)
    else:
        number = experiments.CHAPTERS[name].seeds
        settings = changed(chapter.scales[options.scale], overrides, where)
        rows = _only([Configuration(chapter.name_of(settings), settings)], options.only)
    _check_read(chapter, rows, overrides, where)
    number = number if options.seeds is None else options.seeds
    if number < 1:
        raise PalaverError(f"seeds is {number}: give a count of at least 1")
    if not 0 <= options.first_seed <= 2**32 - number:
        raise PalaverError(f"first_seed is {options.first_seed}: give 0 to {2**32 - number} for {number} seeds")
    seeds, devices = range(options.first_seed, options.first_seed + number), options.devices
    if devices is not None and (devices < 1 or (devices > 1 and not chapter.sharded)):
        allowed = "at least 1" if chapter.sharded else f"1, since {chapter.name} trains on one device"
        raise PalaverError(f"devices is {devices}: give {allowed}")
    devices = devices or (len(jax.devices()) if chapter.sharded else 1)
    beside = overrides if experiment else {}  # given in place of an experiment's own
    return Plan(name, options.scale, chapter, rows, seeds, devices, beside, options.only)


def _check_read(chapter: AnyChapter, rows: Sequence[Configuration], overrides: Mapping[str, Any], where: str) -> None:
    """Raises ``PalaverError`` for a setting, other than its default, that no configuration reads."""
    for name in overrides:
        value = getattr(rows[0].settings, name)
        readers = [chapter.unread(row.settings, name) for row in rows]
        if all(readers) and value != getattr(chapter.settings(), name):
            raise PalaverError(f"{where}{name} is {value}, which has a meaning only for {readers[0]}: leave it out")


def _under(name: str, options: Options, overrides: Mapping[str, Any], where: str) -> list[Configuration]:
    """The configurations of an experiment that are to run, with other settings where such are given."""
    try:
        rows = _only(experiments.rows(name, options.scale, overrides), options.only)
    except PalaverError as error:
        raise PalaverError(f"{where}{error}") from None
    fixed = [each for each in overrides if all(each in row.own for row in rows)]
    if fixed:
        raise PalaverError(
            f"{where}{fixed[0]} is set by every configuration of {name} itself: leave it out, "
            f"or give it to palaver run {experiments.EXPERIMENTS[name].chapter}"
        )
    return [_configured(row, overrides, where) for row in rows]


def _configured(row: Row, overrides: Mapping[str, Any], where: str) -> Configuration:
    """The configuration with other settings; where only what makes it what it is refuses them, others may take them."""
    try:
        return row.under(overrides, where)
    except PalaverError as error:
        try:
            changed(row.base, overrides, where)
        except PalaverError:
            raise error from None
        raise PalaverError(f"{error}; or choose other configurations with --only") from None


def _only(rows: Sequence[T], patterns: Sequence[str]) -> list[T]:
    """The configurations whose name fits one of the patterns; all where there is none."""
    unused = [pattern for pattern in patterns if not any(fnmatchcase(row.name, pattern) for row in rows)]
    if unused:
        names = "; ".join(row.name for row in rows)
        raise PalaverError(f"--only {unused[0]!r} fits no configuration: choose among {names}")
    return [row for row in rows if not patterns or any(fnmatchcase(row.name, pattern) for pattern in patterns)]


def report(folders: Sequence[Path]) -> int:
    """Rebuilds the page of every folder."""
    if not folders:
        raise PalaverError("no folder given: palaver report DIR ...")
    for folder in folders:
        print(f"report: {write_report(folder, experiments.chapter)}")
    return 0


def compare(folders: Sequence[Path]) -> int:
    """Prints the metrics that are compared, runs side by side."""
    if len(folders) < 2:
        raise PalaverError("give at least two result folders: palaver compare DIR DIR")
    results = [read_result(folder, experiments.chapter) for folder in folders]
    chapters = dict.fromkeys(result.summary["chapter"] for result in results)
    metrics = [metric for name in chapters for metric in experiments.chapter(name).metrics if metric.compare]
    grid = compare_grid(results, metrics)
    print_table(Console(width=None if sys.stdout.isatty() else 120), to_table(grid, stacked=len(results) > 3))
    return 0
