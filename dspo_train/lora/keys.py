"""The dialects in which LoRA files name the layers of a UNet. Pure functions on strings.

    diffusers  down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q     our own path of a layer
    LDM        input_blocks.4.1.transformer_blocks.0.attn1.to_q               the original code's path, SD1 to SDXL
    kohya      lora_unet_ + either path, its dots turned into underscores

An underscored name cannot be split back into a path, so it is looked up in a table built from the UNet's own layers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

from ..models.families import BlockNames
from ..models.unet_names import BlockLayout, ldm_path

Part = Literal["down", "up", "alpha"]

_PARTS: tuple[tuple[re.Pattern[str], Part], ...] = (
    (re.compile(r"\.lora_down\.weight$"), "down"),
    (re.compile(r"\.lora_up\.weight$"), "up"),
    (re.compile(r"\.lora_A(?:\.(?!bias$)\w+)??(?:\.weight)?$"), "down"),  # peft; a saved adapter name may stand between
    (re.compile(r"\.lora_B(?:\.(?!bias$)\w+)??(?:\.weight)?$"), "up"),
    (re.compile(r"(?:_lora|\.lora|\.lora_linear_layer)\.down\.weight$"), "down"),
    (re.compile(r"(?:_lora|\.lora|\.lora_linear_layer)\.up\.weight$"), "up"),
    (re.compile(r"\.alpha$"), "alpha"),
)
_UNDERSCORED = ("lora_unet_", "lycoris_")
_DOTTED = (
    "unet.base_model.model.",
    "base_model.model.unet.",
    "base_model.model.",
    "unet.",
    "model.diffusion_model.",
    "diffusion_model.",
    "",
)


def kohya_name(path: str, layout: BlockLayout, names: BlockNames) -> str:
    """The stem of a layer's three keys in the file: `.lora_down.weight`, `.lora_up.weight`, `.alpha`.

    >>> kohya_name("mid_block.attentions.0.proj_in", BlockLayout((2,) * 4, (False, True, True, True)), "diffusers")
    'lora_unet_mid_block_attentions_0_proj_in'
    """
    block_path = ldm_path(path, layout) if names == "ldm" else path
    return "lora_unet_" + block_path.replace(".", "_")


def name_table(paths: Iterable[str], layout: BlockLayout) -> dict[str, str]:
    """Every spelling of a UNet's layers, dotted or underscored, diffusers' or LDM's -> our path.

    Args:
        paths: diffusers paths of the UNet's linear and convolution layers.
    """
    table: dict[str, str] = {}
    for path in paths:
        for name in (path, ldm_path(path, layout)):
            table[name] = path
            table[name.replace(".", "_")] = path
    return table


def split_key(key: str) -> tuple[str, Part] | None:
    """A tensor's key -> the layer's name in the file's own spelling and the tensor's role; None for other tensors.

    >>> split_key("unet.mid_block.attentions.0.proj_in.lora_A.default.weight")
    ('unet.mid_block.attentions.0.proj_in', 'down')
    """
    for pattern, part in _PARTS:
        match = pattern.search(key)
        if match:
            return key[: match.start()], part
    return None


def resolve(name: str, table: Mapping[str, str]) -> str | None:
    """Our path of a layer as spelled in a file, prefix included; None if the UNet has no such layer.

    Args:
        table: the result of `name_table`.
    """
    for prefix in _UNDERSCORED:
        if name.startswith(prefix):
            return table.get(name[len(prefix) :])
    for prefix in _DOTTED:
        if name.startswith(prefix):
            found = table.get(_without_processor(name[len(prefix) :]))
            if found is not None:
                return found
    return None


def _without_processor(name: str) -> str:
    """Undo the names of diffusers before 0.22: `attn1.processor.to_out` is `attn1.to_out.0`."""
    if ".processor." not in name:
        return name
    plain = name.replace(".processor.", ".")
    return plain + ".0" if plain.endswith(".to_out") else plain


_OTHER_TENSORS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"^lora_te\d?_|^text_encoders?(_\d)?\.|(^|\.)text_model\."), "of the text encoder"),
    (re.compile(r"\.dora_scale$|\.lora_magnitude_vector(\.\w+)*$"), "of DoRA (magnitudes)"),
    (re.compile(r"\.lora_mid\.weight$"), "of LoCon (middle factors)"),
    (re.compile(r"\.hada_|\.lokr_|\.oft_|\.boft_|\.a1\.weight$|\.b1\.weight$"), "of LoHa, LoKr, OFT or GLoRA"),
    (
        re.compile(r"\.diff(_b)?$|\.w_norm$|\.b_norm$|\.set_weight$|\.lora_B.*\.bias$"),
        "of norms, biases or full differences",
    ),
)


def describe(key: str) -> str:
    """The kind of tensor that an unused key belongs to, in a few words."""
    for pattern, words in _OTHER_TENSORS:
        if pattern.search(key):
            return words
    return "of layers that this base lacks" if split_key(key) else "of an unknown kind"
