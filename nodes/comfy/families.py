"""What differs between the families of models that ComfyUI loads: one row each, and a rule for those without a row.

The oldest core that trains Stable Diffusion 1.x, 2.x and XL is 0.8.0. The flow families need one that can switch its
kernels to differentiable ones (`comfy.model_management.in_training`); 0.33.0 is the one they were tried on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ...dspo_train.exceptions import ModelError
from ...dspo_train.lora.layers import TargetTable
from ...dspo_train.models.families import FAMILIES, LoraLabels
from .gradients import can_train_flow

COMFYUI = "https://github.com/comfyanonymous/ComfyUI"


def _targets(attention: str, mlp: str, more: str = "") -> TargetTable:
    table = {"attention": attention, "attention+mlp": f"{attention}|{mlp}"}
    table["attention+mlp+proj"] = f"{table['attention+mlp']}|{more}" if more else table["attention+mlp"]
    return {name: re.compile(pattern) for name, pattern in table.items()}  # type: ignore[return-value]


_UNET_BLOCK = r"(?:input_blocks|middle_block|output_blocks)\.\d+(?:\.\d+)?\.transformer_blocks\.\d+"
_UNET = _targets(
    _UNET_BLOCK + r"\.attn[12]\.(?:to_[qkv]|to_out\.0)",
    _UNET_BLOCK + r"\.ff\.net\.(?:0\.proj|2)",
    r"(?:input_blocks|middle_block|output_blocks)\.\d+(?:\.\d+)?\.proj_(?:in|out)",
)
_FLUX = _targets(
    r"double_blocks\.\d+\.(?:img|txt)_attn\.(?:qkv|proj)|single_blocks\.\d+\.linear[12]",  # single blocks fuse both
    r"double_blocks\.\d+\.(?:img|txt)_mlp\.[02]",
)
_NEXT_DIT = _targets(
    r"(?:layers|noise_refiner|context_refiner)\.\d+\.attention\.(?:qkv|out)",
    r"(?:layers|noise_refiner|context_refiner)\.\d+\.feed_forward\.w[123]",
)
_ANY_BLOCK = r"(?!llm_adapter)[\w.]*\.\d+\."  # a layer in a numbered block
_ANY = _targets(
    _ANY_BLOCK + r"[\w.]*attn?[\w.]*|" + _ANY_BLOCK + r"[\w.]*attention[\w.]*",
    _ANY_BLOCK + r"(?:[\w.]*[._])?(?:mlp|ff|ffn|feed_forward)(?:[._][\w.]*)?",
)


@dataclass(frozen=True)
class ComfyFamily:
    """A family of models.

    Attributes:
        title: for display.
        resolution: of the published training, pixels.
        cfg: usual guidance, with which previews are drawn.
        targets: see `TargetTable`; paths below `diffusion_model`.
        labels: of LoRA files.
        guidance: given to models that take the guidance scale as an input: that of training on plain images.
        frames: whether an image is a video of one frame to the model.
        micro: whether it is conditioned on the image's original size and crop.
    """

    title: str
    resolution: int = 1024
    cfg: float = 4.0
    targets: TargetTable = field(default_factory=lambda: _ANY)
    labels: LoraLabels | None = None
    guidance: float = 1.0
    frames: bool = False
    micro: bool = False

    def lora_labels(self) -> LoraLabels:
        return self.labels or _labels(re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-"))


def _labels(name: str) -> LoraLabels:
    architecture = dict.fromkeys(("epsilon", "v_prediction", "flow"), f"{name}/lora")
    return LoraLabels("ldm", name, False, architecture, COMFYUI)  # type: ignore[arg-type]


def _diffusers_row(name: str, **more: Any) -> ComfyFamily:
    """A family that the library trains too; its LoRA files are the same."""
    row = FAMILIES[name]
    return ComfyFamily(row.title, row.resolution, row.guidance, _UNET, row.lora, **more)


# By the name of the model's configuration class (in `comfy.supported_models`), or of one that it derives from.
ROWS: Mapping[str, ComfyFamily] = {
    "SD15": _diffusers_row("sd15"),
    "SD20": _diffusers_row("sd2"),
    "Shapes": replace(_diffusers_row("sd15"), title="Playground", resolution=64, cfg=2.0),
    "SDXL": _diffusers_row("sdxl", micro=True),
    "SD3": ComfyFamily(
        "Stable Diffusion 3.5",
        cfg=4.5,
        targets=_targets(
            r"joint_blocks\.\d+\.(?:x|context)_block\.attn2?\.(?:qkv|proj)",
            r"joint_blocks\.\d+\.(?:x|context)_block\.mlp\.fc[12]",
        ),
        labels=_labels("stable-diffusion-v3-5"),
    ),
    "Flux": ComfyFamily("FLUX.1", cfg=1.0, targets=_FLUX, labels=_labels("flux-1-dev")),
    "Flux2": ComfyFamily("FLUX.2", cfg=5.0, targets=_FLUX, labels=_labels("flux-2")),
    "Chroma": ComfyFamily("Chroma", cfg=4.0, targets=_FLUX, labels=_labels("chroma")),
    "Lumina2": ComfyFamily("Lumina 2", cfg=4.0, targets=_NEXT_DIT, labels=_labels("lumina-2")),
    "ZImage": ComfyFamily("Z-Image", cfg=4.0, targets=_NEXT_DIT, labels=_labels("z-image")),
    "QwenImage": ComfyFamily(
        "Qwen-Image",
        cfg=2.5,
        targets=_targets(
            r"transformer_blocks\.\d+\.attn\.(?:to_[qkv]|add_[qkv]_proj|to_out\.0|to_add_out)",
            r"transformer_blocks\.\d+\.(?:img|txt)_mlp\.net\.(?:0\.proj|2)",
        ),
        labels=_labels("qwen-image"),
        frames=True,
    ),
    "Anima": ComfyFamily(
        "Anima",
        cfg=4.0,
        targets=_targets(
            r"blocks\.\d+\.(?:self_attn|cross_attn)\.(?:[qkv]_proj|output_proj)", r"blocks\.\d+\.mlp\.layer[12]"
        ),
        labels=_labels("anima"),
        frames=True,
    ),
}


def family_of(model: Any) -> ComfyFamily:
    """The row of a MODEL, or a row by rule for a family that has none.

    Raises:
        ModelError: a kind of model that cannot be trained.
    """
    classes = [kind.__name__ for kind in type(model.model.model_config).__mro__]
    row = next((ROWS[name] for name in classes if name in ROWS), None)
    _refuse(model.model, classes[0], row)
    return row or ComfyFamily(classes[0])


def _refuse(model: Any, name: str, row: ComfyFamily | None) -> None:
    latents = model.latent_format
    if latents.latent_dimensions == 1 or "Audio" in type(latents).__name__:
        raise ModelError(f"the wired model ({name}) makes audio or shapes; only models of images can be trained")
    if latents.latent_dimensions == 3 and not (row and row.frames):
        raise ModelError(f"the wired model ({name}) is a video model, which cannot be trained; wire a model of images")
    if latents.latent_channels == 3:
        raise ModelError(f"the wired model ({name}) works on pixels, without a VAE, and cannot be trained")
    if getattr(model, "concat_keys", ()) or _more_than_latents(model) or _joins_an_image(model):
        raise ModelError(
            f"the wired model ({name}) takes an image or a mask beside its noisy latents (inpainting or editing) and "
            "cannot be trained; wire its text-to-image model"
        )


def _more_than_latents(model: Any) -> bool:
    """Does a UNet take more channels than its noisy latents have? Transformers count theirs in patches."""
    config = model.model_config.unet_config
    return "model_channels" in config and config.get("in_channels", 0) > model.latent_format.latent_channels


def _joins_an_image(model: Any) -> bool:
    """Does it join an image to its noisy latents, and fill in an empty one where none is given?"""
    latents = model.latent_format
    noise = torch.zeros(1, latents.latent_channels, *(1,) * (latents.latent_dimensions - 2), 8, 8)
    try:
        return model.concat_cond(noise=noise, device=noise.device) is not None
    except Exception:  # it asks for what only a graph gives: not the case that is looked for
        return False


def refuse_old_core(row: ComfyFamily) -> None:
    """
    Raises:
        ModelError: this ComfyUI cannot train flow models.
    """
    if not can_train_flow():
        raise ModelError(f"this ComfyUI is too old to train {row.title} models; update it (0.33 is known to work)")
