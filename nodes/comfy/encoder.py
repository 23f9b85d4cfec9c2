"""The wired CLIP and VAE as a run's encoder: images to latents in the model's units, prompts to what its CLIP gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ...dspo_train.exceptions import ModelError
from ...dspo_train.models.conditioning import Conditioning, Frame, cat
from . import memory
from .fingerprint import digest_of

SHAPE = "#shape"  # of a tensor before it was padded to be joined with others
FRAME = "frame"
_LEAST = -60.0  # log-variance of a VAE that gives no spread


class ComfyEncoder:
    """Implements `training.model.RunEncoder`.

    Args:
        patcher: of the MODEL, whose units the latents have.
    """

    scaling, shift = 1.0, 0.0  # `moments` are in the model's units already

    def __init__(self, patcher: Any, clip: Any, vae: Any) -> None:
        self.patcher, self.clip, self.vae = patcher, clip, vae

    @property
    def image_id(self) -> str:
        """See `fingerprint` for what it covers; the latents' units count too."""
        return self._ids[0]

    @property
    def prompt_id(self) -> str:
        """See `fingerprint` for what it covers; the layer at which the encoder stops counts too."""
        return self._ids[1]

    @cached_property
    def _ids(self) -> tuple[str, str]:
        vae, clip, units = self.vae, self.clip, self.patcher.model.latent_format
        kinds = type(clip.tokenizer).__name__, type(clip.cond_stage_model).__name__
        options = getattr(clip, "tokenizer_options", None)
        of_images = digest_of(vae.patcher, type(units).__name__, units.scale_factor, str(vae.vae_dtype))
        return of_images, digest_of(clip.patcher, clip.layer_idx, options, *kinds)

    @property
    def factor(self) -> int:
        """Pixels per latent pixel, each way."""
        ratio = self.vae.downscale_ratio
        return int(ratio[-1] if isinstance(ratio, tuple) else ratio)

    def moments(self, pixels: Tensor) -> Tensor:
        """Mean and log-variance of the latents, in the model's units.

        (N, 3, H, W) in [-1, 1] -> (N, 2C, H/f, W/f) float32

        Raises:
            ModelError: the VAE yields infinities or NaNs.
        """
        with torch.inference_mode():
            mean, above = self._encoded((pixels.movedim(1, -1) + 1) / 2)
            spread = (above - mean).abs()
        if not (mean.isfinite().all() and spread.isfinite().all()):
            raise ModelError(
                f"the wired VAE gives values that are not finite in {self.vae.vae_dtype}; start ComfyUI with "
                "--fp32-vae, or wire another VAE"
            )
        logvar = (2 * spread.log()).clamp(min=_LEAST)
        return torch.cat([mean, logvar], dim=1).clone()

    def _encoded(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The mean, and the mean plus the standard deviation, in the model's units. (N, H, W, 3) -> (N, C, h, w) twice

        What follows a VAE's Gaussian is linear, so both go through it side by side.
        """
        vae, inner = self.vae, self.vae.first_stage_model
        gaussian = getattr(inner, "regularization", None)
        if vae.latent_dim != 2 or type(gaussian).__name__ != "DiagonalGaussianRegularizer":
            # one by one: a VAE of videos takes a batch for the frames of one
            mean = torch.cat([self._in_units(vae.encode(image[None])) for image in pixels])
            return mean, mean
        cropped = vae.vae_encode_crop_pixels(pixels).movedim(-1, 1)
        memory.load([vae.patcher], int(vae.memory_used_encode(cropped.shape, vae.vae_dtype)))
        hook = gaussian.register_forward_hook(_both_sides)
        try:
            given = vae.process_input(cropped).to(vae.device, vae.vae_dtype)
            both = self._in_units(inner.encode(given).float().to("cpu"))
        finally:
            hook.remove()
        mean, above = both.chunk(2)
        return mean, above

    def _in_units(self, latents: Tensor) -> Tensor:
        scaled = self.patcher.model.process_latent_in(latents.float())
        return scaled[:, :, 0] if scaled.ndim == 5 else scaled  # an image is a video of one frame to some models

    def prompts(self, texts: Sequence[str]) -> Conditioning:
        """Encode N prompts as CLIPTextEncode does, weights and embeddings in their words included.

        Raises:
            ModelError: the text encoder yields infinities or NaNs.
        """
        return cat([self._prompt(text) for text in texts])

    def _prompt(self, text: str) -> Conditioning:
        context, rest = self._given(text)[0]
        given = {"cross_attn": context, **{name: value for name, value in rest.items() if isinstance(value, Tensor)}}
        tensors: dict[str, Tensor] = {}
        for name, value in given.items():
            if value.is_floating_point() and not value.isfinite().all():
                raise ModelError(
                    f"the wired CLIP gives values that are not finite for the prompt {text[:40]!a}; wire another one"
                )
            tensors[name] = value.to("cpu").clone()[None]
            tensors[name + SHAPE] = torch.tensor([value.shape])
        return Conditioning(tensors)

    def _given(self, text: str) -> Any:
        """What CLIPTextEncode gives."""
        with torch.inference_mode():
            return self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text))

    def as_read(self, text: str) -> str:
        """The whole prompt: ComfyUI's tokenizers read weights and embeddings in it."""
        return text

    def remarks(self, texts: Sequence[str]) -> list[str]:
        """None: ComfyUI's encoders read prompts of any length."""
        return []

    def frame(self, frames: Sequence[Frame]) -> Mapping[str, Tensor]:
        """What part of its original each image shows, for models that are conditioned on it."""
        return {FRAME: torch.tensor(frames, dtype=torch.int64)}

    def release(self) -> None:
        """Take text encoder and VAE off the device; the network stays where it is."""
        memory.unload_others(self.patcher)


def _both_sides(gaussian: Any, given: tuple[Tensor, ...], result: Any) -> Any:
    """In place of the mean: the mean and, as a second half of the batch, the mean plus the standard deviation."""
    mean, logvar = given[0].float().chunk(2, dim=1)  # bfloat16 would round the deviation away
    return torch.cat([mean, mean + (logvar.clamp(-30.0, 20.0) / 2).exp()]), None
