"""What a run is doing, or how it ended: recorded by the process that trains, read by any other.

    status.json   {"state", "reason", "since", "process"}
    .alive        locked while a process trains in the folder; the system releases it when that process dies
    .reserve      a few bytes to give back if the disk is full when the end is to be recorded

A process that is killed cannot say so. Hence "running" holds only if this process is training there, or another one
holds the lock; else the run has crashed. A process is known by a token of its own, since its id is used again.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from filelock import FileLock, Timeout

from .. import files
from ..exceptions import DspoError
from .folder import RunFolder

State = Literal["running", "stopped", "failed", "crashed", "finished"]

NO_MEMORY = "not enough memory"
_LONGEST = 600  # characters of a reason
_RESERVED = 4096  # bytes
_PATIENCE = 0.5  # seconds: another process may be looking at the lock just now
_PATH = re.compile(r"(?<![\w.])(?:[A-Za-z]:)?(?:[\\/][^\\/\s:;,'\"]+)+[\\/](?=[^\\/\s])")  # up to the last name

log = logging.getLogger("dspo")

_process = uuid.uuid4().hex
_guard = threading.RLock()
_going: set[Path] = set()  # folders in which this process trains
_unwritten: dict[Path, RunStatus] = {}  # what could not be written


@dataclass(frozen=True)
class RunStatus:
    """The state of a run.

    Attributes:
        reason: of a failure, one or more sentences without paths; else empty.
        since: when this state began, in UTC, as 2025-01-31T12:00:00Z; empty if unknown.
        process: token of the process that recorded it.
    """

    state: State
    reason: str = ""
    since: str = ""
    process: str = ""


@contextlib.contextmanager
def recorded(
    folder: RunFolder,
    steps: int,
    *,
    cancelled: tuple[type[BaseException], ...] = (),
    words: Callable[[str], str] = str,
    complete: Callable[[], bool] = lambda: True,
) -> Iterator[None]:
    """Record the run as running, and afterwards how this part of it ended. Inside another call for it, do nothing.

    Without an exception, the run is finished if its result is there, else stopped. KeyboardInterrupt and the like mean
    stopped, other exceptions failed; all are passed on. A record that cannot be written disturbs no training.

    Args:
        steps: of the whole run.
        cancelled: further exceptions that mean stopped.
        words: turns a message of the library into the front end's terms.
        complete: is there nothing to do after these steps either, such as further rounds?
    """
    key = folder.folder.resolve()

    def done() -> bool:
        return folder.completed(steps) and complete()

    with contextlib.ExitStack() as stack:
        if key in _going or done() or not _hold(folder.alive, stack):
            yield
            return
        with _guard:
            _going.add(key)
        _write(folder, RunStatus("running"))
        ending = RunStatus("stopped")
        try:
            yield
            ending = RunStatus("finished" if done() else "stopped")
        except BaseException as error:
            ending = _ending(error, cancelled, words)
            raise
        finally:
            _write(folder, ending)
            with _guard:
                _going.discard(key)


def status_of(folder: RunFolder) -> RunStatus | None:
    """What is recorded, checked; None for a run of an earlier version, which recorded nothing."""
    key = folder.folder.resolve()
    said = _read(folder)
    with _guard:
        if key in _going:
            return said if said is not None and said.state == "running" else RunStatus("running", process=_process)
        if key in _unwritten and (said is None or said.process == _process):
            return _unwritten[key]
    if said is None or said.state != "running":
        return said
    alive = said.process != _process and _is_held(folder.alive)
    return said if alive else replace(said, state="crashed", since="")


def while_training(folder: RunFolder, act: Callable[[], object]) -> bool:
    """Call `act` if this process trains in the folder; no other run can begin before it returns. -> whether it did"""
    with _guard:
        if folder.folder.resolve() not in _going:
            return False
        act()
        return True


def _ending(error: BaseException, cancelled: tuple[type[BaseException], ...], words: Callable[[str], str]) -> RunStatus:
    from .preflight import is_out_of_memory  # that module needs the session, which needs this one

    if isinstance(error, cancelled) or not isinstance(error, Exception):
        return RunStatus("stopped")
    if isinstance(error, DspoError):
        reason = words(str(error))
    elif is_out_of_memory(error):
        reason = NO_MEMORY
    else:
        reason = f"{type(error).__name__}: {error}"
    return RunStatus("failed", _PATH.sub("", reason)[:_LONGEST])


def _write(folder: RunFolder, status: RunStatus) -> None:
    status = replace(status, since=_now(), process=_process)
    key = folder.folder.resolve()
    try:
        if status.state == "running":
            files.write_bytes(folder.reserve, bytes(_RESERVED))
            _store(folder, status)
        else:
            _store_the_end(folder, status)
    except DspoError as error:
        log.warning("%s: its state could not be recorded: %s", folder.folder.name, error)
        with _guard:
            _unwritten[key] = status
    else:
        with _guard:
            _unwritten.pop(key, None)


def _store_the_end(folder: RunFolder, status: RunStatus) -> None:
    try:
        _store(folder, status)
    except DspoError:
        folder.reserve.unlink(missing_ok=True)
        _store(folder, status)
    finally:
        with contextlib.suppress(OSError):
            folder.reserve.unlink(missing_ok=True)


def _store(folder: RunFolder, status: RunStatus) -> None:
    files.write_json(folder.status, asdict(status))


def _read(folder: RunFolder) -> RunStatus | None:
    try:
        found = json.loads(folder.status.read_text(encoding="utf-8"))
        values = {name: str(found.get(name, "")) for name in ("reason", "since", "process")}
        return RunStatus(found["state"], **values) if found["state"] in get_args(State) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _hold(lock: Path, stack: contextlib.ExitStack) -> bool:
    """Keep the lock until the stack is closed. -> whether it was free"""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        stack.enter_context(FileLock(lock, timeout=_PATIENCE))
    except (Timeout, OSError, NotImplementedError):
        return False
    return True


def _is_held(lock: Path) -> bool:
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        return False


def _now() -> str:
    now = datetime.datetime.now(datetime.timezone.utc)
    return now.isoformat(timespec="seconds").replace("+00:00", "Z")
