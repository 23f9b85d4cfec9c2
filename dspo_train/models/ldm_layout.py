"""Infer a model's architecture from the key names and shapes of an original (LDM / SGM) checkpoint.

Each function starts from a published config and replaces what the shapes show, so that reduced variants (SSD-1B, Vega,
KOALA, two-level test models) load without a config of their own. The way back, from diffusers' names to the original
ones, is here too. Shapes are by key, without the component's prefix.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..exceptions import ModelError
from .families import Shapes
from .unet_names import BlockLayout, ldm_path

HEAD_WIDTH = 64  # of every attention in SD2, SDXL and CLIP; SD1.x fixes the number of heads instead


def infer_unet_config(shapes: Shapes, template: Mapping[str, Any]) -> dict[str, Any]:
    """A diffusers UNet config: channels, residual blocks per level, transformer depths, input widths.

    Raises:
        ModelError: an arrangement that diffusers' UNet cannot express.
    """
    down = _down_levels(shapes)
    layers = _only([len(level) for level in down], "levels have different numbers of residual blocks")
    up = [
        [_depth(shapes, f"output_blocks.{n}.1") for n in range(first, first + layers + 1)]
        for first in range(0, _count(shapes, "output_blocks"), layers + 1)
    ]
    channels = [_only([width for width, _ in level], "channels change within a level") for level in down]
    down_depths = [[depth for _, depth in level] for level in down]
    middle = _depth(shapes, "middle_block.1")
    config = {
        **template,
        "block_out_channels": channels,
        "layers_per_block": layers,
        "down_block_types": ["CrossAttnDownBlock2D" if _attended(d) else "DownBlock2D" for d in down_depths],
        "up_block_types": ["CrossAttnUpBlock2D" if _attended(d) else "UpBlock2D" for d in up],
        "mid_block_type": _middle_type(shapes, middle),
        **_depths(down_depths, up, middle),
        "in_channels": shapes["input_blocks.0.0.weight"][1],
        "out_channels": shapes["out.2.weight"][0],
    }
    context = [shape[1] for key, shape in shapes.items() if key.endswith("attn2.to_k.weight")]
    if context:
        config["cross_attention_dim"] = context[0]
    if isinstance(template["attention_head_dim"], list):
        config["attention_head_dim"] = [_heads(width) for width in channels]
    if "time_embed.cond_proj.weight" in shapes:
        config["time_cond_proj_dim"] = shapes["time_embed.cond_proj.weight"][1]
    if "label_emb.0.0.weight" in shapes:
        config["projection_class_embeddings_input_dim"] = shapes["label_emb.0.0.weight"][1]
    return config


def infer_vae_config(shapes: Shapes, template: Mapping[str, Any]) -> dict[str, Any]:
    """A diffusers AutoencoderKL config: channels, residual blocks per level, latent channels."""
    levels = _count(shapes, "encoder.down")
    return {
        **template,
        "block_out_channels": [shapes[f"encoder.down.{i}.block.0.conv1.weight"][0] for i in range(levels)],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "layers_per_block": _count(shapes, "encoder.down.0.block"),
        "latent_channels": shapes["decoder.conv_in.weight"][1],
    }


def infer_clip_config(shapes: Shapes, template: Mapping[str, Any]) -> dict[str, Any]:
    """A CLIP text config from transformers' names (without `text_model.`)."""
    vocabulary, hidden = shapes["embeddings.token_embedding.weight"]
    return {
        **template,
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "max_position_embeddings": shapes["embeddings.position_embedding.weight"][0],
        "num_hidden_layers": _count(shapes, "encoder.layers"),
        "num_attention_heads": _heads(hidden),
        "intermediate_size": shapes["encoder.layers.0.mlp.fc1.weight"][0],
    }


def infer_open_clip_config(shapes: Shapes, template: Mapping[str, Any], *, unused_layers: int) -> dict[str, Any]:
    """A CLIP text config from open_clip's names; SD2 leaves the last layer unused."""
    vocabulary, hidden = shapes["token_embedding.weight"]
    config = {
        **template,
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "max_position_embeddings": shapes["positional_embedding"][0],
        "num_hidden_layers": _count(shapes, "transformer.resblocks") - unused_layers,
        "num_attention_heads": _heads(hidden),
        "intermediate_size": shapes["transformer.resblocks.0.mlp.c_fc.weight"][0],
    }
    if "text_projection" in shapes and not unused_layers:
        config["projection_dim"] = shapes["text_projection"][1]
    elif "text_projection.weight" in shapes:
        config["projection_dim"] = shapes["text_projection.weight"][0]
    return config


