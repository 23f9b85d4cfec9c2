"""The memory that a run will need, computed before the device is touched.

A step holds the model, the adapter with its gradients and moments, the graph of one forward pass over winners and
losers, and temporary tensors beside it. The text encoders and the VAE are on the device before that, without the model;
if the device's memory is the host's, everything stays in it throughout. Activations are counted on the model to be
trained, see `counting`; they are proportional to the images in a pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, get_args

import torch

from .. import objectives
from ..config import LoraSpec, Method, Optimizer, Targets
from ..exceptions import ConfigError
from ..lora.layers import layer_shapes, target_layers
from ..training.devices import DTYPES
from . import counting

if TYPE_CHECKING:  # that module loads diffusers
    from ..models.blueprint import Blueprint

GIB = 2**30
ALLOWANCE = 3 * GIB // 4
"""Assumed, not measured: about 0.5 GiB of CUDA context, the rest for the libraries' workspaces and rounding."""
MARGIN = 0.1
"""Assumed: the share of a device's memory that `fits` leaves to the display, other programs and fragmentation."""
MOMENTS: Mapping[Optimizer, float] = {"adamw": 8, "adamw8bit": 2 + 2 * 4 / 256}  # bytes: two, 8-bit with block scales
VAE_SIDE = 64  # latent pixels at which the VAE is counted


@dataclass(frozen=True)
class Setup:
    """The settings of a run that its memory depends on; names as in `TrainConfig`.

    Attributes:
        model: what is trained, without its weights.
        resolution: side of the square whose area no bucket exceeds, pixels.
        batch_size: pairs in a forward pass; each is two images.
        precision: `fp32`, `bf16` or `fp16`; `auto` is resolved before.
        refine: whether a frozen LoRA is the reference; its rank and targets are the ones that count.
        previews: whether previews are drawn during training.
        copies: further float32 copies of what is trained: its average, a reference EMA.
        shared: whether the device's memory is the host's, as on a CPU.
    """

    model: Blueprint
    resolution: int
    batch_size: int
    precision: str
    rank: int
    targets: Targets
    checkpointing: bool
    optimizer: Optimizer = "adamw"
    objective: str = "dspo"
    method: Method = "lora"
    refine: bool = False
    previews: bool = False
    copies: int = 0
    shared: bool = False

    @property
    def frozen_bytes(self) -> int:
        """Bytes per weight of the base; full training needs a float32 base."""
        return 4 if self.method == "full" else DTYPES[self.precision].itemsize

    @property
    def latent_pixels(self) -> int:
        """Latent pixels of one image."""
        return math.ceil(self.resolution**2 / self.model.pixels_per_latent**2)


@dataclass(frozen=True)
class MemoryNeed:
    """Peak bytes of a training step, of encoding beforehand and of previews in between.

    Attributes:
        weights: of the frozen model, and of its encoders if they share the memory.
        adapter: what is trained, with its gradients, AdamW's moments and the cast to half precision.
        activations: what the graph keeps for the backward pass.
        workspace: temporary tensors of a forward or backward pass, and `ALLOWANCE`.
        encoding: VAE and text encoders together, encoding one image, and `ALLOWANCE`.
        preview: model and adapter beside the text encoders, or beside the VAE decoding one image, and `ALLOWANCE`.
    """

    setup: Setup
    weights: int
    adapter: int
    activations: int
    workspace: int
    encoding: int
    preview: int = 0

    @property
    def total(self) -> int:
        """The peak of a training step."""
        return self.weights + self.adapter + self.activations + self.workspace

    @property
    def peak(self) -> int:
        """The peak of the whole run."""
        return max(self.total, self.encoding, self.preview)


