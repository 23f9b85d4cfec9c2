"""The memory that a run will need, computed before the device is touched.

A step holds the model, the adapter with its gradients and moments, the graph of one forward pass over winners and
losers, and temporary tensors beside it. The text encoders and the VAE are on the device before that, without the model;
if the device's memory is the host's, everything stays in it throughout. Activations are counted on the model to be
trained, see `counting`; they are proportional to the images in a pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from .. import objectives
from ..config import Method, Optimizer, Targets
from ..config.stepwise import StepwiseSpec
from ..exceptions import ConfigError
from ..stepwise.cost import cost_of, graph_of_scorer, held_by_scorers, rollout_of
from ..stepwise.steering import ON_LATENTS
from ..training.devices import DTYPES
from .sizes import Sizes

GIB = 2**30
ALLOWANCE = 3 * GIB // 4
"""Assumed, not measured: about 0.5 GiB of CUDA context, the rest for the libraries' workspaces and rounding."""
MARGIN = 0.1
"""Assumed: the share of a device's memory that `fits` leaves to the display, other programs and fragmentation."""
GRAPH_OF_DECODING = 7.4
"""What decoding keeps for a gradient, times its peak without one; counted on Stable Diffusion's VAE."""
MOMENTS: Mapping[Optimizer, float] = {"adamw": 8, "adamw8bit": 2 + 2 * 4 / 256}  # bytes: two, 8-bit with block scales


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
        stepwise: how the run draws images of its own.
    """

    model: Sizes
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
    stepwise: StepwiseSpec = field(default_factory=StepwiseSpec)

    @property
    def in_pass(self) -> tuple[int, int]:
        """Images that go through the network for a pass's gradient, and those whose graph is kept."""
        rows, spec = self.batch_size, self.stepwise
        if spec.method == "off":
            return 2 * rows, 2 * rows if objectives.find_objective(self.objective).has_loser else rows
        prompted = 2 if spec.guidance > 1 else 1  # winner and loser are one state
        pushed = prompted * rollout_of(spec) + (spec.scorer in ON_LATENTS) if spec.plan.push else 0
        return prompted * rows, max(prompted, pushed) * rows

    @property
    def decodes(self) -> bool:
        """Whether the VAE stays beside the network, to judge images."""
        return self.stepwise.method != "off" and cost_of(self.stepwise, 1).decoded > 0

    @property
    def latent_pixels(self) -> int:
        """Latent pixels of one image."""
        return math.ceil(self.resolution**2 / self.model.pixels_per_latent**2)


@dataclass(frozen=True)
class MemoryNeed:
    """Peak bytes of a training step, of encoding beforehand and of previews in between.

    Attributes:
        weights: of the frozen model, of its encoders if they share the memory, and of what judges images.
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
    targets = None if setup.method == "full" else setup.targets
    step = setup.model.step(counted.latent_pixels, targets, counted.rank, setup.precision, setup.checkpointing)
    larger = setup.latent_pixels / counted.latent_pixels
    images, with_graph = setup.in_pass
    stored = setup.precision, setup.method
    model, text, vae = (
        size(*stored) for size in (setup.model.network_bytes, setup.model.text_bytes, setup.model.vae_bytes)
    )
    resident = model + text + vae if setup.shared else 0
    weights, adapter = resident or model, adapter_bytes(trained_parameters(setup), setup)
    encoding, decoding = (round(per_pixel * setup.latent_pixels) for per_pixel in setup.model.vae_passes(*stored))
    if setup.decodes:
        weights += held_by_scorers(setup.stepwise) + (0 if setup.shared else vae)
    pushed = graph_of_scorer(setup.stepwise)
    judged = round(pushed + GRAPH_OF_DECODING * decoding) if pushed else 0
    beside = max(text, vae + decoding) if not setup.shared else decoding
    return MemoryNeed(
        setup=setup,
        weights=weights,
        adapter=adapter,
        activations=round(with_graph * step.kept * larger) + judged,
        workspace=max(round(images * step.flowing * larger), decoding * setup.decodes) + ALLOWANCE,
        encoding=(resident or text + vae) + encoding + ALLOWANCE,
        preview=weights + adapter + beside + ALLOWANCE if setup.previews else 0,
    )


def trained_parameters(setup: Setup) -> int:
    """Number of parameters of the LoRA, or of the whole model."""
    if setup.method == "full":
        return setup.model.parameters
    return setup.rank * setup.model.rank_parameters(setup.targets)


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


def _check(setup: Setup) -> None:
    found: tuple[tuple[str, str, tuple[str, ...]], ...] = (
        ("precision", setup.precision, tuple(DTYPES)),
        ("lora.targets", setup.targets, get_args(Targets)),
        ("optim.name", setup.optimizer, tuple(MOMENTS)),
    )
    for name, value, known in found:
        if value not in known:
            raise ConfigError(f"no memory estimate: `{name}` is {value!r}; known: {', '.join(known)}")
