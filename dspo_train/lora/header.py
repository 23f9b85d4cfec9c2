"""The two parts of a safetensors file: the header with its metadata, which may change, and the tensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from ..files.tensor_file import packed

_LENGTH = 8  # bytes that hold the header's length


def tensor_hash(data: bytes) -> str:
    """sha256 of a safetensors file without its header (AutoV3), so that it does not depend on the metadata."""
    return hashlib.sha256(tensors_in(data)).hexdigest()


def tensors_in(data: bytes) -> memoryview:
    """The bytes of a safetensors file after its header."""
    return memoryview(data)[_LENGTH + int.from_bytes(data[:_LENGTH], "little") :]


def tensors_size(path: Path) -> int:
    """How many bytes of a file follow its header; negative for a file that was cut off.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
    return path.stat().st_size - _LENGTH - length


def with_metadata(data: bytes, more: Mapping[str, str]) -> bytes:
    """A safetensors file with further metadata; the tensors stay as they are."""
    length = int.from_bytes(data[:_LENGTH], "little")
    header = json.loads(data[_LENGTH : _LENGTH + length])
    header["__metadata__"] = {**header.get("__metadata__", {}), **more}
    return packed(header) + bytes(tensors_in(data))
