"""Small random-weight models of every family, as the MODEL, CLIP and VAE objects that ComfyUI's loaders give.

Imported only in ComfyUI's Python, with the checkout on sys.path before this folder. Each diffusion model has the width
and depth that ComfyUI's detection by shapes leaves free at their smallest, and goes through ComfyUI's own loaders, so
its kind of prediction, noise schedule, latent format and casting are the real family's.

Tensors are made in the mode that `make` is called in: under `torch.inference_mode()`, as in a graph's loader nodes,
they are inference tensors.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import comfy.ops  # pyright: ignore[reportMissingImports]
import comfy.quant_ops  # pyright: ignore[reportMissingImports]
import comfy.sd  # pyright: ignore[reportMissingImports]
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel  # pyright: ignore[reportMissingImports]
from tiny_clips import FORMS, clip_sd15, clip_sdxl, tiny_clip
from tiny_vaes import drawn, vae_flux, vae_flux2, vae_sd, vae_wan
from torch import Tensor, nn

Quantised = Literal["fp8", "fp8_scaled", "int8", "int8_convrot"]
State = dict[str, Tensor]
PREFIX = "model.diffusion_model."  # in a checkpoint, whose other keys say how the model predicts
QUANTISED_IN = ("blocks.", "layers.", "refiner.")  # published files quantise the blocks' matrices alone
LAYOUTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {  # a layout, how it is drawn, what the file says
    "fp8_scaled": ("TensorCoreFP8E4M3Layout", {"scale": "recalculate"}, {"format": "float8_e4m3fn"}),
    "int8": ("TensorWiseINT8Layout", {"per_channel": True}, {"format": "int8_tensorwise"}),
    "int8_convrot": (
        "TensorWiseINT8Layout",
        {"per_channel": True, "convrot": True, "convrot_groupsize": 256},
        {"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": 256},
    ),
}


@dataclass(frozen=True)
class Family:
    """How a family's three objects are made."""

    net: str  # module:class, looked up late because older cores lack some
    sizes: dict[str, Any]
    clip: Callable[[int], Any]
    vae: Callable[[int], Any]
    marks: tuple[str, ...] = ()  # empty tensors in the checkpoint that say how the model predicts


