"""Many images of many prompts, drawn as KSampler draws each with its seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_management as mm
import comfy.sample
import comfy.utils
import latent_preview
import torch

from ..dspo_train.models.batch_size import in_batches, largest
from .comfy.latents import decoded, empty_latent

# Samplers whose images do not depend on their neighbours in a batch: they add no noise and choose no step size from
# the whole batch. The others draw one image at a time; otherwise its seed would not reproduce it.
INDEPENDENT = frozenset(
    [
        "euler",
        "euler_cfg_pp",
        "heun",
        "heunpp2",
        "dpm_2",
        "lms",
        "dpmpp_2m",
        "dpmpp_2m_cfg_pp",
        "ipndm",
        "ipndm_v",
        "deis",
        "res_multistep",
        "res_multistep_cfg_pp",
        "gradient_estimation",
        "gradient_estimation_cfg_pp",
        "ddim",
        "uni_pc",
        "uni_pc_bh2",
    ]
)


@dataclass
class Drawing:
    """All images of one execution, drawn prompt by prompt.

    Attributes:
        size: of the latents, (height, width).
        batch: images at once; 0 for as many as fit.
        sampling: steps, cfg, sampler_name, scheduler.
        total: images in all, for the progress bar.
    """

    model: Any
    size: tuple[int, int]
    batch: int
    sampling: dict[str, Any]
    total: int
    done: int = 0

    def __post_init__(self) -> None:
        self.bar = comfy.utils.ProgressBar(self.total)
        self.previewer = latent_preview.get_previewer(self.model.load_device, self.model.model.latent_format)
        if self.sampling["sampler_name"] not in INDEPENDENT:
            self.batch = 1

    def draw_each(
        self, prompts: Sequence[str], negative: str, encoded: Mapping[str, Any], seeds: Sequence[int]
    ) -> list[torch.Tensor]:
        """Latents of each prompt, one per seed; `encoded`: by `encoded_texts`."""
        return [self.draw(encoded[prompt], encoded[negative], seeds) for prompt in prompts]

    def draw(self, positive: Any, negative: Any, seeds: Sequence[int]) -> torch.Tensor:
        """Latents of one prompt, one per seed."""

        def sample(some: Sequence[int]) -> torch.Tensor:
            empty = empty_latent(self.model, self.size)
            noise = torch.cat([comfy.sample.prepare_noise(empty, each) for each in some])
            drawn = comfy.sample.sample(
                self.model,
                noise,
                positive=positive,
                negative=negative,
                latent_image=empty.repeat(len(some), *[1] * (empty.ndim - 1)),
                callback=self._callback(len(some)),
                disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
                seed=some[0],
                **self.sampling,
            )
            self.done += len(some)
            return drawn

        self.batch = self.batch or self._fitting(len(seeds))
        latents, self.batch = in_batches(seeds, self.batch, sample, (mm.OOM_EXCEPTION,), mm.soft_empty_cache)
        return torch.cat(latents)

    def _fitting(self, most: int) -> int:
        """Batch size by core's own estimate of a pass over positive and negative, with the model on the device."""
        shape = self.model.model.latent_format.latent_channels, *self.size

        def needed(count: int) -> float:
            return self.model.memory_required([2 * count, *shape])

        mm.load_models_gpu([self.model], memory_required=needed(1))
        free = mm.get_free_memory(self.model.load_device) - mm.extra_reserved_memory()
        return largest(lambda count: needed(count) <= free, most)

    def _callback(self, count: int) -> Any:
        """Shows the progress over all images; core's bar raises here after Cancel."""

        def show(step: int, x0: torch.Tensor, x: torch.Tensor, steps: int) -> None:
            preview = self.previewer.decode_latent_to_preview_image("JPEG", x0) if self.previewer else None
            self.bar.update_absolute(self.done * steps + (step + 1) * count, self.total * steps, preview)

        return show


def encoded_texts(clip: Any, texts: Iterable[str]) -> dict[str, Any]:
    """Each different text's conditioning."""
    return {text: _encoded(clip, text) for text in dict.fromkeys(texts)}


def _encoded(clip: Any, text: str) -> Any:
    mm.throw_exception_if_processing_interrupted()
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def decoded_all(vae: Any, latents: Sequence[torch.Tensor]) -> torch.Tensor:
    """(N, H, W, 3) of all, decoded straight into place: there may be gigabytes of them."""
    images, done = torch.empty(0), 0
    for latent in latents:
        mm.throw_exception_if_processing_interrupted()
        drawn = decoded(vae, latent)
        if not done:
            images = torch.empty(sum(map(len, latents)), *drawn.shape[1:], dtype=drawn.dtype)
        images[done : done + len(drawn)] = drawn
        done += len(drawn)
    return images
