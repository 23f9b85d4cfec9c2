"""A body that is a file: received whole or not at all, whatever the sender or the disk does."""

from __future__ import annotations

import asyncio
import errno
import importlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from test_route_checks import checks  # noqa: F401  (a fixture)

pytestmark = pytest.mark.usefixtures("checks")


class Sender:
    """What aiohttp hands over: parts as they arrive, and an error where the sender goes away."""

    def __init__(self, *parts: bytes, gone: bool = False) -> None:
        self._parts, self._gone = parts, gone

    async def iter_any(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part
        if self._gone:
            raise ConnectionResetError


def receive(folder: Path, sender: Sender, largest: int = 10_000_000, moved_to: str | None = None) -> bytes:
    receiving: Any = importlib.import_module("the_pack.nodes.routes.receiving")

    async def run() -> bytes:
        async with receiving.received(sender, folder, largest) as file:
            data = file.read_bytes()
            if moved_to is not None:
                os.replace(file, folder / moved_to)
            return data

    return asyncio.run(run())


def refused(folder: Path, sender: Sender, **options: Any) -> tuple[int, str]:
    refusals: Any = importlib.import_module("the_pack.nodes.routes.refusals")
    with pytest.raises(refusals.RefusedError) as caught:
        receive(folder, sender, **options)
    return caught.value.status, caught.value.sentence


def test_a_file_arrives_whole(tmp_path):
    parts = [bytes([n]) * 700_000 for n in range(5)]
    assert receive(tmp_path / "tray", Sender(*parts), moved_to="a.png") == b"".join(parts)
    assert [path.name for path in (tmp_path / "tray").iterdir()] == ["a.png"]


def test_what_nobody_moves_away_is_deleted(tmp_path):
    assert receive(tmp_path, Sender(b"x")) == b"x"
    assert list(tmp_path.iterdir()) == []


def test_a_sender_that_goes_away(tmp_path):
    with pytest.raises(ConnectionResetError):
        receive(tmp_path, Sender(b"x" * 3_000_000, gone=True))
    assert list(tmp_path.iterdir()) == []


def test_too_large_a_file(tmp_path):
    status, sentence = refused(tmp_path, Sender(b"x" * 2_000_000, b"x"), largest=2_000_000)
    assert (status, sentence) == (413, "A file may have at most 1 MB.")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk(tmp_path, monkeypatch, call):
    """It takes 40 bytes and no more, or refuses at the flush."""
    real, calls = getattr(os, call), []

    def full(handle: int, *data: Any) -> int:
        calls.append(handle)
        if call == "write" and len(calls) == 1:
            return real(handle, bytes(data[0][:40]))
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        status, sentence = refused(tmp_path, Sender(b"x" * 100))
    assert status == 507 and sentence.startswith("The disk is full: nothing of this file was kept.")
    assert list(tmp_path.iterdir()) == []
    assert receive(tmp_path, Sender(b"x" * 100)) == b"x" * 100


def test_what_a_killed_server_left_is_swept_away_once_it_is_old(tmp_path):
    for name, age in ((".drop-old.tmp", 4000), (".drop-new.tmp", 100), ("kept.png", 4000), (".other.tmp", 4000)):
        (tmp_path / name).write_bytes(b"x")
        status = (tmp_path / name).stat()
        os.utime(tmp_path / name, (status.st_atime - age, status.st_mtime - age))
    receive(tmp_path, Sender(b"x"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".drop-new.tmp", ".other.tmp", "kept.png"]
