"""The header of a safetensors file: eight bytes of length, the header in JSON, then the tensors."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..exceptions import DspoError
from .content import damage

_LARGEST = 100_000_000  # bytes; safetensors' own limit


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file.

    Attributes:
        dtype: in safetensors' spelling, such as `F16`.
        length: in bytes.
        start: first byte, from the beginning of the file.
    """

    dtype: str
    shape: tuple[int, ...]
    length: int
    start: int = 0

    @property
    def width(self) -> int:
        """Bytes per element."""
        return self.length // max(math.prod(self.shape), 1)


@dataclass(frozen=True)
class TensorHeader:
    """Tensors in the header's order, and the file's own metadata."""

    tensors: dict[str, StoredTensor]
    metadata: dict[str, str]


def read_header(path: Path, error: type[DspoError]) -> TensorHeader:
    """Read and check a header; the tensors themselves are not read.

    Raises:
        error: the file is not safetensors, or is truncated or damaged.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        begin = file.read(1)
        if begin != b"{" or length > _LARGEST:
            raise error(f"{path} {damage(path)}")
        if 8 + length > size:
            raise error(f"{path}: the file is truncated within its header; download or copy it again")
        text = begin + file.read(length - 1)
    try:
        header: dict[str, Any] = json.loads(text)
        metadata: dict[str, str] = header.pop("__metadata__", {})
        tensors = {name: _stored(entry, 8 + length) for name, entry in header.items()}
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as fault:
        raise error(f"{path}: the file's header is broken ({fault}); download or copy it again") from fault
    end = max((tensor.start + tensor.length for tensor in tensors.values()), default=8 + length)
    if end > size:
        raise error(
            f"{path}: the file is truncated: its header promises {end} bytes, but it has {size}; download or copy it "
            "again"
        )
    return TensorHeader(tensors, metadata)


def header_bytes(tensors: Mapping[str, StoredTensor], metadata: Mapping[str, str]) -> bytes:
    """The beginning of a file that holds these tensors, one after the other in this order."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    first = 0
    for name, tensor in tensors.items():
        end = first + tensor.length
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [first, end]}
        first = end
    return packed(header)


def packed(header: Mapping[str, Any]) -> bytes:
    """A header as it stands at the beginning of a file, after its length."""
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)  # so that the tensors begin at a multiple of eight
    return len(text).to_bytes(8, "little") + text


def _stored(entry: Any, begin: int) -> StoredTensor:
    first, end = map(int, entry["data_offsets"])
    return StoredTensor(entry["dtype"], tuple(entry["shape"]), end - first, begin + first)
