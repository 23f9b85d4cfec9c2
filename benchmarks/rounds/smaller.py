"""Another model of the shapes world: half as wide, it predicts the noise, on Stable Diffusion's own schedule.

    python -m benchmarks.rounds.smaller --out FOLDER

The VAE and the text encoder are the embedded model's, frozen. About an hour on one core.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from dspo_train.demo import build_model as embedded
from dspo_train.demo.run import MODEL

WIDTHS = (32, 48)  # the embedded model's are 64 and 96
_BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a smaller model of the shapes world that predicts the noise.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=12000, help="scenes drawn for training")
    parser.add_argument("--steps", type=int, default=9000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    pipeline: Any = StableDiffusionPipeline.from_pretrained(MODEL)
    scenes = [dataclasses.replace(each, tilt=0.0) for each in embedded._scenes(arguments.images, arguments.seed)]
    moments = embedded._encoded(pipeline.vae, embedded._images(scenes))
    for unet in trained(pipeline, moments, scenes, arguments.steps):
        whole: Any = copy.copy(pipeline)
        whole.register_modules(unet=unet, scheduler=scheduler())
        whole.save_pretrained(arguments.out)


def scheduler() -> DDIMScheduler:
    """Stable Diffusion's: it keeps 7% of the signal at its noisiest step."""
    return DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, set_alpha_to_one=False,
        steps_offset=1, prediction_type="epsilon", timestep_spacing="trailing",
    )  # fmt: skip


def trained(pipeline: Any, moments: Tensor, scenes: list[Any], steps: int) -> Iterator[UNet2DConditionModel]:
    """The averaged network, five times on the way and at the end."""
    unet = UNet2DConditionModel(**{**embedded._UNET, "block_out_channels": WIDTHS})
    contexts, empty = _contexts(pipeline, scenes)
    alphas = scheduler().alphas_cumprod
    signal, spread = (part.sqrt().view(-1, 1, 1, 1) for part in (alphas, 1 - alphas))
    scaling, shape = pipeline.vae.config.scaling_factor, (_BATCH, *moments.shape[2:])

    def loss_of() -> Tensor:
        index = torch.randint(len(scenes), (_BATCH,))
        phrase = torch.randint(len(contexts), (_BATCH,)) * (torch.rand(_BATCH) < 0.5)
        dropped = (torch.rand(_BATCH) < embedded.GUIDANCE_DROPOUT)[:, None, None]
        words = torch.where(dropped, empty, contexts[phrase, index])
        clean = scaling * embedded._sample(moments[index])
        noise, timestep = torch.randn(shape[0], embedded.LATENT_CHANNELS, *shape[1:]), torch.randint(1000, (_BATCH,))
        noisy = signal[timestep] * clean + spread[timestep] * noise
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            predicted = unet(noisy, timestep, words).sample
        return (predicted.float() - noise).square().mean()

    average = embedded.Ema(copy.deepcopy(unet))
    for step in embedded._optimise("smaller", [unet], loss_of, steps, peak=2e-3):
        average.update(unet)
        if step % max(1, steps // 5) == 0 or step == steps:
            yield copy.deepcopy(average.average).eval()  # type: ignore[misc]


@torch.no_grad()
def _contexts(pipeline: Any, scenes: list[Any]) -> tuple[Tensor, Tensor]:
    """What the text encoder makes of every phrase for every scene, (P, N, 16, 64), and of no words, (1, 16, 64)."""

    def encoded(texts: list[str]) -> Tensor:
        known = {text: None for text in texts}
        ids = embedded.tokenize(pipeline.tokenizer, list(known))
        rows = dict(zip(known, pipeline.text_encoder(ids).last_hidden_state, strict=True))
        return torch.stack([rows[text] for text in texts])

    phrases = [[phrase.format(s.color, s.shape) for s in scenes] for phrase in embedded.PHRASES]
    return torch.stack([encoded(texts) for texts in phrases]), encoded([""])


if __name__ == "__main__":
    main()
