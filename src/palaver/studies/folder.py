"""The result folder while it is being made: everything in ``<name>.partial``, renamed to ``<name>`` when complete."""

import errno
import os
import shutil
import socket
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from palaver.errors import MachineError, PalaverError
from palaver.studies.files import DRAFT, write_text, writing

PARTIAL = ".partial"
"""Ends the name of an unfinished result folder."""
_LOCK, _HOLDER = "lock", "lock.pid"
"""Held by the process that writes; and which process that is."""
_REPLACED = "replaced"
"""The complete results that are being replaced, in the folder that replaces them."""
_DISCARDED = "discarded"
"""The history of a complete run, to be deleted."""
_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""Faults of a disk rather than of the place that was chosen."""


class Folder(NamedTuple):
    """Where a run's results go."""

    final: Path
    """The name given; exists only when the run is complete."""
    partial: Path
    """Where the run works until then."""

    @property
    def settings(self) -> Path:
        """What is being run; the first file of a run."""
        return self.partial / "settings.json"

    @property
    def history(self) -> Path:
        """What the configurations have left; deleted once the run is complete."""
        return self.partial / "history"

    def checkpoints(self, row: int) -> Path:
        """The folder of a configuration's checkpoints."""
        return self.partial / "checkpoints" / str(row)


@contextmanager
def open_folder(out: Path, *, resume: bool, overwrite: bool) -> Generator[Folder]:
    """Opens a result folder, new or interrupted; while it is open, no other process writes there.

    Args:
        out: the folder to make, or the final name of the one to resume.
        resume: whether to go on with an interrupted run.
        overwrite: whether results that are already there may be replaced: unfinished ones at once, finished ones by
            ``publish``.

    Yields:
        The folder's two paths; without ``resume`` the partial one is new and empty. Where nothing is written into it,
        it is gone afterwards.

    Raises:
        PalaverError: the folder exists and neither ``--resume`` nor ``--overwrite`` was given, ``--overwrite`` would
            replace something that palaver did not make, there is nothing to resume, another process writes there, or
            the place cannot be written.
        MachineError: the disk is full or does not work.

    """
    out = Path(os.path.abspath(out))
    folder = Folder(out, out.with_name(out.name + PARTIAL) if out.name else out)
    try:
        _check_place(folder, resume, overwrite)  # before anything is made
        folder.partial.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        said = f"result folder {out} cannot be {'read' if resume else 'made'}: {error.strerror}"
        if error.errno in _MACHINE:
            raise MachineError(f"{said}; mend its disk or make room there, or give another --out") from None
        raise PalaverError(f"{said}; give another --{'resume' if resume else 'out'}") from None
    with ExitStack() as stack:
        with recoverable(folder, f"--resume {out} goes on" if resume else "start anew"), writing(folder.partial):
            stack.enter_context(_held(folder))
            _check_place(folder, resume, overwrite)  # another process may have finished, or begun, a run meanwhile
            if not resume:
                _put_back(folder)
                _empty(folder)
        yield folder


def _check_place(folder: Folder, resume: bool, overwrite: bool) -> None:
    """Raises ``PalaverError`` where there is nothing to resume, or something that is not to be replaced."""
    if (folder.final / _LOCK).exists() and (folder.final / "summary.json").exists():
        _clear_published(folder)
    if resume:
        if not folder.settings.exists():
            state = "is complete" if (folder.final / "summary.json").exists() else "holds no interrupted run"
            raise PalaverError(f"nothing to resume: {folder.final} {state}")
        return
    for path in (folder.final, folder.partial):
        if not _replaceable(path) and not overwrite:
            goes_on = f"--resume {folder.final} goes on, " if folder.settings.exists() else ""
            raise PalaverError(f"{path} exists: {goes_on}--overwrite replaces it, or give another --out")


def _empty(folder: Folder) -> None:
    """Deletes what an unfinished run has left."""
    for path in sorted(folder.partial.iterdir(), key=lambda path: path == folder.settings):  # without them, foreign
        if path.name not in (_LOCK, _HOLDER):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def recoverable(folder: Folder, goes_on: str) -> Generator[None]:
    """While open, a ``MachineError`` says how to go on.

    Args:
        folder: of the run.
        goes_on: what to do once the machine works again, if there is something to go on with.

    """
    try:
        yield
    except MachineError as error:
        raise MachineError(f"{error}; then {goes_on if folder.settings.exists() else 'start anew'}") from None


