"""Train the embedded model from scratch: VAE, then UNet and text encoder together, on drawn scenes.

    python -m dspo_train.demo.build_model --out FOLDER

This takes about an hour on two CPU cores. The result is an ordinary diffusers folder in float16 that every loader of
Stable Diffusion pipelines reads. The one in this package was made by the two stages with their default sizes, the
second started separately with `--vae`; running both together draws other random numbers, with an equivalent result.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import logging
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ..evaluate import shapes as world

log = logging.getLogger("dspo.build_model")

PHRASES = ("a {} {}", "{} {}", "one {} {}", "a picture of a {} {}", "a drawing of a {} {}")
LATENT_CHANNELS = 8
_TOKENS = 16  # the text encoder's context length; the longest phrase has eight tokens
_VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (16, 32, 64, 64),
    "layers_per_block": 1,
    "latent_channels": LATENT_CHANNELS,
    "norm_num_groups": 8,
    "sample_size": world.SIZE,
}
_UNET: dict[str, Any] = {
    "sample_size": world.SIZE // 8,
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "down_block_types": ("CrossAttnDownBlock2D",) * 2,
    "up_block_types": ("CrossAttnUpBlock2D",) * 2,
    "block_out_channels": (64, 96),
    "layers_per_block": 1,
    "cross_attention_dim": 64,
    "attention_head_dim": 4,
    "norm_num_groups": 16,
}
_TEXT_ENCODER: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "projection_dim": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": _TOKENS,
}
GUIDANCE_DROPOUT = 0.1  # share of captions replaced by the empty one (classifier-free guidance)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the embedded demonstration model.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=30000, help="scenes drawn for training")
    parser.add_argument("--vae", type=Path, help="a trained VAE's folder, to train the rest only")
    parser.add_argument("--vae-steps", type=int, default=4500)
    parser.add_argument("--unet-steps", type=int, default=14000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(arguments.seed)
    random.seed(arguments.seed)

    scenes = _scenes(arguments.images, arguments.seed)
    if arguments.vae is None:
        vae = train_vae(_images(scenes), arguments.vae_steps)
    else:
        vae = AutoencoderKL.from_pretrained(arguments.vae).eval().requires_grad_(False)
    vae.save_pretrained(arguments.out / "vae")
    # the VAE learns tilted shapes, so that it is not confined to the upright ones that the UNet learns
    scenes = [dataclasses.replace(scene, tilt=0.0) for scene in scenes]
    moments = _encoded(vae, _images(scenes))
    vae.register_to_config(scaling_factor=round(1 / _sample(moments).std().item(), 4))
    tokenizer = build_tokenizer(arguments.out / "tokenizer")
    for unet, text_encoder in train_unet(
        moments, scenes, tokenizer, vae.config["scaling_factor"], arguments.unet_steps
    ):
        save(arguments.out, vae, unet, text_encoder, tokenizer)


def _scenes(count: int, seed: int) -> list[world.Scene]:
    generator = torch.Generator().manual_seed(seed)
    return [world.random_scene(generator) for _ in range(count)]


def _images(scenes: list[world.Scene]) -> Tensor:
    """Draw scenes. -> uint8 (N, 3, 64, 64)"""
    parts = [
        world.draw_scenes(scenes[i : i + 500]).mul(255).round().to(torch.uint8) for i in range(0, len(scenes), 500)
    ]
    log.info("drew %d scenes", len(scenes))
    return torch.cat(parts)


def _pixels(images: Tensor) -> Tensor:
    """Bytes to the VAE's range. uint8 -> float32 in [-1, 1]"""
    return images.float() / 127.5 - 1


@dataclasses.dataclass
class Ema:
    """Exponential moving average of a module's weights, with a warm-up so that early steps are forgotten."""

    average: nn.Module
    decay: float = 0.999
    steps: int = 0

    def update(self, module: nn.Module) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            for mine, theirs in zip(self.average.parameters(), module.parameters(), strict=True):
                mine.lerp_(theirs, 1 - decay)


