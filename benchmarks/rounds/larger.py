"""A third model: images of 128 pixels with two shapes, v prediction, a schedule that ends in pure noise.

    python -m benchmarks.rounds.larger --out FOLDER

It is the embedded model, trained on for this world in all its parts: latents of 16 x 16, three more kinds of shapes,
the number of two, and pure noise are new to it. About an hour on one core.
"""

from __future__ import annotations

import argparse
import copy
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTextModel, CLIPTokenizer

from dspo_train.demo import build_model as embedded
from dspo_train.demo.run import MODEL
from dspo_train.evaluate.shapes import COLORS

from . import smaller
from . import two_shapes as world

PHRASES = ("a {} {} twice", "{} {} twice", "a picture of a {} {} twice")
_BATCH, _VAE_BATCH = 16, 8


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a model of images of 128 pixels with two shapes.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=6000, help="scenes drawn for training")
    parser.add_argument("--vae-steps", type=int, default=400)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=2)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    generator = torch.Generator().manual_seed(arguments.seed)
    scenes = [world.random_scene(generator) for _ in range(arguments.images)]
    images = torch.stack([world.draw(scene).mul(255).round().to(torch.uint8) for scene in scenes])
    vae = tuned_vae(arguments.out / "vae", images, arguments.vae_steps)
    moments = embedded._encoded(vae, images)
    vae.register_to_config(scaling_factor=round(1 / embedded._sample(moments).std().item(), 4))
    tokenizer = embedded.build_tokenizer(arguments.out / "tokenizer", PHRASES, (*COLORS, *world.KINDS))
    for unet, text in trained(vae, moments, tokenizer, scenes, arguments.steps):
        StableDiffusionPipeline(
            vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=scheduler(),  # type: ignore[arg-type]
            safety_checker=None, feature_extractor=None, requires_safety_checker=False,  # type: ignore[arg-type]
        ).save_pretrained(arguments.out)  # fmt: skip


def scheduler() -> DDIMScheduler:
    """Stable Diffusion's, rescaled to end without signal (Lin et al. 2024)."""
    plain = smaller.scheduler().config
    return DDIMScheduler(**{**plain, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True})


def tuned_vae(folder: Path, images: Tensor, steps: int) -> AutoencoderKL:
    """The embedded model's VAE after more training on uint8 images (N, 3, 128, 128); read back if it is there.

    Without it colours change: the VAE's normalisation is over the whole image, and this world's hold more background.
    """
    if (folder / "config.json").exists():
        return AutoencoderKL.from_pretrained(folder).eval().requires_grad_(False)
    vae = AutoencoderKL.from_pretrained(MODEL, subfolder="vae", torch_dtype=torch.float32)

    def loss_of() -> Tensor:
        pixels = embedded._pixels(images[torch.randint(len(images), (_VAE_BATCH,))])
        (posterior,) = vae.encode(pixels, return_dict=False)
        (decoded,) = vae.decode(posterior.sample(), return_dict=False)  # type: ignore[arg-type]
        return embedded.vae_loss(decoded - pixels, posterior)

    for _ in embedded._optimise("vae", [vae], loss_of, steps, peak=1e-3):
        pass
    vae.save_pretrained(folder)
    return vae.eval().requires_grad_(False)


def text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """The embedded model's, with the words that it knows under their new numbers; the others begin at random."""
    text = embedded.new_text_encoder(tokenizer)
    known = CLIPTextModel.from_pretrained(MODEL, subfolder="text_encoder", torch_dtype=torch.float32).state_dict()
    before = CLIPTokenizer.from_pretrained(MODEL, subfolder="tokenizer").get_vocab()
    (table,) = (name for name in known if name.endswith("token_embedding.weight"))
    rows = text.state_dict()[table].clone()
    for word, number in tokenizer.get_vocab().items():
        if word in before:
            rows[number] = known[table][before[word]]
    text.load_state_dict({**known, table: rows})
    return text


def trained(
    vae: AutoencoderKL, moments: Tensor, tokenizer: CLIPTokenizer, scenes: Sequence[world.Scene], steps: int
) -> Iterator[tuple[UNet2DConditionModel, CLIPTextModel]]:
    """The averaged network and text encoder, ten times on the way and at the end."""
    unet = UNet2DConditionModel.from_pretrained(MODEL, subfolder="unet", torch_dtype=torch.float32)
    unet.register_to_config(sample_size=world.SIDE // 8)
    text = text_encoder(tokenizer)
    tokens = torch.stack([
        embedded.tokenize(tokenizer, [phrase.format(*scene.words) for scene in scenes]) for phrase in PHRASES
    ])  # fmt: skip
    empty = embedded.tokenize(tokenizer, [""])
    alphas = scheduler().alphas_cumprod
    signal, spread = (part.sqrt().view(-1, 1, 1, 1) for part in (alphas, 1 - alphas))

    def loss_of() -> Tensor:
        index = torch.randint(len(scenes), (_BATCH,))
        phrase = torch.randint(len(PHRASES), (_BATCH,)) * (torch.rand(_BATCH) < 0.5)
        ids = torch.where(torch.rand(_BATCH, 1) < embedded.GUIDANCE_DROPOUT, empty, tokens[phrase, index])
        clean = vae.config["scaling_factor"] * embedded._sample(moments[index])
        noise, timestep = torch.randn_like(clean), embedded.draw_timesteps(_BATCH)
        noisy = signal[timestep] * clean + spread[timestep] * noise
        with sdpa_kernel(SDPBackend.MATH):
            predicted = unet(noisy, timestep, text(ids).last_hidden_state).sample
        return (predicted - (signal[timestep] * noise - spread[timestep] * clean)).square().mean()

    averages = [embedded.Ema(copy.deepcopy(module)) for module in (unet, text)]
    for step in embedded._optimise("larger", [unet, text], loss_of, steps, peak=5e-4):
        for average, module in zip(averages, (unet, text), strict=True):
            average.update(module)
        if step % max(1, steps // 10) == 0 or step == steps:
            yield tuple(copy.deepcopy(average.average).eval() for average in averages)  # type: ignore[misc]


if __name__ == "__main__":
    main()
