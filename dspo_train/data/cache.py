"""A folder of encodings, in files named by a hash of what they were made from."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from .. import files
from ..exceptions import RunError

_LAYOUT = "1"  # part of every name; raise it when the meaning of the files' content changes


class EncodingCache:
    """A folder of encodings, shared by any number of runs and processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def place(self, kind: str, *parts: object) -> Path:
        """The file for an encoding, named by a hash of everything it depends on."""
        name = files.digest(_LAYOUT, *parts)
        return self.folder / kind / name[:2] / f"{name}.safetensors"

    def read(self, path: Path) -> dict[str, Tensor]:
        """Read an encoding; a RunError if the file is missing or damaged."""
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise RunError(f"cached encoding {path} cannot be read ({error}); start the same run again") from error

    def has(self, path: Path) -> bool:
        """Is the encoding there and intact? A damaged file counts as missing and is made again."""
        if not path.exists():
            return False
        try:
            load_file(path)
        except (OSError, SafetensorError):
            return False
        return True

    def write(self, path: Path, tensors: dict[str, Tensor]) -> None:
        files.write_bytes(path, to_bytes({k: t.detach().cpu().contiguous() for k, t in tensors.items()}))