UNET = {
    "image_size": 32,
    "use_spatial_transformer": True,
    "legacy": False,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
}
SD15 = {
    **UNET,
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 1],
    "transformer_depth": [1, 1],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1],
    "context_dim": 768,
    "num_heads": 8,
}
SD2 = {**SD15, "context_dim": 1024, "use_linear_in_transformer": True, "num_heads": -1, "num_head_channels": 64}
SDXL = {  # recognised as Segmind Vega, a class of SDXL's whose levels are shallow
    **UNET,
    "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 1, 1],
    "transformer_depth": [0, 0, 1, 1, 2, 2],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [0, 0, 0, 1, 0, 0, 1, 0, 0],
    "context_dim": 2048,
    "num_head_channels": 64,
    "use_linear_in_transformer": True,
    "num_classes": "sequential",
    "adm_in_channels": 2816,
}
SD35 = {
    "input_size": None,
    "in_channels": 16,
    "out_channels": 16,
    "depth": 2,
    "num_patches": 64 * 64,
    "pos_embed_max_size": 64,
    "adm_in_channels": FORMS["sd35"].pooled,
    "context_embedder_config": {
        "target": "torch.nn.Linear",
        "params": {"in_features": FORMS["sd35"].width, "out_features": 128},
    },
    "qk_norm": "rms",
    "x_block_self_attn_layers": [0],
}
FLUX = {
    "axes_dim": [16, 56, 56],
    "theta": 10000,
    "mlp_ratio": 4.0,
    "qkv_bias": True,
    "txt_ids_dims": [],
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "hidden_size": 256,
    "num_heads": 2,
    "depth": 2,
    "depth_single_blocks": 2,
    "context_in_dim": FORMS["flux"].width,
    "vec_in_dim": FORMS["flux"].pooled,
    "guidance_embed": True,
}
FLUX2 = {
    **FLUX,
    "axes_dim": [32, 32, 32, 32],
    "theta": 2000,
    "mlp_ratio": 3.0,
    "qkv_bias": False,
    "txt_ids_dims": [3],
    "patch_size": 1,
    "in_channels": 128,
    "out_channels": 128,
    "context_in_dim": FORMS["flux2"].width,
    "vec_in_dim": None,
    "guidance_embed": False,
    "global_modulation": True,
    "mlp_silu_act": True,
    "ops_bias": False,
}
LUMINA2 = {
    "in_channels": 16,
    "dim": 2304,
    "n_layers": 1,
    "n_heads": 24,
    "n_kv_heads": 8,
    "qk_norm": True,
    "cap_feat_dim": FORMS["lumina2"].width,
    "axes_dims": [32, 32, 32],
    "axes_lens": [300, 512, 512],
    "ffn_dim_multiplier": 4.0,
}
ZIMAGE = {
    **LUMINA2,
    "dim": 3840,
    "n_heads": 30,
    "n_kv_heads": 30,
    "cap_feat_dim": FORMS["zimage"].width,
    "axes_dims": [32, 48, 48],
    "axes_lens": [1536, 512, 512],
    "rope_theta": 256.0,
    "ffn_dim_multiplier": 8.0 / 3.0,
    "z_image_modulation": True,
    "time_scale": 1000.0,
    "pad_tokens_multiple": 32,
}
CHROMA = {
    **{key: FLUX[key] for key in ("axes_dim", "theta", "mlp_ratio", "qkv_bias", "txt_ids_dims", "patch_size")},
    "in_channels": 64,
    "out_channels": 64,
    "hidden_size": 3072,
    "num_heads": 24,
    "depth": 1,
    "depth_single_blocks": 1,
    "context_in_dim": FORMS["chroma"].width,
    "vec_in_dim": None,
    "in_dim": 64,
    "out_dim": 3072,
    "hidden_dim": 5120,
    "n_layers": 5,
}
ANIMA = {
    "max_img_h": 240,
    "max_img_w": 240,
    "max_frames": 128,
    "in_channels": 16,
    "out_channels": 16,
    "patch_spatial": 2,
    "patch_temporal": 1,
    "model_channels": 2048,
    "num_heads": 16,
    "num_blocks": 1,
    "crossattn_emb_channels": 1024,
    "pos_emb_cls": "rope3d",
    "pos_emb_learnable": True,
    "use_adaln_lora": True,
    "adaln_lora_dim": 256,
}
LDM = "comfy.ldm."
OPENAI = LDM + "modules.diffusionmodules.openaimodel:UNetModel"
LUMINA = LDM + "lumina.model:NextDiT"
MMDIT = LDM + "modules.diffusionmodules.mmdit:OpenAISignatureMMDITWrapper"
QWEN = LDM + "qwen_image.model:QwenImageTransformer2DModel"


def _form(name: str) -> Callable[[int], Any]:
    return partial(tiny_clip, FORMS[name])


FAMILIES = {
    "sd15": Family(OPENAI, SD15, clip_sd15, vae_sd),
    "sd2": Family(OPENAI, SD2, _form("sd2"), vae_sd),
    "sdxl": Family(OPENAI, SDXL, clip_sdxl, vae_sd),
    "sdxl_v": Family(OPENAI, SDXL, clip_sdxl, vae_sd, marks=("v_pred", "ztsnr")),
    "sd35": Family(MMDIT, SD35, _form("sd35"), vae_flux),
    "flux": Family(LDM + "flux.model:Flux", FLUX, _form("flux"), vae_flux),
    "flux2": Family(LDM + "flux.model:Flux", FLUX2, _form("flux2"), vae_flux2),
    "zimage": Family(LUMINA, ZIMAGE, _form("zimage"), vae_flux),
    "qwen_image": Family(QWEN, {"num_layers": 1}, _form("qwen_image"), vae_wan),
    "lumina2": Family(LUMINA, LUMINA2, _form("lumina2"), vae_flux),
    "chroma": Family(LDM + "chroma.model:Chroma", CHROMA, _form("chroma"), vae_flux),
    "anima": Family(LDM + "anima.model:Anima", ANIMA, _form("anima"), vae_wan),
}


