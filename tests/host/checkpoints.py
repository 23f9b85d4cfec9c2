"""Random-weight checkpoints in the original layouts that ComfyUI recognises as SD1.5 and as a small SDXL.

Text encoders and VAE have their published sizes, because ComfyUI has those sizes fixed; the UNet is as narrow and as
shallow as its detection by shapes allows. Every layer is drawn as torch draws a fresh one, so activations stay of order
one, the prompt reaches the picture, and no layer is zero.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from tiny_models import ldm_unet, ldm_vae, open_clip
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from dspo_train.models.families import FAMILIES
from dspo_train.models.single_file import template

Kind = Literal["sd15", "sdxl"]
Shapes = dict[str, torch.Size]

RECIPE = 1  # raise it when a change here should not reuse cached files
UNETS: dict[Kind, dict[str, Any]] = {
    "sd15": {  # 107 million parameters
        "block_out_channels": [320, 640],
        "layers_per_block": 1,
        "down_block_types": ["CrossAttnDownBlock2D"] * 2,
        "up_block_types": ["CrossAttnUpBlock2D"] * 2,
    },
    "sdxl": {  # Segmind Vega's depths, at one width: 115 million parameters
        "block_out_channels": [320, 320, 320],
        "attention_head_dim": [5, 5, 5],
        "transformer_layers_per_block": [1, 1, 2],
    },
}


def write_sd15(path: Path, dtype: torch.dtype = torch.float16, seed: int = 0) -> Path:
    """SD1.5 with two levels of one residual block."""
    shapes = {
        **_pictures("sd15"),
        **_under("cond_stage_model.transformer.text_model.", _clip("sd15")),
    }
    return _write(path, shapes, dtype, seed)


def write_sdxl(path: Path, dtype: torch.dtype = torch.float16, seed: int = 0) -> Path:
    """An SDXL relative that ComfyUI takes for Segmind Vega, with SDXL's two text encoders."""
    with init_empty_weights():
        second = CLIPTextModelWithProjection(CLIPTextConfig(**template(FAMILIES["sdxl"], "text_encoder_2")))
    shapes = {
        **_pictures("sdxl"),
        **_under("conditioner.embedders.0.transformer.text_model.", _clip("sdxl")),
        **_under("conditioner.embedders.1.model.", open_clip(second)),
    }
    return _write(path, shapes, dtype, seed)


WRITERS = {"sd15": write_sd15, "sdxl": write_sdxl}


def cached(kind: Kind, dtype: torch.dtype = torch.float16) -> Path:
    """The checkpoint of a kind, written once and kept in DSPO_TEST_CACHE or the system's temporary folder."""
    folder = Path(os.environ.get("DSPO_TEST_CACHE") or Path(tempfile.gettempdir()) / "dspo-test-checkpoints")
    path = folder / f"{kind}-{str(dtype).removeprefix('torch.')}-{RECIPE}.safetensors"
    return path if path.exists() else WRITERS[kind](path, dtype)


def _pictures(family: Kind) -> Shapes:
    """The UNet's and the VAE's tensors."""
    with init_empty_weights():
        unet: Any = UNet2DConditionModel.from_config({**template(FAMILIES[family], "unet"), **UNETS[family]})
        vae: Any = AutoencoderKL.from_config(template(FAMILIES[family], "vae"))
    return {**_under("model.diffusion_model.", ldm_unet(unet)), **_under("first_stage_model.", ldm_vae(vae))}


def _clip(family: Kind) -> dict[str, Tensor]:
    """CLIP-L by transformers' names, without `text_model.`."""
    with init_empty_weights():
        model = CLIPTextModel(CLIPTextConfig(**template(FAMILIES[family], "text_encoder")))
    return {key.removeprefix("text_model."): value for key, value in model.state_dict().items()}


def _under(prefix: str, state: dict[str, Tensor]) -> Shapes:
    return {prefix + key: value.shape for key, value in state.items()}


def _write(path: Path, shapes: Shapes, dtype: torch.dtype, seed: int) -> Path:
    """Draw the weights and put the file in place whole, so that a reader never meets half of it."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: _drawn(name, shape, generator).to(dtype) for name, shape in shapes.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    save_file(tensors, str(unfinished), metadata={"format": "pt"})
    os.replace(unfinished, path)
    return path


def _drawn(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """torch's own start for a Linear or a convolution: uniform, up to 1 / sqrt(inputs) either way; norms pass on."""
    if len(shape) > 1:
        bound = shape[1:].numel() ** -0.5
        return torch.empty(shape).uniform_(-bound, bound, generator=generator)
    return torch.zeros(shape) if name.endswith("bias") else torch.ones(shape)
