"""Between ComfyUI's IMAGE, float (N, H, W, 3) in [0, 1], and Pillow's images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image


def to_tensor(images: Sequence[Image.Image]) -> torch.Tensor:
    """Images of one size -> (N, H, W, 3)."""
    arrays = [np.asarray(image.convert("RGB"), dtype=np.float32) / 255.0 for image in images]
    return torch.from_numpy(np.stack(arrays))


def to_pil(images: torch.Tensor) -> list[Image.Image]:
    """(N, H, W, 3) -> N RGB images, rounded down as ComfyUI's own saving does."""
    return [Image.fromarray(_levels(image)) for image in images]  # one at a time: a large batch fills gigabytes


def _levels(image: torch.Tensor) -> np.ndarray:
    return (image[..., :3].float() * 255.0).clamp(0, 255).to("cpu", torch.uint8).numpy()
