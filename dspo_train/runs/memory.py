"""What a run will need of the device's memory, told before the device is touched.

The figures are counted on the published full-size models by `python benchmarks/memory.py`, for attention that does not
keep its matrix (flash or memory-efficient), as CUDA has. Reduced relatives of a family need less. A step holds the
UNet, the adapter with its gradients and moments, the graph of one forward pass over winners and losers, and what comes
and goes beside it. The text encoders and the VAE are on the device before that, without the UNet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, get_args

from .. import objectives
from ..config import Optimizer, Targets
from ..exceptions import ConfigError

Family = str  # a name in `FAMILIES`

GIB = 2**30
ALLOWANCE = 3 * GIB // 4
"""Assumed, not measured: about 0.5 GiB of CUDA context, the rest for the libraries' workspaces and rounding."""
MARGIN = 0.1
"""Assumed: the share of a device's memory that `fits` leaves to the display, other programs and fragmentation."""

ELEMENT = {"fp32": 4, "bf16": 2, "fp16": 2}  # bytes
MOMENTS: Mapping[Optimizer, float] = {"adamw": 8, "adamw8bit": 2 + 2 * 4 / 256}  # bytes: two, 8-bit with block scales
PATCH = 8  # pixels a latent, each way


class Sizes(NamedTuple):
    """How many parameters the parts of a family have; `widths`: the adapter's at rank 1, by targets."""

    unet: int
    vae: int
    text: int
    widths: Mapping[Targets, int]


class Activations(NamedTuple):
    """Bytes of a step a picture.

    Attributes:
        pixel: kept for the backward pass, a latent pixel.
        picture: kept whatever the size: what attention makes of the text.
        rank: kept a latent pixel and rank.
        transient: the most that comes and goes beside that, a latent pixel.
    """

    pixel: int
    picture: int
    rank: int
    transient: int


# The tables: `python benchmarks/memory.py`
SIZES: Mapping[Family, Sizes] = {
    "sd15": Sizes(
        unet=859520964,
        vae=83653863,
        text=123060480,
        widths={"attention": 199296, "attention+mlp": 374016, "attention+mlp+proj": 423936},
    ),
    "sd2": Sizes(
        unet=865910724,
        vae=83653863,
        text=340387840,
        widths={"attention": 207488, "attention+mlp": 382208, "attention+mlp+proj": 432128},
    ),
    "sdxl": Sizes(
        unet=2567463684,
        vae=83653863,
        text=817720320,
        widths={"attention": 1451520, "attention+mlp": 2616320, "attention+mlp+proj": 2659840},
    ),
}
ACTIVATIONS: Mapping[tuple[Family, Targets, bool, bool], Activations] = {
    # family, targets, in half precision, with gradient checkpointing
    ("sd15", "attention", True, False): Activations(275683, 7585664, 79, 17312),
    ("sd15", "attention", True, True): Activations(42272, 155520, 0, 24568),
    ("sd15", "attention", False, False): Activations(386923, 8096768, 158, 33312),
    ("sd15", "attention", False, True): Activations(71632, 246272, 0, 41400),
    ("sd15", "attention+mlp", True, False): Activations(303883, 7585664, 105, 17312),
    ("sd15", "attention+mlp", True, True): Activations(42272, 155520, 0, 31672),
    ("sd15", "attention+mlp", False, False): Activations(443323, 8096768, 210, 33312),
    ("sd15", "attention+mlp", False, True): Activations(71632, 246272, 0, 45304),
    ("sd15", "attention+mlp+proj", True, False): Activations(316451, 7602304, 132, 17312),
    ("sd15", "attention+mlp+proj", True, True): Activations(53973, 954240, 0, 31000),
    ("sd15", "attention+mlp+proj", False, False): Activations(445891, 8096768, 263, 33312),
    ("sd15", "attention+mlp+proj", False, True): Activations(73754, 246272, 0, 45240),
    ("sd2", "attention", True, False): Activations(264974, 8716160, 79, 17328),
    ("sd2", "attention", True, True): Activations(31632, 194944, 0, 25184),
    ("sd2", "attention", False, False): Activations(365574, 8175616, 158, 33328),
    ("sd2", "attention", False, True): Activations(50352, 325120, 0, 42656),
    ("sd2", "attention+mlp", True, False): Activations(293174, 8716160, 105, 17328),
    ("sd2", "attention+mlp", True, True): Activations(31632, 194944, 0, 32288),
    ("sd2", "attention+mlp", False, False): Activations(421974, 8175616, 210, 33328),
    ("sd2", "attention+mlp", False, True): Activations(50352, 325120, 0, 46560),
    ("sd2", "attention+mlp+proj", True, False): Activations(305742, 8727680, 132, 17328),
    ("sd2", "attention+mlp+proj", True, True): Activations(43333, 988544, 0, 31616),
    ("sd2", "attention+mlp+proj", False, False): Activations(445822, 8175616, 263, 33328),
    ("sd2", "attention+mlp+proj", False, True): Activations(73754, 325120, 0, 45216),
    ("sdxl", "attention", True, False): Activations(464980, 66596224, 75, 12832),
    ("sdxl", "attention", True, True): Activations(32512, 347520, 0, 12832),
    ("sdxl", "attention", False, False): Activations(677780, 52581888, 150, 20192),
    ("sdxl", "attention", False, True): Activations(56672, 639232, 0, 20192),
    ("sdxl", "attention+mlp", True, False): Activations(528980, 66596224, 100, 12832),
    ("sdxl", "attention+mlp", True, True): Activations(32512, 347520, 0, 12832),
    ("sdxl", "attention+mlp", False, False): Activations(805780, 52581888, 200, 20192),
    ("sdxl", "attention+mlp", False, True): Activations(56672, 639232, 0, 20192),
    ("sdxl", "attention+mlp+proj", True, False): Activations(534742, 66619264, 106, 12832),
    ("sdxl", "attention+mlp+proj", True, True): Activations(37736, 1033600, 0, 12832),
    ("sdxl", "attention+mlp+proj", False, False): Activations(816662, 52581888, 213, 20192),
    ("sdxl", "attention+mlp+proj", False, True): Activations(67120, 639232, 0, 20192),
}
VAE_PIXEL = {2: 82304, 4: 163840}  # bytes a latent pixel while one picture is encoded, by an element's bytes
DECODED_PIXEL = {2: 98320, 4: 196624}  # the same while one is decoded