_NORMS = {"norm1": "in_layers.0", "norm2": "out_layers.0"}
"""A residual block's norms; `ldm_path` knows only the layers that a LoRA can adapt, which excludes norms."""


def original_names(keys: Iterable[str], config: Mapping[str, Any]) -> dict[str, str]:
    """The original checkpoint's name of each tensor of a diffusers UNet, without a prefix, by diffusers' name.

    >>> config = {"down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"], "layers_per_block": 2}
    >>> original_names(["down_blocks.0.resnets.1.norm2.bias"], config)
    {'down_blocks.0.resnets.1.norm2.bias': 'input_blocks.2.0.out_layers.0.bias'}

    Args:
        keys: of the UNet's `state_dict`.
        config: the UNet's diffusers config.
    """
    layout = BlockLayout.of(config)
    names: dict[str, str] = {}
    for key in keys:
        path, _, tensor = key.rpartition(".")
        place = "out.0" if path == "conv_norm_out" else ldm_path(path, layout)
        if ".resnets." in path:
            block, _, layer = place.rpartition(".")
            place = f"{block}.{_NORMS.get(layer, layer)}"
        names[key] = f"{place}.{tensor}"
    return names


def _down_levels(shapes: Shapes) -> list[list[tuple[int, int]]]:
    """(channels, transformer depth) of every residual block; a downsampler (`op`) ends a level."""
    levels: list[list[tuple[int, int]]] = [[]]
    for n in range(1, _count(shapes, "input_blocks")):
        if f"input_blocks.{n}.0.op.weight" in shapes:
            levels.append([])
        else:
            width = shapes[f"input_blocks.{n}.0.out_layers.3.weight"][0]
            levels[-1].append((width, _depth(shapes, f"input_blocks.{n}.1")))
    return levels


def _depths(down: list[list[int]], up: list[list[int]], middle: int) -> dict[str, Any]:
    """diffusers reads the middle block's depth from the last level's entry, whether or not that level has attention."""
    last = [depth or max(middle, 1) for depth in down[-1]]
    if middle and last[0] != middle:
        raise ModelError(
            f"the middle block has {middle} transformer layers but the level before it has {last[0]}; "
            "diffusers' UNet takes one number for both, so this model cannot be loaded"
        )
    per_level = [_plain([depth or 1 for depth in level]) for level in down[:-1]] + [_plain(last)]
    mirrored = all(set(u) == set(d) for d, u in zip(reversed(down), up, strict=True))
    if mirrored and all(isinstance(depth, int) for depth in per_level):
        return {"transformer_layers_per_block": 1 if set(per_level) == {1} else per_level}
    reverse = [_plain([depth or 1 for depth in level]) for level in up]
    return {"transformer_layers_per_block": per_level, "reverse_transformer_layers_per_block": reverse}


def _middle_type(shapes: Shapes, depth: int) -> str | None:
    if depth:
        return "UNetMidBlock2DCrossAttn"
    return "UNetMidBlock2D" if "middle_block.0.in_layers.0.weight" in shapes else None


def _attended(depths: list[int]) -> bool:
    if any(depths) and not all(depths):
        raise ModelError("a level has attention after some residual blocks only; diffusers' UNet has no such level")
    return any(depths)


def _depth(shapes: Shapes, place: str) -> int:
    return _count(shapes, f"{place}.transformer_blocks")


def _count(shapes: Shapes, place: str) -> int:
    """How many numbered children a module has."""
    start = place + "."
    return len({key[len(start) :].split(".", 1)[0] for key in shapes if key.startswith(start)})


def _heads(width: int) -> int:
    return max(1, width // HEAD_WIDTH)


def _plain(values: list[int]) -> int | list[int]:
    return values[0] if len(set(values)) == 1 else values


def _only(values: list[int], trouble: str) -> int:
    if len(set(values)) != 1:
        raise ModelError(f"{trouble} ({values}); diffusers' converter cannot load this model")
    return values[0]
