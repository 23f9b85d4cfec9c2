"""Random-weight Stable-Diffusion-class models of a few hundred thousand parameters, in memory and on disk.

The single-file writer spells the original (LDM / SGM / open_clip) key names out by hand, so that the loader, which
uses diffusers' converters, is checked against something it does not share code with.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

Family = Literal["sd15", "sd2", "sdxl"]
Prediction = Literal["epsilon", "v_prediction"]

HIDDEN = 32  # of the first text encoder; a head is 64 wide in the full models, so here there is one
HIDDEN_2 = 64  # of SDXL's second text encoder, and its projection
MERGES = ("r e", "re d</w>", "d o", "do g</w>")
SCALING = {"sd15": 0.18215, "sd2": 0.18215, "sdxl": 0.13025}

UNETS: dict[str, dict[str, Any]] = {
    "sd15": {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "cross_attention_dim": HIDDEN,
        "attention_head_dim": 8,
    },
    "sd2": {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "cross_attention_dim": HIDDEN,
        "attention_head_dim": [1, 1],
        "use_linear_projection": True,
    },
    "sdxl": {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 2,
        "cross_attention_dim": HIDDEN + HIDDEN_2,
        "attention_head_dim": [1, 1],
        "transformer_layers_per_block": [1, 2],
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": HIDDEN_2 + 6 * 256,
    },
}
VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (32, 32, 64, 64),
    "layers_per_block": 1,
    "latent_channels": 4,
}


def tiny_unet(family: Family, seed: int = 0, **changes: Any) -> UNet2DConditionModel:
    """Two levels of 32 and 64 channels; `changes` override the UNet's config."""
    config = {"sample_size": 8, "block_out_channels": (32, 64), **UNETS[family], **changes}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return UNet2DConditionModel(**config).eval().requires_grad_(False)


def tiny_vae(seed: int = 0, family: Family = "sd15") -> AutoencoderKL:
    """Eight pixels a latent, four latent channels."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoencoderKL(**VAE, scaling_factor=SCALING[family]).eval().requires_grad_(False)


def tiny_text_encoder(
    hidden: int = HIDDEN, layers: int = 2, *, projection: bool = False, act: str = "quick_gelu", seed: int = 0
) -> CLIPTextModel | CLIPTextModelWithProjection:
    config = CLIPTextConfig(
        vocab_size=len(tiny_vocabulary()),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        projection_dim=hidden,
        num_hidden_layers=layers,
        num_attention_heads=1,
        hidden_act=act,
        eos_token_id=2,  # as the published configs have it: "the end is the largest id"
        bos_token_id=0,
        pad_token_id=1,
    )
    kind = CLIPTextModelWithProjection if projection else CLIPTextModel
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return kind(config).eval().requires_grad_(False)


def tiny_text_encoders(family: Family, seed: int = 0) -> list[Any]:
    """One text encoder, or SDXL's two."""
    first_act = "gelu" if family == "sd2" else "quick_gelu"
    encoders: list[Any] = [tiny_text_encoder(act=first_act, seed=seed + 1)]
    if family == "sdxl":
        encoders.append(tiny_text_encoder(HIDDEN_2, 3, projection=True, act="gelu", seed=seed + 2))
    return encoders


