"""Write files so that a reader sees the old content or the new, never a part."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from ..exceptions import DspoError, RunError

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}  # Windows has no quota error


def write_bytes(path: Path, data: bytes, check: Callable[[Path], None] = lambda written: None) -> None:
    """As `write_chunks`, for content in memory."""
    write_chunks(path, [data], check)


def write_chunks(
    path: Path, chunks: Iterable[bytes | memoryview], check: Callable[[Path], None] = lambda written: None
) -> None:
    """Write to a temporary name in the same folder, flush to the disk, check, rename over `path`.

    Args:
        chunks: of the content, which need not fit into memory; if producing one raises, `path` is unchanged.
        check: is given the temporary file before the rename; if it raises, `path` is unchanged.

    Raises:
        RunError: the disk is full, or the folder cannot be written; `path` is unchanged.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes it private, but other programs must be able to read a model
        check(Path(temporary))
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n")


def cannot_write(path: Path, error: OSError) -> DspoError:
    """The one message for a file that could not be written."""
    if is_full(error):
        return RunError(
            f"the disk is full: could not write {path.name} in {path.parent}. Free some space and start the "
            "same run again; everything finished so far is kept"
        )
    return RunError(f"could not write {path}: {error.strerror or error}. Check that the folder is writable")


def is_full(error: OSError) -> bool:
    """Is the disk, or the user's share of it, full?"""
    return error.errno in _FULL


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def digest(*parts: object) -> str:
    """Hex digest of a sequence of values, as text."""
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8")).hexdigest()


def read_json_object(path: Path) -> dict[str, Any]:
    """What a JSON file holds; empty if it cannot be read or holds something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Objects of a JSON-lines file, up to a line that a crash truncated."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                return


def write_image(path: Path, image: Image.Image) -> None:
    """Write a PNG whole or not at all."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    write_bytes(path, buffer.getvalue())
