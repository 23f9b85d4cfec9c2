"""Images from prompts and seeds, the same for a seed whatever else is sampled beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import get_args

import torch
from PIL import Image
from torch import Tensor, nn

from ..exceptions import ConfigError
from ..images.decode import to_images, to_tensor
from .base import Base
from .conditioning import Conditioning, Frame, cat
from .schedulers import Scheduler, begin_at, make_scheduler, steps_taken, times_from
from .unet import predict

GUIDANCE_RESCALE = 0.7  # with zero terminal SNR; Lin et al. 2024, section 3.4


@dataclass(frozen=True)
class SampleSpec:
    """How to sample; sizes in pixels. A `guidance` of 1 needs no unconditional pass and ignores the negative prompt.

    Attributes:
        image_strength: share of the steps that a start image goes through (SDEdit, Meng et al. 2022): 1 ignores it, 0.5
            keeps its composition.
    """

    width: int = 512
    height: int = 512
    steps: int = 25
    guidance: float = 7.0
    negative_prompt: str = ""
    scheduler: Scheduler = "dpm++"
    image_strength: float = 1.0

    def __post_init__(self) -> None:
        for name, side in (("width", self.width), ("height", self.height)):
            if side < 8 or side % 8:
                raise ConfigError(f"{name} must be a positive multiple of 8, got {side}")
        if self.steps < 1:
            raise ConfigError(f"steps must be at least 1, got {self.steps}")
        if not (math.isfinite(self.guidance) and self.guidance >= 1):
            raise ConfigError(f"guidance must be at least 1, got {self.guidance}")
        if not 0 < self.image_strength <= 1:
            raise ConfigError(f"image_strength must be above 0 and at most 1, got {self.image_strength}")
        if self.scheduler not in get_args(Scheduler):
            raise ConfigError(f"unknown scheduler {self.scheduler!r}; known: {', '.join(get_args(Scheduler))}")


def default_spec(base: Base) -> SampleSpec:
    """The size that the UNet was trained at, and its family's usual guidance."""
    side = int(base.unet.config["sample_size"]) * base.encoder.factor
    return SampleSpec(width=side, height=side, guidance=base.family.guidance)


def sample(
    base: Base,
    prompts: Sequence[str],
    seeds: Sequence[int],
    spec: SampleSpec | None = None,
    *,
    batch_size: int = 4,
    on_progress: Callable[[int, int], None] | None = None,
    conditioning: Mapping[str, Conditioning] | None = None,
    images: Sequence[Image.Image] | None = None,
) -> list[Image.Image]:
    """One image for each prompt and the seed at its place, with whatever adapters the UNet carries.

    Args:
        spec: how; by default `default_spec`.
        on_progress: called with (denoising steps done, of all); what it raises ends the sampling cleanly.
        conditioning: prompts (and the negative prompt) already encoded, one row each, for callers who sample often;
            what is not in it is encoded here, once.
        images: start images (img2img), one for each prompt, of the size that is asked for.

    Raises:
        ConfigError: an impossible batch size, seed or start image.
    """
    spec = spec or default_spec(base)
    _check(prompts, seeds, spec, batch_size, images)
    if not prompts:
        return []
    starts = range(0, len(prompts), batch_size)
    steps = steps_taken(spec.steps, spec.image_strength)
    drawn: list[Image.Image] = []
    with torch.no_grad(), _eval_mode(base.unet):
        known = _encode(base, [*prompts, *([spec.negative_prompt] if spec.guidance > 1 else [])], conditioning or {})
        for number, start in enumerate(starts):
            part = slice(start, start + batch_size)
            clean = None if images is None else _latents(base, images[part])
            latents = noise = initial_noise(base, seeds[part], spec)
            states = denoise(base, _batch(base, prompts[part], known, spec), noise, spec, clean)
            for step, latents in enumerate(states, start=1):  # noqa: B007
                if on_progress is not None:
                    on_progress(number * steps + step, len(starts) * steps)
            drawn += to_images(base.encoder.decode(latents))
    return drawn


def _check(
    prompts: Sequence[str],
    seeds: Sequence[int],
    spec: SampleSpec,
    batch_size: int,
    images: Sequence[Image.Image] | None,
) -> None:
    if len(prompts) != len(seeds):
        raise ValueError(f"{len(prompts)} prompts but {len(seeds)} seeds; each image takes one of both")
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
    if not all(0 <= seed < 2**63 for seed in seeds):
        raise ConfigError(f"seeds must be between 0 and 2^63 - 1, got {min(seeds)} to {max(seeds)}")
    if images is None:
        if spec.image_strength < 1:
            raise ConfigError(
                f"`image_strength` {spec.image_strength:g} needs images to start from; give them, or set it to 1"
            )
        return
    if len(images) != len(prompts):
        raise ValueError(f"{len(prompts)} prompts but {len(images)} images to start from; each takes one of both")
    for image in images:
        if image.size != (spec.width, spec.height):
            raise ConfigError(
                f"an image to start from is {image.width}x{image.height}, and {spec.width}x{spec.height} are asked "
                "for; scale it first"
            )


