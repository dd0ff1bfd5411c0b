"""The command line; ``palaver.commands`` and ``palaver.peers.commands`` do what the commands say."""

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from functools import cache, partial, reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro import _errors  # the hook for mistakes in flags; private, so tyro is pinned to 1.0

from palaver.errors import MachineError, PalaverError
from palaver.experiments import CHAPTERS, EXPERIMENTS
from palaver.options import Options
from palaver.peers.options import AskFlags, Peer, Peers, StatusFlags, UpOptions
from palaver.studies.stopping import last_words
from palaver.version import __version__


@dataclass(frozen=True)
class List:
    """The experiments, one a line."""


@dataclass(frozen=True)
class Report:
    """Rebuild the page of result folders from their files."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional] = field(default=())
    """Result folders made by palaver run."""


@dataclass(frozen=True)
class Compare:
    """Results side by side."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional] = field(default=())
    """Result folders made by palaver run."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0, 1 for the machine's fault, 2 for bad input, 130 when interrupted."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        if args == ["--version"]:
            print(__version__)
            return 0
        return _dispatch(_parse(args), args)
    except PalaverError as error:
        print(f"palaver: {error}", file=sys.stderr)
        return 2
    except MachineError as error:
        print(f"palaver: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"palaver: {str(stop) or last_words()}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except SystemExit as stop:  # --help
        return int(stop.code or 0)


def _dispatch(command: Any, args: Sequence[str]) -> int:
    if isinstance(command, List):
        print("\n".join(f"{name:<14}{about}" for name, about in _abouts().items()))
        print("palaver run NAME starts one; palaver run NAME --help shows its flags")
        return 0
    match command:
        case Peer():
            return _peers().peer(command.site, check=command.check, data_root=command.data_root)
        case AskFlags():
            return _peers().run_ask(command)
        case StatusFlags():
            return _peers().status(command)
        case Peers():
            return _peers().provide(command.action)
        case _:
            pass
    given = _given(args)
    if hasattr(command, "up"):
        return _peers().run_up(command.up, _overrides(command.chapter, given))
    from palaver import commands  # only now: it imports JAX, which takes a second

    if isinstance(command, Report):
        return commands.report(command.folders)
    if isinstance(command, Compare):
        return commands.compare(command.folders)
    run = command.experiment
    options = frozenset(f.name for f in fields(run.run) if f.name in given)
    return commands.run(run.name, run.run, options, _overrides(run.chapter, given))


def _given(args: Sequence[str]) -> set[str]:
    """The flags among the arguments, as names of fields."""
    flags = [token.split("=")[0].removeprefix("--") for token in args if token.startswith("--")]
    return {flag.removeprefix("no-").replace("-", "_") for flag in flags}


def _overrides(settings: Any, given: set[str]) -> dict[str, Any]:
    """The settings that were given as flags."""
    return {f.name: getattr(settings, f.name) for f in fields(settings) if f.name in given}


def _peers() -> Any:
    """The commands of peers, which need the extra of that name."""
    try:
        from palaver.peers import commands
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "palaver":
            raise
        raise PalaverError(
            f"peers need {error.name}, which is not installed: pip install 'palaver-learning[peers]', or -e '.[peers]' "
            "in a clone"
        ) from None
    return commands


def _abouts() -> dict[str, str]:
    """Everything that can be run, and what it is."""
    return {name: entry.about for name, entry in (EXPERIMENTS | CHAPTERS).items()}


def _parse(args: list[str]) -> Any:
    """The command that these arguments are; a mistake in them becomes one line."""
    if not args or args == ["run"]:
        args = [*args, "--help"]
    name = args[1] if args[0] == "run" and args[1] in _abouts() else None
    if args[0] == "run" and name is None and not args[1].startswith("-"):
        raise PalaverError(f"{args[1]!r} is not an experiment: choose one of {', '.join(_abouts())}")
    choices = [
        Annotated[
            _flags(each) if each == name else make_dataclass("Flags", []),
            tyro.conf.subcommand(each, description=about, default=_flags(each)() if each == name else tyro.MISSING),
        ]
        for each, about in _abouts().items()
    ]
    run = make_dataclass("Run", [("experiment", tyro.conf.OmitSubcommandPrefixes[reduce(or_, choices)])], frozen=True)
    run.__doc__ = "Run an experiment, or one configuration with your own settings."
    peers = {"up": _up(args), "peer": Peer, "peers": Peers, "ask": AskFlags, "status": StatusFlags}
    commands = {"list": List, "run": run, "report": Report, "compare": Compare} | peers
    if args[0] not in commands and not args[0].startswith("-"):
        raise PalaverError(f"{args[0]!r} is not a command: choose one of {', '.join(commands)}")
    where = " ".join(["palaver", *args[: 2 if name else 1]])
    with _errors.on_parse_error(partial(_one_line, where, args)):
        return tyro.extras.subcommand_cli_from_dict(
            commands, prog="palaver", args=args, config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)
        )


def _up(args: Sequence[str]) -> Any:
    """The flags of ``palaver up``: its own options, and every setting of a collective."""
    parts: list[Any] = [("up", UpOptions, field(default_factory=UpOptions))]
    if args[0] == "up":
        setting = _peers().flags()
        parts.append(("chapter", type(setting), field(default=setting)))
    made = make_dataclass("Up", parts, frozen=True)
    made.__doc__ = "Start a local collective of real processes, and show what they do."
    return made


@cache
def _flags(name: str) -> type[Any]:
    """The flags of one experiment: a run's options and every setting of its chapter."""
    from palaver import commands  # only for this experiment: see above

    setting = commands.flags(name)
    parts = [
        ("run", Options, field(default_factory=Options)),
        ("chapter", type(setting), field(default=setting)),
        ("name", tyro.conf.Suppress[str], field(default=name)),
    ]
    return make_dataclass("Flags", parts, frozen=True)


def _one_line(where: str, args: Sequence[str], event: _errors.ParseErrorEvent) -> None:
    """Raises a ``PalaverError`` in place of tyro's boxes."""
    match event:
        case _errors.InvalidChoice():
            name = event.argument.display_name()
            line = f"{name} is {event.value!r}: choose one of {', '.join(event.choices)}"
        case _errors.UnrecognizedArgs():
            line = f"{event.tokens[0]!r} is no flag or argument of {where}"
        case _errors.BadValue():
            line = f"{event.argument.display_name()} needs a value"
        case _errors.InstantiationFailure():
            of = event.argument
            line = event.message.splitlines()[0]
            quoted = dict.fromkeys(re.findall("'([^']*)'", event.message))
            if of is not None and (values := [value for value in quoted if value in {*args, *_after_equals(args)}]):
                line = f"{of.display_name()} takes {of.lowered.metavar}, not {', '.join(map(repr, values))}"
        case _:
            line = "these arguments do not go together"
    raise PalaverError(f"{line}; see {where} --help")


def _after_equals(args: Sequence[str]) -> list[str]:
    """Values that are given as ``--flag=value``."""
    return [arg.partition("=")[2] for arg in args if arg.startswith("--")]
