"""Random weights for ComfyUI's own classes, and real VAE objects made of them.

Imported only in ComfyUI's Python, with the checkout on sys.path before this folder.
"""

from __future__ import annotations

import math
from typing import Any

import comfy.ldm.models.autoencoder as autoencoder  # pyright: ignore[reportMissingImports]
import comfy.ldm.wan.vae  # pyright: ignore[reportMissingImports]
import comfy.sd  # pyright: ignore[reportMissingImports]
import torch
from torch import Tensor, nn

KL = {
    "double_z": True,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}
DECODER_WIDTHS = (32, KL["ch"])  # older cores know the encoder's fixed width alone
WAN = {
    "z_dim": 16,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_scales": [],
    "temperal_downsample": [False, True, True],
    "dropout": 0.0,
}


def drawn(net: nn.Module, seed: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Random weights for every tensor of a module, which may be on the meta device: the same seed, the same weights."""
    generator = torch.Generator().manual_seed(seed)
    return {name: _drawn(name, value, dtype, generator) for name, value in net.state_dict().items()}


def _drawn(name: str, like: Tensor, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """A matrix whose output is as large as its input, a norm near the identity, anything else small; nothing is zero.

    Uniform, which is drawn three times as fast as normal.
    """
    leaf = name.rpartition(".")[2]
    if not like.is_floating_point():  # a counter
        return torch.zeros(like.shape, dtype=like.dtype)
    bound = math.sqrt(3)  # so that the deviation is one
    noise = torch.empty(like.shape, dtype=dtype).uniform_(-bound, bound, generator=generator)
    if leaf == "running_var":
        return noise.abs_().mul_(0.1).add_(1)
    if leaf in ("bias", "running_mean"):
        return noise.mul_(0.1)
    if leaf == "gamma" or like.dim() == 1:
        return noise.mul_(0.1).add_(1)
    return noise.mul_(like.shape[1:].numel() ** -0.5 if leaf == "weight" else 0.5)


def vae_sd(seed: int = 0) -> Any:
    """SD1.5's and SDXL's: 4 channels, an eighth of the size."""
    return _autoencoder(seed, {**KL, "z_channels": 4}, embed_dim=4)


def vae_flux(seed: int = 0) -> Any:
    """Flux.1's, SD3's, Z-Image's, Lumina 2's and Chroma's: 16 channels, an eighth of the size."""
    return _autoencoder(seed, {**KL, "z_channels": 16}, embed_dim=None)


def vae_flux2(seed: int = 0) -> Any:
    """FLUX.2's: 32 channels folded to 128, a sixteenth of the size."""
    return _autoencoder(seed, {**KL, "z_channels": 32, "batch_norm_latent": True}, embed_dim=32)


def vae_wan(seed: int = 0, width: int = 32) -> Any:
    """Qwen-Image's and Anima's: 16 channels with a time axis, an eighth of the size."""
    with torch.device("meta"):
        net = comfy.ldm.wan.vae.WanVAE(dim=width, **WAN)
    return comfy.sd.VAE(sd=drawn(net, seed))


def _autoencoder(seed: int, sizes: dict[str, Any], embed_dim: int | None) -> Any:
    for width in DECODER_WIDTHS:
        decoder = {**sizes, "ch": width}
        with torch.device("meta"):
            net = _engine(sizes, decoder) if embed_dim is None else _legacy(sizes, decoder, embed_dim)
        try:
            return comfy.sd.VAE(sd=drawn(net, seed))
        except RuntimeError as error:
            if "size mismatch" not in str(error) or width == DECODER_WIDTHS[-1]:
                raise
    raise AssertionError("unreachable")


def _legacy(encoder: dict[str, Any], decoder: dict[str, Any], embed_dim: int) -> nn.Module:
    """With the two 1x1 convolutions around the latents; they are sized by the channels, not by the width."""
    net = autoencoder.AutoencoderKL(ddconfig=encoder, embed_dim=embed_dim)
    net.decoder = _engine(encoder, decoder).decoder
    return net


def _engine(encoder: dict[str, Any], decoder: dict[str, Any]) -> Any:
    model = "comfy.ldm.modules.diffusionmodules.model."
    return autoencoder.AutoencodingEngine(
        regularizer_config={"target": "comfy.ldm.models.autoencoder.DiagonalGaussianRegularizer"},
        encoder_config={"target": model + "Encoder", "params": encoder},
        decoder_config={"target": model + "Decoder", "params": decoder},
    )
