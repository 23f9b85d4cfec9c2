"""The files of published scorers: found on this machine, never downloaded, and read without running code."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ..exceptions import ModelError
from ..files.content import damage
from ..models.weights import fill


@dataclass(frozen=True)
class WeightFile:
    """One file that a scorer needs.

    Attributes:
        repository: on Hugging Face, `owner/name`.
        names: under which it is published; any of them will do, and the first is recommended.
        size: of the first, for people.
        licence: of what the file holds.
    """

    repository: str
    names: tuple[str, ...]
    size: str
    licence: str

    @property
    def command(self) -> str:
        """What downloads it into the Hugging Face cache."""
        return f"hf download {self.repository} {self.names[0]}"

    @property
    def described(self) -> str:
        """Its name, where it is from, its size and its licence."""
        return f"{self.names[0]} of {self.repository} ({self.size}, licence: {self.licence})"


@dataclass(frozen=True)
class Found:
    """A scorer's file on this machine."""

    file: WeightFile
    path: Path
    scorer: str

    def read(self) -> dict[str, Tensor]:
        """All tensors, on the CPU; those of safetensors and of torch's zip files stay mapped from disk.

        A pickle is read with `weights_only`: one that holds anything but tensors is refused, as it could run code.

        Raises:
            ModelError: the file is damaged, or holds more or less than tensors.
        """
        try:
            if self.path.suffix == ".safetensors":
                with safe_open(str(self.path), framework="pt") as file:
                    return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            whole = zipfile.is_zipfile(self.path)
            state = torch.load(self.path, map_location="cpu", weights_only=True, mmap=whole)
        except MemoryError:
            raise
        except Exception as error:  # torch.load raises many types on damaged files
            self.refuse(self._fault(error), error)
        if isinstance(state, dict):
            state = state.get("state_dict", state)
        if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
            self.refuse("holds something else than a model's weights")
        return {key.removeprefix("module."): value for key, value in state.items()}

    def fill(self, model: nn.Module, state: dict[str, Tensor], dtype: torch.dtype) -> None:
        """Put weights into an empty model, which is then frozen and in eval mode.

        Raises:
            ModelError: they are another model's, or not finite.
        """
        try:
            fill(model, state, dtype, str(self.path))
        except ModelError as error:
            raise ModelError(f"{error}; {self._wanted}") from error

    def refuse(self, what: str, error: Exception | None = None) -> NoReturn:
        """Raise a ModelError: the path, what is wrong with it, and which file is wanted."""
        raise ModelError(f"{self.path} {what}; {self._wanted}") from error

    @property
    def _wanted(self) -> str:
        return needs(self.scorer, self.file)

    def _fault(self, error: Exception) -> str:
        told = damage(self.path)
        if self.path.suffix == ".safetensors" or "web page" in told or "git-lfs" in told:
            return told
        if "unsupported global" in str(error).lower():
            return "holds more than weights, which is not read, as it could run code"
        return "is damaged or not fully downloaded"


def find_all(scorer: str, wanted: Sequence[WeightFile], given: Path | None) -> list[Found]:
    """Where a scorer's files lie: at a path that is given, else in the local Hugging Face cache.

    Args:
        scorer: its title, for messages.
        wanted: the scorer's own file first.
        given: that file, or a folder. The folder, or that of the file, may hold the others too, each under its name
            or in a folder that is called as its repository (without the owner); others are looked for in the cache.

    Raises:
        ModelError: a file is nowhere; it says where was looked, and how to get it.
    """
    if given is not None and not given.exists():
        raise ModelError(f"{given}: no such file or folder; {needs(scorer, wanted[0])}")
    own, *others = wanted
    folder = given if given is None or given.is_dir() else given.parent
    if given is not None:
        first = given if given.is_file() else _in_folder(own, given)
        if first is None:
            raise ModelError(f"{given} holds none of {', '.join(own.names)}; {needs(scorer, own)}")
    else:
        first = _in_cache(own) or _missing(scorer, own, None)
    paths = [first, *(_in_folder(file, folder) or _in_cache(file) or _missing(scorer, file, folder) for file in others)]
    return [Found(file, path, scorer) for file, path in zip(wanted, paths, strict=True)]


def _in_folder(file: WeightFile, folder: Path | None) -> Path | None:
    if folder is None:
        return None
    own = folder / file.repository.rpartition("/")[2]
    places = (place / name for place in (own, folder) for name in file.names)
    return next((path for path in places if path.is_file()), None)


def _in_cache(file: WeightFile) -> Path | None:
    from huggingface_hub import try_to_load_from_cache  # takes a while to import

    found = (try_to_load_from_cache(file.repository, name) for name in file.names)
    return next((Path(path) for path in found if isinstance(path, str)), None)


def _missing(scorer: str, file: WeightFile, folder: Path | None) -> NoReturn:
    from huggingface_hub import constants

    where = f"in the Hugging Face cache ({constants.HF_HUB_CACHE})"
    looked = f"not {where}" if folder is None else f"neither in {folder} nor {where}"
    raise ModelError(f"{needs(scorer, file)}; it is {looked}")


def needs(scorer: str, file: WeightFile) -> str:
    """Which file a scorer needs, under which licence, and how to get it."""
    return f"{scorer} needs {file.described}: get it with '{file.command}'"
