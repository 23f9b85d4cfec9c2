"""The original code's (LDM's, SGM's) names of a diffusers UNet's layers. Pure functions on strings.

diffusers  down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q
LDM        input_blocks.4.1.transformer_blocks.0.attn1.to_q
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..exceptions import LoraFileError

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


@dataclass(frozen=True)
class BlockLayout:
    """The parts of a UNet's config that determine the LDM block numbers.

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
    """The original code's path of the linear or convolution layer that diffusers calls `path`.

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
        # residual layer 0, transformer 1, residual layer 2
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
