"""A base model without its weights: modules on the meta device, built from its configs or a file's header."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from . import base, single_file
from .conditioning import Conditioning, Frame
from .families import Family
from .locate import located
from .single_file import SingleFile
from .unet import predict


@dataclass(frozen=True)
class Blueprint:
    """A model's shapes. Equal configs make equal blueprints, so what is counted on one can be cached.

    Attributes:
        unet_config, vae_config: JSON, as diffusers writes them.
        text_parameters: of all text encoders together.
    """

    family: Family
    unet_config: str
    vae_config: str
    text_parameters: int

    @property
    def unet(self) -> nn.Module:
        """The UNet on the meta device, in eval mode; a shared instance, to be left as found."""
        return _on_meta(UNet2DConditionModel, self.unet_config)

    @property
    def vae(self) -> AutoencoderKL:
        """The VAE on the meta device, in eval mode; a shared instance, as `unet` is."""
        return _on_meta(AutoencoderKL, self.vae_config)

    @property
    def pixels_per_latent(self) -> int:
        """Pixels per latent pixel along one side."""
        return 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    @property
    def moment_values(self) -> int:
        """Numbers per latent pixel in an image's encoding: mean and log-variance of every channel."""
        return 2 * self.vae.config["latent_channels"]

    @property
    def caption_values(self) -> int:
        """Numbers in a caption's encoding."""
        sizes = self.family.frame([Frame(0, 0, 0, 0, 0, 0)])  # computed for each image, not stored
        named = self.family.shapes(json.loads(self.unet_config))
        return sum(math.prod(shape) for name, shape in named.items() if name not in sizes)

    @property
    def overflows_in_fp16(self) -> bool:
        """Does the VAE's config ask for float32 even if the rest runs in float16?"""
        return self.family.vae_in_float32 and bool(self.vae.config.get("force_upcast"))

    def predict_one(self, side: int) -> Tensor:
        """Run `unet`, as it stands, on one image of `side` x `side` latent pixels. -> (1, C, side, side), no values"""
        unet: Any = self.unet
        noisy = torch.empty(1, unet.config["in_channels"], side, side, device="meta")
        timesteps = torch.empty(1, dtype=torch.int64, device="meta")
        shapes = self.family.shapes(unet.config)
        one = {name: torch.empty(1, *shape, device="meta") for name, shape in shapes.items()}
        return predict(self.family, unet, noisy, timesteps, Conditioning(one))


def read_blueprint(path: Path) -> Blueprint:
    """The blueprint of a diffusers folder or a single file; no weights are read.

    Raises:
        ModelError: the model is missing, damaged or unsupported, as for `load_base`.
    """
    path = located(path)
    if not path.is_dir():
        return of_file(single_file.open_single_file(path))
    family = base.folder_family(path)
    texts = [base.read_json(path / part.config / "config.json") for part in family.text_parts]
    unet, vae = (json.dumps(base.read_json(path / part / "config.json")) for part in ("unet", "vae"))
    return Blueprint(family, unet, vae, text_parameters(texts))


def of_file(file: SingleFile) -> Blueprint:
    """The blueprint of an opened single file.

    Raises:
        ModelError: the UNet or the VAE is incomplete.
    """
    prefixes = tuple(prefix for part in file.family.text_parts for prefix in part.prefixes)
    text = sum(math.prod(shape) for key, shape in file.shapes.items() if key.startswith(prefixes))
    unet, vae = json.dumps(single_file.unet_config(file)), json.dumps(single_file.vae_config(file))
    return Blueprint(file.family, unet, vae, text)


def text_parameters(configs: list[dict[str, Any]]) -> int:
    """The number of parameters of one or two CLIP text encoders with these configs."""
    kinds = (CLIPTextModel, CLIPTextModelWithProjection)
    with torch.device("meta"):
        encoders = [kind(CLIPTextConfig(**config)) for kind, config in zip(kinds, configs, strict=False)]
    return sum(parameter.numel() for encoder in encoders for parameter in encoder.parameters())


@lru_cache(maxsize=4)
def _on_meta(kind: Any, config: str) -> Any:
    with torch.device("meta"):
        model = kind.from_config(json.loads(config))
    return model.eval().requires_grad_(False)