@dataclass(frozen=True)
class Setup:
    """The settings of a run that its memory depends on; names as in `TrainConfig`.

    Attributes:
        resolution: side of the square whose area no bucket exceeds, pixels.
        batch_size: pairs in a forward pass; each is two pictures.
        precision: `fp32`, `bf16` or `fp16`: what `auto` came to.
        refine: is there a frozen LoRA to go on from? Its rank and targets are the ones that count.
        previews: are pictures drawn while it trains?
        copies: further copies of the adapter, float32: its average, a reference that moves.
        share: of the family's published UNet that this one is, by parameters; a reduced model is counted in proportion.
    """

    family: Family
    resolution: int
    batch_size: int
    precision: str
    rank: int
    targets: Targets
    checkpointing: bool
    optimizer: Optimizer = "adamw"
    objective: str = "dspo"
    refine: bool = False
    previews: bool = False
    share: float = 1.0
    copies: int = 0


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes at the height of a training step, of the encoding before it and of the previews between.

    Attributes:
        weights: the UNet's.
        adapter: the LoRA with its gradients, AdamW's moments and autocast's copy of it in half precision.
        activations: what the graph keeps for the backward pass.
        workspace: what comes and goes in a forward or backward pass, and `ALLOWANCE`.
        encoding: VAE and text encoders together, encoding one picture, and `ALLOWANCE`; the UNet is not there yet.
        preview: UNet and adapter beside the text encoders, or beside the VAE decoding one picture, and `ALLOWANCE`.
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
        """Of a training step."""
        return self.weights + self.adapter + self.activations + self.workspace

    @property
    def peak(self) -> int:
        """Of the whole run."""
        return max(self.total, self.encoding, self.preview)


def need_of(setup: Setup) -> MemoryNeed:
    """What a run needs of one device.

    Raises:
        ConfigError: an unknown family, precision, targets, optimiser or objective.
    """
    _check(setup)
    sizes, element = SIZES[setup.family], ELEMENT[setup.precision]
    step = ACTIVATIONS[setup.family, setup.targets, element == 2, setup.checkpointing]
    pixels, pictures = math.ceil(setup.resolution**2 / PATCH**2), 2 * setup.batch_size
    with_graph = pictures if objectives.find(setup.objective).has_loser else setup.batch_size
    kept = (step.pixel + step.rank * setup.rank) * pixels + step.picture
    in_vae = 4 if setup.family == "sdxl" and setup.precision == "fp16" else element  # SDXL's overflows in fp16
    weights = round(setup.share * sizes.unet * element)
    adapter = adapter_bytes(round(setup.share * setup.rank * sizes.widths[setup.targets]), setup)
    drawn = max(sizes.text * element, sizes.vae * in_vae + DECODED_PIXEL[in_vae] * pixels)
    return MemoryNeed(
        setup=setup,
        weights=weights,
        adapter=adapter,
        activations=round(setup.share * with_graph * kept),
        workspace=round(setup.share * pictures * step.transient * pixels) + ALLOWANCE,
        encoding=sizes.vae * in_vae + sizes.text * element + VAE_PIXEL[in_vae] * pixels + ALLOWANCE,
        preview=weights + adapter + drawn + ALLOWANCE if setup.previews else 0,
    )


def adapter_bytes(parameters: int, setup: Setup) -> int:
    """Bytes that a LoRA of so many parameters takes: itself, gradients and moments, a copy, the frozen one."""
    own = 4 + 4 + MOMENTS[setup.optimizer] + 4 * (setup.refine + setup.copies)
    return math.ceil(own * parameters) + copies(parameters, setup.precision)


def copies(parameters: int, precision: str) -> int:
    """Bytes of the float32 adapter's copy that autocast computes with."""
    return 0 if precision == "fp32" else ELEMENT[precision] * parameters


def fits(need: MemoryNeed, total_memory: int) -> bool:
    """Does the run fit into a device of `total_memory` bytes, with `MARGIN` to spare?"""
    return need.peak <= (1 - MARGIN) * total_memory


def gib(size: int) -> str:
    """Bytes as GiB with one decimal."""
    return f"{size / GIB:.1f}"


def _check(setup: Setup) -> None:
    found: tuple[tuple[str, str, tuple[str, ...]], ...] = (
        ("the family", setup.family, tuple(SIZES)),
        ("the precision", setup.precision, tuple(ELEMENT)),
        ("lora.targets", setup.targets, get_args(Targets)),
        ("optim.name", setup.optimizer, tuple(MOMENTS)),
    )
    for name, value, known in found:
        if value not in known:
            raise ConfigError(f"no memory estimate: {name} is {value!r}; known: {', '.join(known)}")