def make(
    name: str, dtype: torch.dtype = torch.float32, seed: int = 0, quantised: Quantised | None = None
) -> tuple[Any, Any, Any]:
    """A family's MODEL, CLIP and VAE; `dtype` is the MODEL's, of the layers that are not quantised."""
    family = FAMILIES[name]
    return make_model(name, dtype, seed, quantised), family.clip(seed + 1), family.vae(seed + 2)


def make_model(
    name: str,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    quantised: Quantised | None = None,
    disable_dynamic: bool = False,
) -> Any:
    """The MODEL alone. Like a loader's, `clone(force_deepcopy=True)` makes it anew, in the mode of that call."""
    family = FAMILIES[name]
    module, _, kind = family.net.partition(":")
    net = getattr(importlib.import_module(module), kind)
    empty: nn.Module = net(**family.sizes, device="meta", dtype=dtype, operations=comfy.ops.disable_weight_init)
    state = drawn(empty, seed, dtype)
    stored = torch.float8_e4m3fn if quantised == "fp8" else dtype
    if quantised in LAYOUTS:
        state = _quantised(state, quantised)
    options = {"disable_dynamic": True} if disable_dynamic else {}  # an older core's loaders have no such argument
    model = _loaded(state, stored, isinstance(empty, UNetModel), family.marks, **options)
    model.cached_patcher_init = (make_model, (name, dtype, seed, quantised))
    return model


def dequantised(model: Any) -> Any:
    """A MODEL in float32 whose weights are another's, dequantised."""
    net = model.model.diffusion_model
    kept = {*dict(net.named_parameters()), *net.state_dict()}
    tensors = {**dict(net.named_buffers()), **dict(net.named_parameters())}
    state = {key: _plain(value) for key, value in tensors.items() if key in kept}
    marks = ()
    if model.model.model_type.name == "V_PREDICTION":
        marks = ("v_pred", "ztsnr") if model.model.model_config.sampling_settings.get("zsnr") else ("v_pred",)
    return _loaded(state, torch.float32, isinstance(net, UNetModel), marks)


def _plain(value: Tensor) -> Tensor:
    if isinstance(value, comfy.quant_ops.QuantizedTensor):
        value = value.dequantize()
    return value.detach().to("cpu", torch.float32, copy=True)


def _loaded(state: State, dtype: torch.dtype, checkpoint: bool, marks: tuple[str, ...], **options: Any) -> Any:
    """Through the loader that the family's files go through; the state is used up."""
    options["model_options"] = {"dtype": dtype}
    if checkpoint:
        whole = {PREFIX + key: state.pop(key) for key in list(state)} | {mark: torch.tensor([]) for mark in marks}
        model = comfy.sd.load_state_dict_guess_config(whole, output_vae=False, output_clip=False, **options)[0]
    else:
        model = comfy.sd.load_diffusion_model_state_dict(state, **options)
    if model is None:
        raise RuntimeError("this ComfyUI does not recognise the model")
    return model


def _quantised(state: State, kind: str) -> State:
    """In the form of ComfyUI's quantised files: a scale and a note beside each of the blocks' matrices."""
    layout, drawing, note = LAYOUTS[kind]
    mark = torch.tensor(list(json.dumps(note).encode()), dtype=torch.uint8)
    out = {}
    for key, value in state.items():
        if value.dim() != 2 or not key.endswith(".weight") or not any(part in key for part in QUANTISED_IN):
            out[key] = value
            continue
        out |= comfy.quant_ops.QuantizedTensor.from_float(value, layout, **drawing).state_dict(key)
        out[key.removesuffix("weight") + "comfy_quant"] = mark.clone()
    return out