def tiny_vocabulary() -> dict[str, int]:
    """CLIP's own order: printable bytes, the other bytes, both again as word ends, merges, start, end."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = 256 - len(printable)
    characters = [chr(b) for b in printable] + [chr(256 + n) for n in range(others)]
    tokens = [*characters, *(c + "</w>" for c in characters), *(m.replace(" ", "") for m in MERGES)]
    return {t: n for n, t in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}


def tiny_tokenizer(folder: Path, pad_token: str = "<|endoftext|>") -> CLIPTokenizer:
    """Write vocab.json, merges.txt and tokenizer_config.json into `folder` and load them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(tiny_vocabulary(), ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES, ""]), encoding="utf-8")
    settings = {"model_max_length": 77, "pad_token": pad_token, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return CLIPTokenizer.from_pretrained(str(folder))


def write_diffusers_folder(
    path: Path,
    family: Family,
    prediction: Prediction = "epsilon",
    seed: int = 0,
    *,
    variant: str | None = None,
    unet: UNet2DConditionModel | None = None,
    zero_snr: bool = False,
) -> Path:
    """A complete pipeline folder, as `save_pretrained` writes it."""
    (unet or tiny_unet(family, seed)).save_pretrained(path / "unet", variant=variant)
    tiny_vae(seed, family).save_pretrained(path / "vae", variant=variant)
    for n, encoder in enumerate(tiny_text_encoders(family, seed)):
        ending = "" if n == 0 else f"_{n + 1}"
        encoder.save_pretrained(path / f"text_encoder{ending}")
        if variant is not None:
            weights = path / f"text_encoder{ending}" / "model.safetensors"
            weights.rename(weights.with_name(f"model.{variant}.safetensors"))
        padded_by_zero = family == "sd2" or n == 1
        tiny_tokenizer(path / f"tokenizer{ending}", "!" if padded_by_zero else "<|endoftext|>")
    scheduler = {
        "_class_name": "DDIMScheduler",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "prediction_type": prediction,
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "rescale_betas_zero_snr": zero_snr,
    }
    _write_json(path / "scheduler" / "scheduler_config.json", scheduler)
    name = "StableDiffusionXLPipeline" if family == "sdxl" else "StableDiffusionPipeline"
    _write_json(path / "model_index.json", {"_class_name": name, "_diffusers_version": "0.32.0"})
    return path


def write_single_file(
    path: Path,
    family: Family,
    seed: int = 0,
    *,
    without: tuple[str, ...] = (),
    extra: dict[str, Tensor] | None = None,
    metadata: dict[str, str] | None = None,
    dtype: torch.dtype = torch.float32,
    unet: UNet2DConditionModel | None = None,
) -> Path:
    """The same weights as `write_diffusers_folder(..., seed=seed)` under their original names.

    Keys that start with one of `without` are left out; `extra` tensors are added.
    """
    tensors = {
        **_under("model.diffusion_model.", ldm_unet(unet or tiny_unet(family, seed))),
        **_under("first_stage_model.", ldm_vae(tiny_vae(seed, family))),
        **_ldm_text_encoders(family, seed),
    }
    kept = {k: v.to(dtype).contiguous() for k, v in tensors.items() if not k.startswith(without or ("\0",))}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({**kept, **{k: v.clone() for k, v in (extra or {}).items()}}, str(path), metadata=metadata)
    return path


RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET_ENDS = {
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}


def ldm_unet(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """A diffusers UNet's weights under LDM names, without the `model.diffusion_model.` prefix."""
    state, config = unet.state_dict(), unet.config
    levels, layers = len(config["block_out_channels"]), config["layers_per_block"]
    places = dict(UNET_ENDS)
    for i in range(levels):
        first = 1 + i * (layers + 1)
        for j in range(layers):
            places[f"down_blocks.{i}.resnets.{j}"] = f"input_blocks.{first + j}.0"
            places[f"down_blocks.{i}.attentions.{j}"] = f"input_blocks.{first + j}.1"
        places[f"down_blocks.{i}.downsamplers.0.conv"] = f"input_blocks.{first + layers}.0.op"
        first = i * (layers + 1)
        for j in range(layers + 1):
            places[f"up_blocks.{i}.resnets.{j}"] = f"output_blocks.{first + j}.0"
            places[f"up_blocks.{i}.attentions.{j}"] = f"output_blocks.{first + j}.1"
        attended = any(k.startswith(f"up_blocks.{i}.attentions") for k in state)
        upsampler = f"output_blocks.{first + layers}.{2 if attended else 1}.conv"
        places[f"up_blocks.{i}.upsamplers.0.conv"] = upsampler
    places |= {"mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1"}
    places["mid_block.resnets.1"] = "middle_block.2"
    return {_moved(k, places, RESNET): v for k, v in state.items()}


def ldm_vae(vae: AutoencoderKL) -> dict[str, Tensor]:
    """A diffusers VAE's weights under LDM names, without the `first_stage_model.` prefix."""
    last = len(vae.config["block_out_channels"]) - 1
    renames = [
        (r"down_blocks\.(\d)\.resnets", r"down.\1.block"),
        (r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample"),
        (r"up_blocks\.(\d)\.resnets", lambda m: f"up.{last - int(m[1])}.block"),
        (r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{last - int(m[1])}.upsample"),
        (r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}"),
        (r"mid_block\.attentions\.0\.group_norm", "mid.attn_1.norm"),
        (r"mid_block\.attentions\.0\.to_([qkv])", r"mid.attn_1.\1"),
        (r"mid_block\.attentions\.0\.to_out\.0", "mid.attn_1.proj_out"),
        ("conv_shortcut", "nin_shortcut"),
        ("conv_norm_out", "norm_out"),
    ]
    out = {}
    for key, value in vae.state_dict().items():
        if "attentions" in key and value.ndim == 2:
            value = value[:, :, None, None]  # the original writes its attention as 1x1 convolutions
        for pattern, replacement in renames:
            key = re.sub(pattern, replacement, key)
        out[key] = value
    return out


def open_clip(encoder: nn.Module) -> dict[str, Tensor]:
    """A transformers CLIP text encoder's weights under open_clip names (fused query, key and value)."""
    state = {k.removeprefix("text_model."): v for k, v in encoder.state_dict().items()}
    renames = [
        (r"^encoder\.layers", "transformer.resblocks"),
        (r"layer_norm([12])", r"ln_\1"),
        (r"mlp\.fc1", "mlp.c_fc"),
        (r"mlp\.fc2", "mlp.c_proj"),
        (r"self_attn\.out_proj", "attn.out_proj"),
        (r"^final_layer_norm", "ln_final"),
        (r"^embeddings\.token_embedding", "token_embedding"),
        (r"^embeddings\.position_embedding\.weight", "positional_embedding"),
    ]
    out = {"logit_scale": torch.tensor(4.6)}
    for key, value in state.items():
        fused = re.match(r"encoder\.layers\.(\d+)\.self_attn\.q_proj\.(weight|bias)", key)
        if fused:
            parts = [state[key.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
            out[f"transformer.resblocks.{fused[1]}.attn.in_proj_{fused[2]}"] = torch.cat(parts)
        elif key == "text_projection.weight":
            out["text_projection"] = value.T.contiguous()
        elif not re.search(r"[kv]_proj|position_ids", key):
            for pattern, replacement in renames:
                key = re.sub(pattern, replacement, key)
            out[key] = value
    return out


def _ldm_text_encoders(family: Family, seed: int) -> dict[str, Tensor]:
    first, *second = tiny_text_encoders(family, seed)
    if family == "sd2":
        names = open_clip(first)
        layers = first.config.num_hidden_layers
        # SD2 reads the penultimate layer; the original file holds the last one too, which nothing uses.
        last = {k: v + 1 for k, v in names.items() if f"resblocks.{layers - 1}." in k}
        names |= {k.replace(f"resblocks.{layers - 1}.", f"resblocks.{layers}."): v for k, v in last.items()}
        return _under("cond_stage_model.model.", {**names, "text_projection": torch.eye(HIDDEN)})
    prefix = "conditioner.embedders.0.transformer." if second else "cond_stage_model.transformer."
    plain = {k.removeprefix("text_model."): v for k, v in first.state_dict().items()}
    out = _under(prefix + "text_model.", plain)
    for encoder in second:
        out |= _under("conditioner.embedders.1.model.", open_clip(encoder))
    return out


def _moved(key: str, places: dict[str, str], inner: dict[str, str]) -> str:
    for old, new in places.items():
        if key.startswith(old + "."):
            rest = key[len(old) + 1 :]
            module, _, leaf = rest.rpartition(".")
            resnet = "resnets" in old and module in inner
            return f"{new}.{inner[module]}.{leaf}" if resnet else f"{new}.{rest}"
    raise KeyError(key)


def _under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + k: v for k, v in state.items()}


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
