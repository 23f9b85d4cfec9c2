"""The published names of tensors, translated into those of transformers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

# open_clip (and HPS) -> CLIPModel, but for the layers and the matrices that stand the other way round
_CLIP = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "logit_scale": "logit_scale",
}
_TRANSPOSED = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
_TOWERS = {"visual.transformer.resblocks.": "vision_model", "transformer.resblocks.": "text_model"}
_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
_UNUSED = ("attn_mask", "logit_bias")

# BLIP's vision transformer -> BlipVisionModel
_BLIP = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding",
    "patch_embed.proj": "embeddings.patch_embedding",
    "norm": "post_layernorm",
}
_BLIP_LAYER = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attn.qkv": "self_attn.qkv",
    "attn.proj": "self_attn.projection",
}
_REWARD = {"blip.visual_encoder.": "vision", "blip.text_encoder.": "text", "mlp.": "head"}


def clip_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A CLIP's tensors under the names of `CLIPModel`; those of open_clip are translated, others stay."""
    if "visual.conv1.weight" not in state:
        return dict(state)
    return dict(pair for key, value in state.items() if key not in _UNUSED for pair in _clip_tensor(key, value))


def _clip_tensor(key: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """One tensor's new name; open_clip keeps queries, keys and values in one."""
    if key in _TRANSPOSED:
        yield _TRANSPOSED[key], value.T.contiguous()
        return
    tower = next((start for start in _TOWERS if key.startswith(start)), None)
    if tower is None:
        yield _CLIP.get(key, key), value
        return
    number, _, place = key.removeprefix(tower).partition(".")
    layer = f"{_TOWERS[tower]}.encoder.layers.{number}"
    if place.startswith("attn.in_proj_"):
        ending = place.removeprefix("attn.in_proj_")
        for name, part in zip("qkv", value.chunk(3), strict=True):
            yield f"{layer}.self_attn.{name}_proj.{ending}", part.contiguous()
        return
    module, _, ending = place.rpartition(".")
    yield f"{layer}.{_LAYER.get(module, module)}.{ending}", value


def image_reward_parts(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """ImageReward's tensors by part: `vision`, `text` and `head`, each under the names of its module.

    Those of BLIP that it does not use (`blip.vision_proj`, `blip.text_proj`) are left out.
    """
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in _REWARD.values()}
    for key, value in state.items():
        for start, part in _REWARD.items():
            if key.startswith(start):
                name = key.removeprefix(start)
                parts[part][_blip_vision(name) if part == "vision" else name] = value
    return parts


def _blip_vision(name: str) -> str:
    if name in _BLIP:
        return _BLIP[name]
    module, _, ending = name.rpartition(".")
    if not module.startswith("blocks."):
        return f"{_BLIP.get(module, module)}.{ending}"
    _, number, place = module.split(".", 2)
    return f"encoder.layers.{number}.{_BLIP_LAYER.get(place, place)}.{ending}"
