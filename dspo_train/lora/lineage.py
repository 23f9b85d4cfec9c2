"""From which LoRAs a LoRA was made: those that it contains, and those that it was trained beside."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from .header import tensor_hash

CONTAINS = "dspo.contains"
TRAINED_WITH = "dspo.trained_with"
HASH = "sshs_model_hash"


@dataclass(frozen=True)
class NamedFile:
    """A LoRA: the name of its file without folder and suffix, and the hash of its tensors; empty if unknown."""

    name: str
    hash: str = ""

    def same(self, other: NamedFile) -> bool:
        """By their tensors where both are known, since files are renamed."""
        if self.hash and other.hash:
            return self.hash == other.hash
        return self.name.casefold() == other.name.casefold()


@dataclass(frozen=True)
class Lineage:
    """
    Attributes:
        contains: LoRAs that were refined into this one, its parent first: loading one besides counts it twice.
        trained_with: names of LoRAs on the model that it was trained on: it does not contain them.
    """

    contains: tuple[NamedFile, ...] = ()
    trained_with: tuple[str, ...] = ()

    @property
    def parent(self) -> str:
        return self.contains[0].name if self.contains else ""

    def metadata(self) -> dict[str, str]:
        """For the file; empty values are left out by who writes it."""
        contains = [{"name": one.name, "hash": one.hash} for one in self.contains]
        return {
            CONTAINS: json.dumps(contains, ensure_ascii=False) if contains else "",
            TRAINED_WITH: json.dumps(list(self.trained_with), ensure_ascii=False) if self.trained_with else "",
        }


def lineage_in(metadata: Mapping[str, str]) -> Lineage:
    """What a file's metadata says; nothing where it says nothing that can be read."""
    contains = [
        NamedFile(str(one["name"]), str(one.get("hash", "")))
        for one in _list(metadata.get(CONTAINS))
        if isinstance(one, dict) and "name" in one
    ]
    return Lineage(tuple(contains), tuple(str(one) for one in _list(metadata.get(TRAINED_WITH))))


def refined_from(parent: Path, name: str, wired: Sequence[str] = ()) -> Lineage:
    """Of a LoRA that starts from another.

    Args:
        parent: that LoRA's file, or a copy of it.
        name: of the original file, without suffix.
        wired: LoRAs on the model, by their files' names.
    """
    metadata = file_metadata(parent)
    known = metadata.get(HASH) or _hash(parent)
    return Lineage((NamedFile(name, known), *lineage_in(metadata).contains), tuple(wired))


def file_metadata(path: Path) -> dict[str, str]:
    """A safetensors file's own; empty for other files and for what cannot be read."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return file.metadata() or {}
    except (OSError, SafetensorError):
        return {}


def conflicts(lora: NamedFile, made: Lineage, loaded: Mapping[NamedFile, Lineage]) -> list[str]:
    """What is wrong with loading a LoRA onto a model that carries others, a sentence each.

    Args:
        loaded: those that the model carries already.
    """
    found = []
    for other, its in loaded.items():
        if any(one.same(other) for one in made.contains):
            found.append(f"{lora.name} contains {other.name} already, and {other.name} is loaded too: take it out")
        elif any(one.same(lora) for one in its.contains):
            found.append(f"{other.name}, which is loaded too, contains {lora.name} already: take one of them out")
        elif lora.same(other):
            found.append(f"{lora.name} is loaded twice")
    names = {other.name.casefold() for other in loaded}
    missing = [name for name in made.trained_with if name.casefold() not in names]
    if missing:
        found.append(f"{lora.name} was trained on a model with {' and '.join(missing)}, which is not loaded here")
    return found


def _hash(path: Path) -> str:
    try:
        return tensor_hash(path.read_bytes())
    except OSError:
        return ""


def _list(text: str | None) -> list[object]:
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return []
    return found if isinstance(found, list) else []