def _latents(base: Base, images: Sequence[Image.Image]) -> Tensor:
    """The mean of each image's latents, in model units. -> (N, C, h, w)"""
    encoder = base.encoder
    mean = encoder.moments(torch.stack([to_tensor(image) for image in images])).chunk(2, dim=1)[0]
    return (mean - encoder.shift) * encoder.scaling


def initial_noise(base: Base, seeds: Sequence[int], spec: SampleSpec) -> Tensor:
    """Standard normal latents, each from its own CPU generator: the same on every device. -> (N, C, h, w)"""
    factor = base.encoder.factor
    shape = (base.unet.config["in_channels"], spec.height // factor, spec.width // factor)
    return torch.stack([torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed)) for seed in seeds])


def denoise(
    base: Base, conditioning: Conditioning, noise: Tensor, spec: SampleSpec, clean: Tensor | None = None
) -> Iterator[Tensor]:
    """Denoise in float32 while the UNet runs in its own precision, and hand out the latents after each step.

    Args:
        conditioning: of N rows, or 2N with the unconditional ones first.
        noise: standard normal, (N, C, h, w).
        clean: latents to start from, in model units, (N, C, h, w), where `spec.image_strength` leaves something of
            them.

    Yields:
        Latents, (N, C, h, w); the last are those of the image.
    """
    scheduler = make_scheduler(base.scheduler_config, spec.scheduler, spec.steps)
    rescale = GUIDANCE_RESCALE if base.scheduler_config.get("rescale_betas_zero_snr") else 0.0
    conditioning = conditioning.to(base.device)
    times = times_from(scheduler, spec.image_strength)
    if clean is None or spec.image_strength == 1:  # flow schedulers do not scale their first noise
        latents = noise.to(base.device) * getattr(scheduler, "init_noise_sigma", 1.0)
    else:
        latents = begin_at(scheduler, times[0], clean.to(base.device), noise.to(base.device))
    for time in times:
        scaled = scheduler.scale_model_input(latents, time) if hasattr(scheduler, "scale_model_input") else latents
        inputs = torch.cat([scaled, scaled]) if spec.guidance > 1 else scaled  # (2N or N, C, h, w)
        prediction = predict(base.family, base.unet, inputs, time, conditioning).float()
        if spec.guidance > 1:
            prediction = guided(*prediction.chunk(2), guidance=spec.guidance, rescale=rescale)
        latents = scheduler.step(prediction, time, latents, return_dict=False)[0]
        yield latents


def guided(unconditional: Tensor, conditional: Tensor, *, guidance: float, rescale: float = 0.0) -> Tensor:
    """Classifier-free guidance, its contrast pulled back by `rescale` (Lin et al. 2024, equations 15 and 16)."""
    prediction = unconditional + guidance * (conditional - unconditional)
    if not rescale:
        return prediction
    axes = list(range(1, prediction.ndim))
    ratio = conditional.std(axes, keepdim=True) / prediction.std(axes, keepdim=True)
    return prediction * (rescale * ratio + 1 - rescale)


def _encode(base: Base, prompts: Sequence[str], encoded: Mapping[str, Conditioning]) -> dict[str, Conditioning]:
    """Each distinct prompt's conditioning, encoding those that are not there yet."""
    wanted = list(dict.fromkeys(prompts))
    unknown = [text for text in wanted if text not in encoded]
    fresh = base.encoder.prompts(unknown) if unknown else None
    known = {text: encoded[text] for text in wanted if text in encoded}
    for n, text in enumerate(unknown):
        assert fresh is not None
        known[text] = fresh[n : n + 1]
    return known


def _batch(base: Base, prompts: Sequence[str], known: Mapping[str, Conditioning], spec: SampleSpec) -> Conditioning:
    unconditional = [spec.negative_prompt] * len(prompts) if spec.guidance > 1 else []
    rows = cat([known[text] for text in [*unconditional, *prompts]])
    frame = Frame(spec.height, spec.width, 0, 0, spec.height, spec.width)
    return rows.adding(base.encoder.frame([frame] * len(rows)))


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    """No dropout and no gradient checkpointing inside; each module's mode is put back on leaving."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
