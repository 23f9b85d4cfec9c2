"""A preview, drawn as KSampler draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import comfy.sample
import torch
from PIL import Image

from ...dspo_train.images.decode import to_images
from ...dspo_train.training.model import OnSampling
from ..drawing import Drawing
from .latents import decoded, empty_latent, latent_size

if TYPE_CHECKING:
    from .model import ComfyModel

STEPS = 15
_AT_ONCE = 4  # images of a prompt; fewer where memory ends


def drawn(model: ComfyModel, prompt: str, seed: int, side: int, on_progress: OnSampling) -> Image.Image:
    """One image of about `side` x `side` pixels, at the family's usual guidance."""
    with torch.inference_mode():
        positive, negative = (_encoded(model, text) for text in (prompt, ""))
        model.encoder.release()
        sampler = _usual_sampler(model)
        latent = empty_latent(model.patcher, latent_size(model.patcher, side, side))
        samples = comfy.sample.sample(
            model.patcher,
            comfy.sample.prepare_noise(latent, seed),
            STEPS,
            model.family.cfg,
            *sampler,
            positive,
            negative,
            latent,
            callback=lambda step, denoised, x, total: on_progress(step + 1, total),
            disable_pbar=True,
            seed=seed,
        )
        pixels = decoded(model.wired.vae, samples)
    return to_images(pixels.movedim(-1, 1) * 2 - 1)[0]


def drawn_many(
    model: ComfyModel,
    wanted: Sequence[tuple[str, Sequence[int]]],
    negative: str,
    size: tuple[int, int],
    sampling: Mapping[str, Any],
    on_image: Callable[[int], None],
) -> list[Image.Image]:
    """Images of several prompts, one for each seed, in order; the network's memory may be taken afterwards.

    Args:
        wanted: prompts and their seeds.
        size: (width, height) in pixels.
        sampling: steps, cfg, sampler_name, scheduler; empty for those of previews.
        on_image: called with the number of images sampled.
    """
    usual = dict(zip(("sampler_name", "scheduler"), _usual_sampler(model), strict=True))
    settings = dict(sampling) or {"steps": STEPS, "cfg": model.family.cfg, **usual}
    with torch.inference_mode():
        encoded = {text: _encoded(model, text) for text in [negative, *(text for text, _ in wanted)]}
        model.encoder.release()
        count = sum(len(seeds) for _, seeds in wanted)
        drawing = Drawing(model.patcher, latent_size(model.patcher, *size), _AT_ONCE, settings, count)
        latents = []
        for text, seeds in wanted:
            latents.append(drawing.draw(encoded[text], encoded[negative], seeds))
            on_image(drawing.done)
        pixels = torch.cat([decoded(model.wired.vae, part).cpu() for part in latents])
    return to_images(pixels.movedim(-1, 1) * 2 - 1)


def _usual_sampler(model: ComfyModel) -> tuple[str, str]:
    return ("euler", "simple") if model.process.prediction == "flow" else ("dpmpp_2m", "karras")


def _encoded(model: ComfyModel, text: str) -> Any:
    """A prompt is encoded once: the text encoder may have to take the network's place."""
    if text not in model.encoded:
        clip = model.wired.clip
        model.encoded[text] = clip.encode_from_tokens_scheduled(clip.tokenize(text))
    return model.encoded[text]