def _optimise(
    name: str, modules: list[nn.Module], loss_of: Callable[[], Tensor], steps: int, peak: float
) -> Iterator[int]:
    """Train with AdamW and a one-cycle learning rate; yields after each step, for the caller to average or save."""
    parameters = [p for module in modules for p in module.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=peak, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, peak, total_steps=steps, pct_start=0.05)
    started, smooth = time.monotonic(), math.nan
    for step in range(1, steps + 1):
        loss = loss_of()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        smooth = loss.item() if math.isnan(smooth) else 0.98 * smooth + 0.02 * loss.item()
        if step % 200 == 0:
            log.info("%s step %d loss %.5f, %.0f s", name, step, smooth, time.monotonic() - started)
        yield step


def vae_loss(error: Tensor, posterior: Any) -> Tensor:
    """Of the decoded pixels' error, with a little of the divergence from a normal distribution."""
    return error.abs().mean() + error.square().mean() + 1e-4 * posterior.kl().mean() / posterior.mean[0].numel()


def train_vae(images: Tensor, steps: int, batch: int = 32) -> AutoencoderKL:
    """Train an 8x down-sampling VAE, (3, 64, 64) -> (8, 8, 8), on uint8 images (N, 3, 64, 64)."""
    vae = AutoencoderKL(**_VAE)

    def loss_of() -> Tensor:
        pixels = _pixels(images[torch.randint(len(images), (batch,))])
        with torch.autocast("cpu", torch.bfloat16):
            (posterior,) = vae.encode(pixels, return_dict=False)
            (decoded,) = vae.decode(posterior.sample(), return_dict=False)  # type: ignore[arg-type]
        return vae_loss(decoded.float() - pixels, posterior)

    ema = Ema(copy.deepcopy(vae))
    for _ in _optimise("vae", [vae], loss_of, steps, peak=2e-3):
        ema.update(vae)
    assert isinstance(ema.average, AutoencoderKL)
    return ema.average.eval().requires_grad_(False)