def _replaceable(path: Path) -> bool:
    """Whether nothing is lost when a new folder takes this place.

    Raises:
        PalaverError: what is there is not palaver's.

    """
    scratch = path.name.endswith(PARTIAL)  # never of a folder that somebody else may have made
    if not os.path.lexists(path) or (path.is_dir() and all(scratch and _is_scratch(p) for p in path.iterdir())):
        return True
    if not (path / "settings.json").exists():
        what = f"{path} exists and is not a result folder"
        raise PalaverError(f"{what}: --overwrite replaces only those; give another --out")
    return False


def _is_scratch(path: Path) -> bool:
    """Whether a process that was killed at its very start may have left this."""
    return path.name in (_LOCK, _HOLDER) or (path.name.startswith(".") and path.name.endswith(DRAFT))


@contextmanager
def _held(folder: Folder) -> Generator[None]:
    """While open, no other process writes into the partial folder; a killed process no longer holds it.

    Raises:
        PalaverError: another process holds it.
        MachineError: the lock cannot be made.

    """
    lock, holder = FileLock(folder.partial / _LOCK, timeout=0), folder.partial / _HOLDER
    with writing(folder.partial / _LOCK):
        try:
            lock.acquire()
        except Timeout:
            who = f"{folder.partial} is being written by {_holder(holder)}"
            raise PalaverError(f"{who}: wait until it ends, or give another --out") from None
        except OSError:
            with suppress(OSError):  # something is in it
                folder.partial.rmdir()
            raise
    ours = os.stat(folder.partial).st_ino
    try:
        write_text(holder, f"{os.getpid()} on {socket.gethostname()}\n")
        yield
    finally:
        with suppress(OSError):
            if os.stat(folder.partial).st_ino == ours:  # once this is published, another process may begin here
                holder.unlink(missing_ok=True)
                if all(map(_is_scratch, folder.partial.iterdir())):  # nothing has been written
                    shutil.rmtree(folder.partial)
        lock.release()


def _holder(path: Path) -> str:
    """Which process holds the lock, as far as its file says so."""
    try:
        return "process " + path.read_text(encoding="utf-8").splitlines()[0][:200]
    except (OSError, ValueError, IndexError):
        return "another process"


def _put_back(folder: Folder) -> None:
    """Gives complete results their name back where ``publish`` was stopped after it had moved them."""
    if (folder.partial / _REPLACED).exists() and not folder.final.exists():
        os.replace(folder.partial / _REPLACED, folder.final)


def clear_drafts(folder: Folder) -> None:
    """Deletes the files that a killed process was writing; call it only while the folder is open."""
    with writing(folder.partial):
        for path in folder.partial.rglob(f".*{DRAFT}"):
            path.unlink()


def publish(folder: Folder) -> None:
    """Gives the finished folder its final name, without checkpoints and history; it is never there in part.

    Wherever it is stopped, what it replaces is still there, and calling it again goes on.

    Args:
        folder: from ``open_folder``, still open.

    Raises:
        PalaverError: there is now something else under the final name.
        MachineError: a folder cannot be moved or deleted.

    """
    replaced, discarded = folder.partial / _REPLACED, folder.partial / _DISCARDED
    _replaceable(folder.final)
    with writing(folder.final):
        if folder.history.exists():
            shutil.rmtree(discarded, ignore_errors=True)
            os.replace(folder.history, discarded)  # at once: half of it would look like a damaged run
        for scratch in (discarded, folder.partial / "checkpoints"):
            if scratch.exists():
                shutil.rmtree(scratch)
        if folder.final.exists():
            if replaced.exists():
                shutil.rmtree(replaced)
            os.replace(folder.final, replaced)
        os.replace(folder.partial, folder.final)
    _clear_published(folder)


def _clear_published(folder: Folder) -> None:
    """Deletes what is no result in the complete folder, the lock last: with it a stopped ``publish`` is known."""
    shutil.rmtree(folder.final / _REPLACED, ignore_errors=True)
    for name in (_HOLDER, _LOCK):
        with suppress(OSError):
            (folder.final / name).unlink()
