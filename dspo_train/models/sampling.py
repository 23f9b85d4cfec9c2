"""Pictures from prompts and seeds, the same for a seed whatever else is sampled beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler
from PIL import Image
from torch import Tensor, nn

from ..exceptions import ConfigError
from .base import Base
from .conditioning import Conditioning, cat
from .single_file import Family
from .unet import predict

Scheduler = Literal["dpm++", "ddim", "euler"]
SCHEDULERS: dict[Scheduler, tuple[Any, dict[str, Any]]] = {  # all deterministic: the only noise is the seed's
    "dpm++": (DPMSolverMultistepScheduler, {}),
    "ddim": (DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": False}),
    "euler": (EulerDiscreteScheduler, {}),
}
GUIDANCE_RESCALE = 0.7  # with zero terminal SNR; Lin et al. 2024, section 3.4


@dataclass(frozen=True)
class SampleSpec:
    """How to sample; sizes in pixels. A `guidance` of 1 needs no unconditional pass and ignores the negative prompt."""

    width: int = 512
    height: int = 512
    steps: int = 25
    guidance: float = 7.0
    negative_prompt: str = ""
    scheduler: Scheduler = "dpm++"

    def __post_init__(self) -> None:
        for name, side in (("width", self.width), ("height", self.height)):
            if side < 8 or side % 8:
                raise ConfigError(f"{name} must be a positive multiple of 8, got {side}")
        if self.steps < 1:
            raise ConfigError(f"steps must be at least 1, got {self.steps}")
        if not (math.isfinite(self.guidance) and self.guidance >= 1):
            raise ConfigError(f"guidance must be at least 1, got {self.guidance}")
        if self.scheduler not in get_args(Scheduler):
            raise ConfigError(f"unknown scheduler {self.scheduler!r}; known: {', '.join(get_args(Scheduler))}")


GUIDANCE: dict[Family, float] = {"sd15": 7.0, "sd2": 7.0, "sdxl": 5.0}


def default_spec(base: Base) -> SampleSpec:
    """The size that the UNet was trained at, and its family's usual guidance."""
    side = int(base.unet.config["sample_size"]) * base.encoder.factor
    return SampleSpec(width=side, height=side, guidance=GUIDANCE[base.family])


def sample(
    base: Base,
    prompts: Sequence[str],
    seeds: Sequence[int],
    spec: SampleSpec | None = None,
    *,
    batch_size: int = 4,
    on_progress: Callable[[int, int], None] | None = None,
    conditioning: Mapping[str, Conditioning] | None = None,
) -> list[Image.Image]:
    """One picture for each prompt and the seed at its place, with whatever adapters the UNet carries.

    Args:
        spec: how; by default `default_spec`.
        on_progress: called with (denoising steps done, of all); what it raises ends the sampling cleanly.
        conditioning: prompts (and the negative prompt) already encoded, one row each, for callers who sample often;
            what is not in it is encoded here, once.
    """
    spec = spec or default_spec(base)
    if len(prompts) != len(seeds):
        raise ValueError(f"{len(prompts)} prompts but {len(seeds)} seeds; each picture takes one of both")
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
    if not all(0 <= seed < 2**63 for seed in seeds):
        raise ConfigError(f"seeds must be between 0 and 2^63 - 1, got {min(seeds)} to {max(seeds)}")
    if not prompts:
        return []
    starts = range(0, len(prompts), batch_size)
    images: list[Image.Image] = []
    with torch.no_grad(), _eval_mode(base.unet):
        known = _encode(base, [*prompts, *([spec.negative_prompt] if spec.guidance > 1 else [])], conditioning or {})
        for number, start in enumerate(starts):
            part = slice(start, start + batch_size)

            def report(step: int, before: int = number * spec.steps) -> None:
                if on_progress is not None:
                    on_progress(before + step, len(starts) * spec.steps)

            rows, noise = _batch(prompts[part], known, spec), initial_noise(base, seeds[part], spec)
            images += to_images(base.encoder.decode(denoise(base, rows, noise, spec, report)))
    return images


def initial_noise(base: Base, seeds: Sequence[int], spec: SampleSpec) -> Tensor:
    """Standard normal latents, each from its own CPU generator: the same on every device. -> (N, C, h, w)"""
    factor = base.encoder.factor
    shape = (base.unet.config["in_channels"], spec.height // factor, spec.width // factor)
    return torch.stack([torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed)) for seed in seeds])


def to_images(pixels: Tensor) -> list[Image.Image]:
    """(N, 3, H, W) in [-1, 1] -> N RGB pictures."""
    levels = ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to("cpu", torch.uint8)
    return [Image.fromarray(level.permute(1, 2, 0).numpy()) for level in levels]


def make_scheduler(config: Mapping[str, Any], name: Scheduler, steps: int) -> Any:
    """A diffusers scheduler for a model's noise process; trailing spacing where the last step is pure noise."""
    kind, options = SCHEDULERS[name]
    zero_snr = bool(config.get("rescale_betas_zero_snr"))
    scheduler = kind(
        num_train_timesteps=config.get("num_train_timesteps", 1000),
        beta_start=config["beta_start"],
        beta_end=config["beta_end"],
        beta_schedule=config.get("beta_schedule", "linear"),
        prediction_type=config.get("prediction_type", "epsilon"),
        rescale_betas_zero_snr=zero_snr,
        timestep_spacing="trailing" if zero_snr else config.get("timestep_spacing", "leading"),
        steps_offset=config.get("steps_offset", 0),
        **options,
    )
    scheduler.set_timesteps(steps)
    return scheduler


def denoise(
    base: Base, conditioning: Conditioning, noise: Tensor, spec: SampleSpec, report: Callable[[int], None]
) -> Tensor:
    """Denoise in float32 while the UNet runs in its own precision. (N, C, h, w) -> (N, C, h, w)

    `conditioning` holds N rows, or 2N with the unconditional ones first.
    """
    scheduler = make_scheduler(base.scheduler_config, spec.scheduler, spec.steps)
    rescale = GUIDANCE_RESCALE if base.scheduler_config.get("rescale_betas_zero_snr") else 0.0
    conditioning = conditioning.to(base.device, base.dtype)
    latents = noise.to(base.device) * scheduler.init_noise_sigma
    for step, timestep in enumerate(scheduler.timesteps, start=1):
        scaled = scheduler.scale_model_input(latents, timestep)
        inputs = torch.cat([scaled, scaled]) if spec.guidance > 1 else scaled  # (2N or N, C, h, w)
        prediction = predict(base.unet, inputs, timestep, conditioning).float()
        if spec.guidance > 1:
            prediction = guided(*prediction.chunk(2), guidance=spec.guidance, rescale=rescale)
        latents = scheduler.step(prediction, timestep, latents, return_dict=False)[0]
        report(step)
    return latents


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
        pooled = None if fresh.pooled is None else fresh.pooled[n : n + 1]
        known[text] = Conditioning(fresh.context[n : n + 1], pooled)
    return known


def _batch(prompts: Sequence[str], known: Mapping[str, Conditioning], spec: SampleSpec) -> Conditioning:
    unconditional = [spec.negative_prompt] * len(prompts) if spec.guidance > 1 else []
    rows = cat([Conditioning(known[text].context, known[text].pooled) for text in [*unconditional, *prompts]])
    if rows.pooled is None:
        return rows
    size = torch.tensor([[spec.height, spec.width, 0, 0, spec.height, spec.width]], dtype=torch.float32)
    return rows.with_time_ids(size.expand(len(rows), -1).to(rows.context.device))


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
