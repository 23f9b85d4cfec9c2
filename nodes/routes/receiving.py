"""A request's body, streamed into a file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from ...dspo_train import files
from .refusals import RefusedError

_BLOCK = 1 << 20  # bytes written at a time
_PREFIX, _SUFFIX = ".drop-", ".tmp"
_STALE = 3600.0  # seconds; a file that grows is younger


@contextlib.asynccontextmanager
async def received(content: Any, folder: Path, largest: int) -> AsyncIterator[Path]:
    """Write an aiohttp stream into a hidden file in `folder`; it is deleted afterwards unless it was moved away.

    Raises:
        RefusedError: 413 past `largest` bytes, 507 on a full disk.
        RunError: the folder cannot be written.
    """
    with _writing(folder):
        handle, name = await in_thread(_begin, folder)
    try:
        with os.fdopen(handle, "wb", buffering=0) as file:
            size, block = 0, bytearray()
            async for part in content.iter_any():
                size += len(part)
                if size > largest:
                    raise too_large(largest)
                block += part
                if len(block) >= _BLOCK:
                    with _writing(folder):
                        await in_thread(_write, file.fileno(), bytes(block))
                    block.clear()
            with _writing(folder):
                await in_thread(_write, file.fileno(), bytes(block))
                await in_thread(os.fsync, file.fileno())
        yield Path(name)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name)


def too_large(largest: int) -> RefusedError:
    return RefusedError(413, f"A file may have at most {largest >> 20} MB.")


async def in_thread(work: Any, *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, work, *arguments)


def _begin(folder: Path) -> tuple[int, str]:
    """A new file, after those that a killed server left were swept away."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime > _STALE:
                old.unlink()
    return tempfile.mkstemp(prefix=_PREFIX, suffix=_SUFFIX, dir=folder)


def _write(handle: int, data: bytes) -> None:
    """Write on after a partial write: a nearly full disk takes a part and refuses the rest."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if files.is_full(error):
            raise RefusedError(
                507, "The disk is full: nothing of this file was kept. Free some space and drop it again."
            ) from error
        raise files.cannot_write(folder, error) from error
