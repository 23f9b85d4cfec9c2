"""A LoRA from a wire or by name: the two inputs, and what they resolve to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.utils
from comfy_api.v0_0_2 import io

from ..dspo_train.exceptions import LoraFileError
from . import places
from .sockets import LoraModel


class NamedLora(dict[str, Any]):
    """The tensors of a LoRA with the name by which ComfyUI lists its file."""

    def __init__(self, tensors: Mapping[str, Any], name: str) -> None:
        super().__init__(tensors)
        self.name = name


def lora_inputs() -> list[io.Input]:
    """The wire `lora` and the list `lora_name`; both optional, and the wire counts where both are given."""
    return [
        LoraModel.Input("lora", optional=True, tooltip="A LoRA from DSPO Train LoRA. Takes precedence over the name."),
        io.Combo.Input(
            "lora_name",
            options=[places.NO_LORA, *places.loras()],
            default=places.NO_LORA,
            optional=True,
            tooltip="A LoRA from ComfyUI's list; those of DSPO Train LoRA are in the folder dspo.",
        ),
    ]


def is_named(lora_name: str | None) -> bool:
    return bool(lora_name) and lora_name.strip() not in ("", places.NO_LORA)


def chosen(lora: dict | None, lora_name: str) -> dict:
    """The tensors of the wired LoRA, or else of the named one.

    Raises:
        LoraFileError: there is neither, or ComfyUI lists no such file.
    """
    if lora is not None:
        return lora
    if not is_named(lora_name):
        raise LoraFileError("no LoRA is given; wire one into `lora`, or choose one in `lora_name`")
    return comfy.utils.load_torch_file(str(places.lora(lora_name.strip())), safe_load=True)


def listed_name(lora: dict | None, lora_name: str) -> str:
    """By which ComfyUI lists the LoRA; empty for a wired one that does not say."""
    if lora is not None:
        return getattr(lora, "name", "")
    return lora_name.strip() if is_named(lora_name) else ""


def name_of(lora: dict | None, lora_name: str) -> str:
    """What messages call it."""
    return "on the wire" if lora is not None else ascii(lora_name.strip())


def lora_stamp(lora_name: str | None) -> str:
    """Changes when the named file does."""
    return str(places.stamp(places.lora(lora_name.strip()))) if lora_name and is_named(lora_name) else ""
