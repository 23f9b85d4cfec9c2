"""A preview, drawn as KSampler draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.sample
import torch
from PIL import Image

from ...dspo_train.images.decode import to_images
from ...dspo_train.training.model import OnSampling
from .latents import decoded, empty_latent, latent_size

if TYPE_CHECKING:
    from .model import ComfyModel

STEPS = 15


def drawn(model: ComfyModel, prompt: str, seed: int, side: int, on_progress: OnSampling) -> Image.Image:
    """One image of about `side` x `side` pixels, at the family's usual guidance."""
    with torch.inference_mode():
        positive, negative = (_encoded(model, text) for text in (prompt, ""))
        model.encoder.release()
        sampler = ("euler", "simple") if model.process.prediction == "flow" else ("dpmpp_2m", "karras")
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


def _encoded(model: ComfyModel, text: str) -> Any:
    """A prompt is encoded once: the text encoder may have to take the network's place."""
    if text not in model.encoded:
        clip = model.wired.clip
        model.encoded[text] = clip.encode_from_tokens_scheduled(clip.tokenize(text))
    return model.encoded[text]
