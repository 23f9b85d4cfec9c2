"""How large a model is, for the memory estimate: the seam, and a diffusers model's own answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import torch

from ..config import LoraSpec, Method, Targets
from ..lora.layers import rank_parameters, target_layers
from ..training.devices import DTYPES
from . import counting

if TYPE_CHECKING:  # that module loads diffusers
    from ..models.blueprint import Blueprint

VAE_SIDE = 64  # latent pixels at which the VAE is counted


class Sizes(Protocol):
    """A model's sizes, in bytes where nothing else is said; nothing of it is on the device.

    The precision is `fp32`, `bf16` or `fp16`; the method is `full` where all of the model is trained, in float32.
    """

    @property
    def pixels_per_latent(self) -> int:
        """Pixels per latent pixel along one side."""
        ...

    @property
    def moment_values(self) -> int:
        """Numbers per latent pixel in an image's encoding."""
        ...

    @property
    def caption_values(self) -> int:
        """Numbers in a caption's encoding."""
        ...

    @property
    def parameters(self) -> int:
        """Weights of the network."""
        ...

    def rank_parameters(self, targets: Targets) -> int:
        """Parameters of a LoRA of rank 1: inputs plus outputs of every targeted layer."""
        ...

    def network_bytes(self, precision: str, method: Method) -> int: ...

    def text_bytes(self, precision: str, method: Method) -> int: ...

    def vae_bytes(self, precision: str, method: Method) -> int: ...

    def vae_passes(self, precision: str, method: Method) -> tuple[float, float]:
        """Peak per latent pixel of encoding and of decoding one image, without the weights."""
        ...

    def step(
        self, latent_pixels: int, targets: Targets | None, rank: int, precision: str, checkpointing: bool
    ) -> counting.StepCount:
        """One image of so many latent pixels in a training step; `targets` None trains every weight."""
        ...


@dataclass(frozen=True)
class BlueprintSizes:
    """Implements `Sizes` for a model that diffusers loads, counted on the meta device."""

    blueprint: Blueprint

    @property
    def pixels_per_latent(self) -> int:
        return self.blueprint.pixels_per_latent

    @property
    def moment_values(self) -> int:
        return self.blueprint.moment_values

    @property
    def caption_values(self) -> int:
        return self.blueprint.caption_values

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.blueprint.unet.parameters())

    def rank_parameters(self, targets: Targets) -> int:
        """See `Sizes.rank_parameters`."""
        return _width(self.blueprint, targets)

    def network_bytes(self, precision: str, method: Method) -> int:
        """See `Sizes`."""
        return self.parameters * _frozen_bytes(precision, method)

    def text_bytes(self, precision: str, method: Method) -> int:
        """See `Sizes`."""
        return self.blueprint.text_parameters * _frozen_bytes(precision, method)

    def vae_bytes(self, precision: str, method: Method) -> int:
        """See `Sizes`."""
        weights = sum(parameter.numel() for parameter in self.blueprint.vae.parameters())
        return weights * self._vae_dtype(precision, method).itemsize

    def vae_passes(self, precision: str, method: Method) -> tuple[float, float]:
        """See `Sizes.vae_passes`."""
        return _count_vae(self.blueprint, _counted_as(self._vae_dtype(precision, method)))

    def step(
        self, latent_pixels: int, targets: Targets | None, rank: int, precision: str, checkpointing: bool
    ) -> counting.StepCount:
        """See `Sizes.step`."""
        side = math.ceil(math.sqrt(latent_pixels))
        return _count(self.blueprint, side, targets, rank, _counted_as(DTYPES[precision]), checkpointing)

    def _vae_dtype(self, precision: str, method: Method) -> torch.dtype:
        """As `load_base` chooses it."""
        if method == "full" or (precision == "fp16" and self.blueprint.overflows_in_fp16):
            return torch.float32
        return DTYPES[precision]


def _frozen_bytes(precision: str, method: Method) -> int:
    """Per weight of the base; full training needs a float32 base."""
    return 4 if method == "full" else DTYPES[precision].itemsize


def _counted_as(dtype: torch.dtype) -> torch.dtype:
    """float16 and bfloat16 have the same size, so one count is enough for both."""
    return torch.bfloat16 if dtype == torch.float16 else dtype


@lru_cache(maxsize=64)
def _count(
    model: Blueprint, side: int, targets: Targets | None, rank: int, dtype: torch.dtype, checkpointing: bool
) -> counting.StepCount:
    """Count one image of `side` x `side` latent pixels."""
    trained = None if targets is None else target_layers(model.unet, LoraSpec(targets=targets)).values()
    return counting.count_step(
        model.unet,
        lambda: model.predict_one(side),
        trained=trained,
        rank=rank,
        dtype=dtype,
        checkpointing=checkpointing,
    )


@lru_cache(maxsize=16)
def _width(model: Blueprint, targets: Targets) -> int:
    return rank_parameters(model.unet, targets)


@lru_cache(maxsize=16)
def _count_vae(model: Blueprint, dtype: torch.dtype) -> tuple[float, float]:
    vae, side = model.vae, VAE_SIDE * model.pixels_per_latent
    latents = (1, vae.config["latent_channels"], VAE_SIDE, VAE_SIDE)

    def passing(function: object, shape: tuple[int, ...]) -> float:
        given = torch.empty(shape, dtype=dtype, device="meta")
        return counting.most_alive(vae, lambda: function(given, return_dict=False), dtype) / VAE_SIDE**2  # type: ignore[operator]

    return passing(vae.encode, (1, 3, side, side)), passing(vae.decode, latents)
