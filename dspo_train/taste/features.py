"""What an image looks like to a frozen network: the vectors on which a taste is learned.

A denoiser's own activations at a low noise level describe composition, light and style as its family sees them, and
need no other model (Baranchuk et al., ICLR 2022, for segmentation; LPO, arXiv 2502.01051, for preferences).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from .. import files
from ..data import draws
from ..exceptions import ModelError
from ..images.buckets import make_buckets
from ..models.conditioning import Conditioning
from ..models.weights import tensor_digest
from ..training.model import Model
from .prepared import in_parts, prepare

POSITION = 0.1  # on the schedule, where the image is still whole: t = 100 of 1000
LATENT_GRID = 4  # cells per side
GRIDS = (1, 2)  # cells per side to which activations are averaged
_LAYOUT = "1"  # part of every identity; raise it when the meaning of the numbers changes

# Names of a UNet's middle and of its way up, in diffusers and in ComfyUI, which calls a block's layers one by one.
_MIDDLE = {"mid_block": "mid_block", "middle_block": "middle_block.0"}
_UP = {"up_blocks": "", "output_blocks": ".0"}
_BLOCKS = ("double_blocks", "single_blocks", "joint_blocks", "transformer_blocks", "layers", "blocks")
_DEPTHS = (0.25, 0.5, 0.75, 1.0)  # of the way up, or of a transformer's blocks, one after another


class ImageFeatures(Protocol):
    """Turns images into vectors."""

    @property
    def identity(self) -> str:
        """Of everything that the numbers depend on: vectors of the same identity are comparable."""
        ...

    def of(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        """N RGB images and the prompt of each -> (N, F) float32"""
        ...


class DenoiserFeatures:
    """A model's own activations and latents; implements `ImageFeatures`.

    Each image is noised a little, with the same noise for all of one shape, and predicted once with its own prompt. The
    network is used as it stands: with an adapter on it, the vectors are other ones under the same identity.

    Args:
        side: images are scaled and cropped to buckets of at most `side` x `side` pixels, and not enlarged.
        at_once: images in a pass.

    Raises:
        ModelError: no layer of the network is known.
    """

    def __init__(self, model: Model, side: int, *, at_once: int = 16) -> None:
        self.model, self.at_once = model, at_once
        self.buckets = make_buckets(side, min(64, side))
        self.watched = watched(model.network)
        own = (model.fingerprint(), model.encoder.image_id, model.encoder.prompt_id)
        self._identity = files.digest(_LAYOUT, *own, side, POSITION, LATENT_GRID, GRIDS, *self.watched)

    @property
    def identity(self) -> str:
        """See `ImageFeatures.identity`."""
        return self._identity

    def of(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        """See `ImageFeatures.of`.

        Raises:
            ModelError: the VAE or the network gives values that are not finite.
        """
        rows: dict[int, np.ndarray] = {}
        prepared = prepare(self.model, images, prompts, self.buckets)
        with torch.no_grad(), self.model.training(checkpointing=False):
            for places, clean, conditioning in prepared.batches(self.at_once):
                found = self.vectors(clean, conditioning)
                if not found.isfinite().all():
                    raise ModelError(f"{self.model.name} gives values that are not finite; use another precision")
                rows.update(zip(places, found.cpu().numpy(), strict=True))
        return np.stack([rows[place] for place in range(len(images))])

    def vectors(self, clean: Tensor, conditioning: Conditioning) -> Tensor:
        """Of latents in model units, (N, C, h, w), on the network's device, with their gradient. -> (N, F) float32"""
        device, process = self.model.device, self.model.process
        time = process.draw_evenly(draws.generator(0, "taste"), POSITION, POSITION + 1e-3)
        noise = torch.randn(clean.shape[1:], generator=draws.generator(0, "taste noise"))
        clean = clean.to(device)
        noisy, _ = process.sample(clean, noise.to(device).expand_as(clean), time.repeat(len(clean)))
        with _watching(self.model.network, self.watched) as seen:
            self.model.predict(noisy, time.repeat(len(clean)).to(device), conditioning.to(device))
        parts = [_pooled(clean, LATENT_GRID), *(part for name in self.watched for part in seen[name])]
        return torch.cat([part.float() for part in parts], dim=1)


