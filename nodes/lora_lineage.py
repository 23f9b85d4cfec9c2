"""Which LoRAs a wired MODEL carries, and whether another one goes with them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..dspo_train.exceptions import DspoError
from ..dspo_train.lora.lineage import HASH, Lineage, NamedFile, conflicts, file_metadata, lineage_in
from . import places
from .loaded_name import loaded_loras, stem_of

CARRIED = "dspo_loras"  # an attachment of core's ModelPatcher: names of the LoRAs that our nodes put on it


def carried(cls: Any, model: Any, socket: str = "model") -> tuple[str, ...]:
    """The LoRAs on a node's MODEL, as ComfyUI lists them: of our own nodes, and of loaders along the wire."""
    named = loaded_loras(cls.hidden.prompt or {}, cls.hidden.unique_id, socket)
    return tuple(dict.fromkeys([*model.attachments.get(CARRIED, ()), *named]))


def carrying(model: Any, before: Any, name: str) -> Any:
    """The model, which notes that it carries one LoRA more than `before` did; an empty name is not noted."""
    if name:
        model.set_attachments(CARRIED, (*before.attachments.get(CARRIED, ()), name))
    return model


def stems(names: Iterable[str]) -> tuple[str, ...]:
    """Names of LoRAs without folder and suffix."""
    return tuple(map(stem_of, names))


def warnings(name: str, loaded: Iterable[str]) -> list[str]:
    """What is wrong with loading a LoRA onto a model that carries these; nothing where files say nothing."""
    if not name:
        return []
    others = dict(_read(other) for other in loaded)
    return conflicts(*_read(name), others)


def _read(name: str) -> tuple[NamedFile, Lineage]:
    try:
        metadata = file_metadata(places.lora(name))
    except DspoError:  # gone meanwhile, or of another machine
        metadata = {}
    return NamedFile(stem_of(name), metadata.get(HASH, "")), lineage_in(metadata)
