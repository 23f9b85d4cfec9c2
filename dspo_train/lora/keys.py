"""The dialects in which LoRA files name the layers of a UNet. Pure functions on strings.

    diffusers  down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q     our own path of a layer
    LDM        input_blocks.4.1.transformer_blocks.0.attn1.to_q               the original code's path, SD1 to SDXL
    kohya      lora_unet_ + either path, its dots turned into underscores

An underscored name cannot be split back into a path, so it is looked up in a table built from the UNet's own layers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..exceptions import LoraFileError

BlockNames = Literal["diffusers", "ldm"]
Part = Literal["down", "up", "alpha"]

BLOCK_NAMES: Mapping[str, BlockNames] = {"sd15": "diffusers", "sd2": "diffusers", "sdxl": "ldm"}
"""The block names that kohya's own trainer writes for each family; every reader accepts them."""

_FIXED = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_RESNET = {
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_BLOCK = re.compile(
    r"(?:(down_blocks|up_blocks)\.(\d+)|(mid_block))\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)"
)

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


@dataclass(frozen=True)
class BlockLayout:
    """What of a UNet's config decides the LDM block numbers.

    Attributes:
        layers: residual layers of each down block, outermost first; an up block has one more.
        up_attends: whether each up block has attention, in the order of `up_blocks`.
    """

    layers: tuple[int, ...]
    up_attends: tuple[bool, ...]

    @classmethod
    def of(cls, unet_config: Mapping[str, Any]) -> BlockLayout:
        """Read a diffusers `UNet2DConditionModel` config."""
        blocks, layers = unet_config["down_block_types"], unet_config["layers_per_block"]
        per_block = (layers,) * len(blocks) if isinstance(layers, int) else tuple(layers)
        return cls(per_block, tuple("Attn" in kind for kind in unet_config["up_block_types"]))


def ldm_path(path: str, layout: BlockLayout) -> str:
    """The original code's path of a linear or convolution layer that diffusers calls `path`.

    >>> sdxl = BlockLayout((2, 2, 2), (True, True, False))
    >>> ldm_path("down_blocks.1.attentions.0.proj_in", sdxl)
    'input_blocks.4.1.proj_in'

    Raises:
        LoraFileError: the layer has no place in the original architecture.
    """
    if path in _FIXED:
        return _FIXED[path]
    match = _BLOCK.fullmatch(path)
    if match is None:
        raise LoraFileError(f"layer {path!r} has no name in the Stable Diffusion file format")
    side, block, mid, kind, place, rest = match.groups()
    if kind == "resnets":
        rest = _RESNET.get(rest, rest)
    if mid:
        # One transformer between two residual layers: 0, 1, 2.
        return f"middle_block.{2 * int(place) + (kind == 'attentions')}.{rest}"
    if side == "down_blocks":
        return _down(layout, int(block), kind, int(place), rest)
    return _up(layout, int(block), kind, int(place), rest)


def _down(layout: BlockLayout, block: int, kind: str, place: int, rest: str) -> str:
    first = 1 + sum(n + 1 for n in layout.layers[:block])  # block 0 is conv_in; each level ends in a downsampler
    if kind == "downsamplers":
        return f"input_blocks.{first + layout.layers[block]}.0.op"
    return f"input_blocks.{first + place}.{int(kind == 'attentions')}.{rest}"


def _up(layout: BlockLayout, block: int, kind: str, place: int, rest: str) -> str:
    layers = [n + 1 for n in reversed(layout.layers)]
    first = sum(layers[:block])
    if kind == "upsamplers":
        return f"output_blocks.{first + layers[block] - 1}.{2 if layout.up_attends[block] else 1}.conv"
    return f"output_blocks.{first + place}.{int(kind == 'attentions')}.{rest}"


def kohya_name(path: str, layout: BlockLayout, names: BlockNames) -> str:
    """The stem of a layer's three keys in the file: `.lora_down.weight`, `.lora_up.weight`, `.alpha`.

    >>> kohya_name("mid_block.attentions.0.proj_in", BlockLayout((2,) * 4, (False, True, True, True)), "diffusers")
    'lora_unet_mid_block_attentions_0_proj_in'
    """
    block_path = ldm_path(path, layout) if names == "ldm" else path
    return "lora_unet_" + block_path.replace(".", "_")


def name_table(paths: Iterable[str], layout: BlockLayout) -> dict[str, str]:
    """Every spelling of a UNet's layers, dotted and underscored, diffusers' and LDM's -> our path.

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
    """Our path of a layer spelled as in a file, prefix included; None if the UNet has no such layer.

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
    (re.compile(r"\.dora_scale$|\.lora_magnitude_vector(\.\w+)*$"), "DoRA magnitudes"),
    (re.compile(r"\.lora_mid\.weight$"), "LoCon middle factors"),
    (re.compile(r"\.hada_|\.lokr_|\.oft_|\.boft_|\.a1\.weight$|\.b1\.weight$"), "LoHa, LoKr, OFT or GLoRA factors"),
    (re.compile(r"\.diff(_b)?$|\.w_norm$|\.b_norm$|\.set_weight$|\.lora_B.*\.bias$"), "norm, bias or full differences"),
)


def describe(key: str) -> str:
    """In a few words, what kind of tensor a key that no layer uses belongs to."""
    for pattern, words in _OTHER_TENSORS:
        if pattern.search(key):
            return words
    return "of layers that this base does not have" if split_key(key) else "of an unknown kind"