def need_of(setup: Setup, *, like: Setup | None = None) -> MemoryNeed:
    """The memory that a run needs on one device.

    Args:
        like: a setup counted already that differs only in resolution or rank. Its activations, scaled by the pixels and
            at its own rank, replace a new count; on the published models that is within 3% of one if both are lowered
            to no less than half.

    Raises:
        ConfigError: the precision, targets, optimiser or objective is unknown.
    """
    _check(setup)
    counted = setup if like is None else like
    step = _count(
        setup.model,
        math.ceil(math.sqrt(counted.latent_pixels)),
        None if setup.method == "full" else setup.targets,
        counted.rank,
        _counted_as(DTYPES[setup.precision]),
        setup.checkpointing,
    )
    larger = setup.latent_pixels / counted.latent_pixels
    images = 2 * setup.batch_size
    with_graph = images if objectives.find_objective(setup.objective).has_loser else setup.batch_size
    text, vae = setup.model.text_parameters * setup.frozen_bytes, _vae_bytes(setup)
    model = _parameters(setup.model) * setup.frozen_bytes
    resident = model + text + vae if setup.shared else 0
    weights, adapter = resident or model, adapter_bytes(trained_parameters(setup), setup)
    encoding, decoding = (round(per_pixel * setup.latent_pixels) for per_pixel in _vae_passes(setup))
    beside = max(text, vae + decoding) if not setup.shared else decoding
    return MemoryNeed(
        setup=setup,
        weights=weights,
        adapter=adapter,
        activations=round(with_graph * step.kept * larger),
        workspace=round(images * step.flowing * larger) + ALLOWANCE,
        encoding=(resident or text + vae) + encoding + ALLOWANCE,
        preview=weights + adapter + beside + ALLOWANCE if setup.previews else 0,
    )


def trained_parameters(setup: Setup) -> int:
    """Number of parameters of the LoRA, or of the whole model."""
    if setup.method == "full":
        return _parameters(setup.model)
    return setup.rank * _width(setup.model, setup.targets)


def adapter_bytes(parameters: int, setup: Setup) -> int:
    """Bytes for so many trained parameters: themselves, gradients, moments, copies, the cast, a frozen LoRA."""
    own = 4 + 4 + MOMENTS[setup.optimizer] + 4 * (setup.refine + setup.copies)
    cast = 0 if setup.precision == "fp32" else DTYPES[setup.precision].itemsize
    return math.ceil((own + cast) * parameters)


def fits(need: MemoryNeed, total_memory: int) -> bool:
    """Does the run fit on a device with `total_memory` bytes, with `MARGIN` to spare?"""
    return need.peak <= (1 - MARGIN) * total_memory


def gib(size: int) -> str:
    """Bytes as GiB with one decimal."""
    return f"{size / GIB:.1f}"


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


def _counted_as(dtype: torch.dtype) -> torch.dtype:
    """float16 and bfloat16 have the same size, so one count is enough for both."""
    return torch.bfloat16 if dtype == torch.float16 else dtype


def _parameters(model: Blueprint) -> int:
    return sum(parameter.numel() for parameter in model.unet.parameters())


@lru_cache(maxsize=16)
def _width(model: Blueprint, targets: Targets) -> int:
    """Adapter parameters per rank: inputs plus outputs of every targeted layer."""
    layers = target_layers(model.unet, LoraSpec(targets=targets)).values()
    return sum(math.prod(shape) for layer in layers for shape in layer_shapes(layer, 1))


def _vae_dtype(setup: Setup) -> torch.dtype:
    """The VAE's type, as `load_base` chooses it."""
    if setup.method == "full" or (setup.precision == "fp16" and setup.model.overflows_in_fp16):
        return torch.float32
    return DTYPES[setup.precision]


def _vae_bytes(setup: Setup) -> int:
    return sum(parameter.numel() for parameter in setup.model.vae.parameters()) * _vae_dtype(setup).itemsize


def _vae_passes(setup: Setup) -> tuple[float, float]:
    """Peak bytes per latent pixel of encoding and of decoding one image."""
    return _count_vae(setup.model, _counted_as(_vae_dtype(setup)))


@lru_cache(maxsize=16)
def _count_vae(model: Blueprint, dtype: torch.dtype) -> tuple[float, float]:
    vae, side = model.vae, VAE_SIDE * model.pixels_per_latent
    latents = (1, vae.config["latent_channels"], VAE_SIDE, VAE_SIDE)

    def passing(function: object, shape: tuple[int, ...]) -> float:
        given = torch.empty(shape, dtype=dtype, device="meta")
        return counting.most_alive(vae, lambda: function(given, return_dict=False), dtype) / VAE_SIDE**2  # type: ignore[operator]

    return passing(vae.encode, (1, 3, side, side)), passing(vae.decode, latents)


def _check(setup: Setup) -> None:
    found: tuple[tuple[str, str, tuple[str, ...]], ...] = (
        ("precision", setup.precision, tuple(DTYPES)),
        ("lora.targets", setup.targets, get_args(Targets)),
        ("optim.name", setup.optimizer, tuple(MOMENTS)),
    )
    for name, value, known in found:
        if value not in known:
            raise ConfigError(f"no memory estimate: `{name}` is {value!r}; known: {', '.join(known)}")
