"""A LoRA from a wire or by name: the two inputs, and what they resolve to."""

from __future__ import annotations

import comfy.utils
from comfy_api.v0_0_2 import io

from ..dspo_train.exceptions import LoraFileError
from . import places
from .sockets import LoraModel


def lora_inputs() -> list[io.Input]:
    return [
        LoraModel.Input("lora", optional=True, tooltip="A LoRA from DSPO Train LoRA. Takes precedence over the name."),
        io.String.Input(
            "lora_name",
            default="",
            optional=True,
            tooltip="Name of a LoRA as ComfyUI lists it, such as dspo/my-taste-01.safetensors.",
        ),
    ]


def chosen(lora: dict | None, lora_name: str) -> dict:
    """The tensors of the wired LoRA, or else of the named one.

    Raises:
        LoraFileError: there is neither, or ComfyUI lists no such file.
    """
    if lora is not None:
        return lora
    if not lora_name.strip():
        raise LoraFileError("no LoRA is given; wire one into `lora`, or write its name into `lora_name`")
    return comfy.utils.load_torch_file(str(places.lora(lora_name.strip())), safe_load=True)


def name_of(lora: dict | None, lora_name: str) -> str:
    """What messages call it."""
    return "on the wire" if lora is not None else ascii(lora_name.strip())


def lora_stamp(lora_name: str | None) -> str:
    """Changes when the named file does."""
    if not lora_name or not lora_name.strip():
        return ""
    return str(places.stamp(places.lora(lora_name.strip())))