@torch.no_grad()
def _encoded(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Posterior mean and log-variance of every image. -> (N, 16, 8, 8)"""
    parts = [vae.encode(_pixels(chunk), return_dict=False)[0].parameters for chunk in images.split(250)]
    return torch.cat(parts)


def _sample(moments: Tensor) -> Tensor:
    mean, log_variance = moments.chunk(2, dim=1)
    return mean + torch.randn_like(mean) * (log_variance / 2).exp()


def build_tokenizer(
    folder: Path, phrases: Iterable[str] = PHRASES, names: Iterable[str] = (*world.COLORS, *world.SHAPES)
) -> CLIPTokenizer:
    """A byte-pair vocabulary in which every word of a world is one token and other text is spelled out."""
    words = sorted({word for phrase in phrases for word in phrase.split() if word != "{}"} | {*names})
    characters = [chr(c) for c in range(33, 127)]
    vocabulary = [*characters, *(c + "</w>" for c in characters)]
    merges: list[str] = []
    for word in words:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            merge = f"{pieces[0]} {pieces[1]}"
            pieces[:2] = [pieces[0] + pieces[1]]
            if merge not in merges:
                merges.append(merge)
                vocabulary.append(pieces[0])
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    ids = {token: i for i, token in enumerate(dict.fromkeys(vocabulary))}
    (folder / "vocab.json").write_text(json.dumps(ids), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    return CLIPTokenizer(
        str(folder / "vocab.json"),
        str(folder / "merges.txt"),
        pad_token="<|endoftext|>",
        model_max_length=_TOKENS,
    )


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    return tokenizer(texts, padding="max_length", max_length=_TOKENS, truncation=True, return_tensors="pt").input_ids


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return CLIPTextModel(CLIPTextConfig(vocab_size=len(tokenizer), **_TEXT_ENCODER, **special))


def train_unet(
    moments: Tensor,
    scenes: list[world.Scene],
    tokenizer: CLIPTokenizer,
    scaling: float,
    steps: int,
    batch: int = 64,
) -> Iterator[tuple[UNet2DConditionModel, CLIPTextModel]]:
    """Train UNet and text encoder together, with v prediction and caption dropout.

    Yields the averaged models ten times on the way, for early inspection, and at the end.
    """
    text_encoder = new_text_encoder(tokenizer)
    unet = UNet2DConditionModel(**_UNET)
    schedule = scheduler()
    signal = schedule.alphas_cumprod.sqrt().view(-1, 1, 1, 1)
    spread = (1 - schedule.alphas_cumprod).sqrt().view(-1, 1, 1, 1)
    phrases = [[p.format(s.color, s.shape) for s in scenes] for p in PHRASES]
    tokens = torch.stack([tokenize(tokenizer, texts) for texts in phrases])
    empty = tokenize(tokenizer, [""])

    def loss_of() -> Tensor:
        index = torch.randint(len(scenes), (batch,))
        # half of the draws use the plain phrase, with which the demonstration prompts
        phrase = torch.randint(len(PHRASES), (batch,)) * (torch.rand(batch) < 0.5)
        ids = torch.where(torch.rand(batch, 1) < GUIDANCE_DROPOUT, empty, tokens[phrase, index])
        clean, noise = scaling * _sample(moments[index]), torch.randn(batch, LATENT_CHANNELS, 8, 8)
        timestep = draw_timesteps(batch)
        noisy = signal[timestep] * clean + spread[timestep] * noise
        # with so few tokens the fused attention kernels are slower, by half of a step's time
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            context = text_encoder(ids).last_hidden_state
            predicted = unet(noisy, timestep, context).sample
        velocity = signal[timestep] * noise - spread[timestep] * clean
        return (predicted.float() - velocity).square().mean()

    ema_unet, ema_text = Ema(copy.deepcopy(unet)), Ema(copy.deepcopy(text_encoder))
    for step in _optimise("unet", [unet, text_encoder], loss_of, steps, peak=1.5e-3):
        ema_unet.update(unet)
        ema_text.update(text_encoder)
        if step % max(1, steps // 10) == 0 or step == steps:
            yield copy.deepcopy(ema_unet.average).eval(), copy.deepcopy(ema_text.average).eval()  # type: ignore[misc]


def draw_timesteps(count: int) -> Tensor:
    """Half uniform, half logit-normal around the noise level that decides shapes. -> (count,) in 0 ... 999"""
    uniform = torch.rand(count)
    middle = torch.sigmoid(torch.randn(count) - 0.5)
    return (1000 * torch.where(torch.rand(count) < 0.5, uniform, middle)).long().clamp(max=999)


def scheduler() -> DDIMScheduler:
    """Linear betas end in nearly pure noise, so backgrounds come out as dark or as light as drawn (Stable Diffusion's
    own schedule keeps 7% of the signal and pulls them to grey); v prediction stays accurate there.
    """
    return DDIMScheduler(
        beta_schedule="linear", beta_start=0.0001, beta_end=0.02, clip_sample=False, set_alpha_to_one=False,
        steps_offset=1, prediction_type="v_prediction", timestep_spacing="trailing",
    )  # fmt: skip


def save(
    folder: Path,
    vae: AutoencoderKL,
    unet: UNet2DConditionModel,
    text: CLIPTextModel,
    tokenizer: CLIPTokenizer,
) -> None:
    """Write the diffusers folder in float16."""
    pipeline = StableDiffusionPipeline(
        vae=copy.deepcopy(vae), text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=scheduler(),  # type: ignore[arg-type]
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,  # type: ignore[arg-type]
    )  # fmt: skip
    pipeline.to(torch.float16).save_pretrained(folder)
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    log.info("wrote %s, %.2f MB", folder, size / 1e6)


if __name__ == "__main__":
    main()