class VisionFeatures:
    """The pooled output of a CLIP or SigLIP vision tower that lies on this machine; implements `ImageFeatures`.

    Args:
        folder: as `transformers` saves such a model, with its image processor.

    Raises:
        ModelError: it cannot be loaded.
    """

    def __init__(self, folder: Path, *, device: torch.device | str = "cpu", at_once: int = 16) -> None:
        from transformers import AutoImageProcessor, AutoModel

        try:
            model: Any = AutoModel.from_pretrained(folder, local_files_only=True)
            self.processor: Any = AutoImageProcessor.from_pretrained(folder, local_files_only=True, use_fast=False)
        except (OSError, ValueError) as error:
            raise ModelError(f"{folder} cannot be loaded as a vision model: {error}") from error
        if not hasattr(model, "get_image_features") and not hasattr(model, "vision_model"):
            raise ModelError(
                f"{folder} is a {type(model).__name__}, which has no vision tower; give a CLIP or SigLIP model"
            )
        self.tower = getattr(model, "vision_model", model).eval().requires_grad_(False).to(device)
        self.device, self.at_once = device, at_once
        self._identity = files.digest(_LAYOUT, "vision", tensor_digest(self.tower.state_dict().items()))

    @property
    def identity(self) -> str:
        """See `ImageFeatures.identity`."""
        return self._identity

    @torch.no_grad()
    def of(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        """See `ImageFeatures.of`; the prompts are not looked at."""
        rows = []
        for some in in_parts(images, self.at_once):
            pixels = self.processor(images=[image.convert("RGB") for image in some], return_tensors="pt")[
                "pixel_values"
            ]
            rows.append(self.tower(pixel_values=pixels.to(self.device)).pooler_output.float().cpu().numpy())
        return np.concatenate(rows)


def watched(network: nn.Module) -> tuple[str, ...]:
    """The layers whose output is taken, by their names in the network.

    Raises:
        ModelError: none is known.
    """
    parts = dict(network.named_children())
    middle = [layer for name, layer in _MIDDLE.items() if name in parts]
    last = {**_UP, **dict.fromkeys(_BLOCKS, "")}
    blocks = [
        f"{name}.{n}{last[name]}"
        for name, part in parts.items()
        if name in last and isinstance(part, nn.ModuleList)
        for n in range(len(part))
    ]
    if not blocks:
        raise ModelError(f"no layer of a {type(network).__name__} is known from which to learn a taste")
    return tuple(dict.fromkeys([*middle, *(blocks[max(0, round(depth * len(blocks)) - 1)] for depth in _DEPTHS)]))


@contextmanager
def _watching(network: nn.Module, names: Sequence[str]) -> Iterator[dict[str, list[Tensor]]]:
    """Inside, what each layer gives is averaged to `GRIDS` and kept, the last call's."""
    seen: dict[str, list[Tensor]] = {}
    modules = dict(network.named_modules())
    with ExitStack() as stack:
        for name in names:

            def keep(module: nn.Module, given: Any, result: Any, name: str = name) -> None:
                output = _image_stream(name, result)
                seen[name] = [_pooled(output, grid) for grid in (GRIDS if output.ndim == 4 else GRIDS[:1])]

            stack.callback(modules[name].register_forward_hook(keep).remove)
        yield seen


def _image_stream(name: str, result: Any) -> Tensor:
    """Of a block that gives text and image, the image: last, but in FLUX's double blocks as ComfyUI has them."""
    if not isinstance(result, (tuple, list)):
        return result
    return result[0 if name.startswith("double_blocks") else -1]


def _pooled(maps: Tensor, grid: int) -> Tensor:
    """(N, C, h, w) -> (N, C grid grid); a row of tokens (N, L, C) has no grid -> (N, C)"""
    if maps.ndim == 4:
        return F.adaptive_avg_pool2d(maps.float(), grid).flatten(1)
    return maps.float().flatten(1, -2).mean(1)
