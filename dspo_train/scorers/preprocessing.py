"""From images of any size to what the published scorers look at: 224 x 224 pixels, normalised as CLIP's were.

Every preprocessing has two paths. `of_images` is the published evaluation's, to the pixel. `of_pixels` is the same in
floating point, with a gradient. Neither needs torchvision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

SIDE = 224  # pixels
# Of the RGB channels of CLIP's training images (Radford et al. 2021, github.com/openai/CLIP); BLIP uses them too.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


class Preprocessing(Protocol):
    """How a scorer sees an image."""

    def of_images(self, images: Sequence[Image.Image]) -> Tensor:
        """N images of any size and mode -> (N, 3, side, side) float32, normalised"""
        ...

    def of_pixels(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] -> (N, 3, side, side), normalised; in the same precision, at least float32"""
        ...


@dataclass(frozen=True)
class CentreCrop:
    """The shortest edge is scaled to `side`, bicubic with antialiasing, and the middle is cut out.

    `of_images` scales 8-bit images by Pillow, as `CLIPImageProcessorPil` does and torchvision's transforms on a PIL
    image do. `of_pixels` scales in floating point, clamps to [0, 1] at the end and does not round. Before
    standardising, the two differ by a quarter of a grey level on average, and by several at hard edges of black or
    white, where Pillow cuts off what overshoots in one direction before it scales the other.

    Attributes:
        odd: which way the crop goes where it cannot be central: `down`, half a pixel to the left and up, as in
            transformers; or to the `even` offset, as in torchvision.
    """

    side: int = SIDE
    odd: Literal["down", "even"] = "down"

    def of_images(self, images: Sequence[Image.Image]) -> Tensor:
        """See `Preprocessing.of_images`."""
        return standardised(torch.stack([_levels(self._cropped(image.convert("RGB"))) for image in images]))

    def of_pixels(self, pixels: Tensor) -> Tensor:
        """See `Preprocessing.of_pixels`."""
        width, height = self._scaled(pixels.shape[-1], pixels.shape[-2])
        left, top = self._offset(width), self._offset(height)
        scaled = _resized(pixels, width, height, antialias=True).clamp(0, 1)
        return standardised(scaled[..., top : top + self.side, left : left + self.side])

    def _cropped(self, image: Image.Image) -> Image.Image:
        width, height = self._scaled(*image.size)
        left, top = self._offset(width), self._offset(height)
        scaled = image.resize((width, height), Image.Resampling.BICUBIC)
        return scaled.crop((left, top, left + self.side, top + self.side))

    def _scaled(self, width: int, height: int) -> tuple[int, int]:
        """The longer edge is rounded down, as in transformers and torchvision."""
        short, long = min(width, height), max(width, height)
        scaled = int(self.side * long / short)
        return (scaled, self.side) if width > height else (self.side, scaled)

    def _offset(self, length: int) -> int:
        room = length - self.side
        return room // 2 if self.odd == "down" else round(room / 2)


@dataclass(frozen=True)
class Letterbox:
    """The longest edge is scaled to `side`, and black is put around the image (hpsv2 1.2.0, `ResizeMaxSize`).

    Bicubic on numbers in [0, 1] that are not rounded and not clamped, so that both paths are one and the same. The
    black is put there before normalising.

    Attributes:
        antialias: as hpsv2 has it with torchvision 0.17 or newer; older ones gave other scores, without it.
    """

    side: int = SIDE
    antialias: bool = True

    def of_images(self, images: Sequence[Image.Image]) -> Tensor:
        """See `Preprocessing.of_images`."""
        return torch.cat([self.of_pixels(_levels(image.convert("RGB"))[None]) for image in images])

    def of_pixels(self, pixels: Tensor) -> Tensor:
        """See `Preprocessing.of_pixels`."""
        scale = self.side / max(pixels.shape[-2:])
        height, width = (max(1, round(edge * scale)) for edge in pixels.shape[-2:])
        left, top = (self.side - width) // 2, (self.side - height) // 2
        scaled = _resized(pixels, width, height, antialias=self.antialias)
        return standardised(F.pad(scaled, (left, self.side - width - left, top, self.side - height - top)))


def standardised(pixels: Tensor) -> Tensor:
    """(N, 3, h, w) in [0, 1] -> each channel minus CLIP's mean, over CLIP's standard deviation"""
    mean, std = (pixels.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (pixels - mean) / std


def _levels(image: Image.Image) -> Tensor:
    """An RGB image -> (3, H, W) float32 in [0, 1]"""
    return torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1).float() / 255


def _resized(pixels: Tensor, width: int, height: int, *, antialias: bool) -> Tensor:
    if pixels.dtype in (torch.float16, torch.bfloat16):
        pixels = pixels.float()
    if pixels.shape[-2:] == (height, width):
        return pixels
    return F.interpolate(pixels, (height, width), mode="bicubic", align_corners=False, antialias=antialias)
