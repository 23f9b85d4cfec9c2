"""What the published scorers look at, to the pixel, against the published steps written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from dspo_train.scorers.preprocessing import CentreCrop, Letterbox

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073], dtype=torch.float64).view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711], dtype=torch.float64).view(3, 1, 1)
SIZES = ((512, 512), (768, 512), (512, 768), (100, 300), (224, 224))  # width, height


def picture(width: int, height: int) -> Image.Image:
    """Smooth colours with hard edges, which bicubic scaling overshoots, and black and white corners."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    channels = [x, y, 0.5 + 0.4 * np.sin(12 * x * y)]
    levels = np.stack(channels, axis=-1) * 255
    levels[height // 3 : height // 2, width // 4 : width // 2] = (250, 5, 128)
    levels[:20, :20], levels[-20:, -20:] = 0, 255
    return Image.fromarray(levels.round().astype(np.uint8))


def levels_of(image: Image.Image) -> Tensor:
    """(3, H, W) float64 in [0, 1]"""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).double() / 255


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_crop_is_pillows_scaling_and_the_middle_of_it(size: tuple[int, int]) -> None:
    image = picture(*size)
    scale = 224 / min(size)
    scaled = image.resize((int(size[0] * scale), int(size[1] * scale)), Image.Resampling.BICUBIC)
    left, top = (scaled.width - 224) // 2, (scaled.height - 224) // 2
    expected = (levels_of(scaled.crop((left, top, left + 224, top + 224))) - MEAN) / STD
    found = CentreCrop().of_images([image])
    assert found.shape == (1, 3, 224, 224) and found.dtype == torch.float32
    assert (found[0] - expected).abs().max() < 1e-6


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_pixels_are_cropped_like_images_within_a_few_grey_levels(size: tuple[int, int]) -> None:
    """Half a level is Pillow's rounding; where an edge overshoots, Pillow cuts off in both directions in turn."""
    image = picture(*size)
    by_images, by_pixels = CentreCrop().of_images([image]), CentreCrop().of_pixels(levels_of(image)[None])
    apart = ((by_images - by_pixels) * STD * 255).abs()
    assert apart.mean() < 0.5 and apart.max() < 8
    assert by_pixels.dtype == torch.float64
    assert (by_pixels * STD + MEAN).min() > -1e-9 and (by_pixels * STD + MEAN).max() < 1 + 1e-9


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("antialias", [True, False])
def test_a_letterbox_is_scaled_and_padded_before_it_is_normalised(size: tuple[int, int], antialias: bool) -> None:
    image, scale = picture(*size), 224 / max(size)
    width, height = round(size[0] * scale), round(size[1] * scale)
    pixels = levels_of(image)[None].float()
    scaled = F.interpolate(pixels, size=(height, width), mode="bicubic", antialias=antialias)
    canvas = torch.zeros(3, 224, 224, dtype=torch.float64)
    top, left = (224 - height) // 2, (224 - width) // 2
    canvas[:, top : top + height, left : left + width] = scaled[0]
    expected = (canvas - MEAN) / STD
    box = Letterbox(antialias=antialias)
    for found in (box.of_images([image]), box.of_pixels(pixels)):
        assert found.shape == (1, 3, 224, 224) and (found[0] - expected).abs().max() < 1e-5
    if size[0] > size[1]:
        assert torch.allclose(box.of_images([image])[0, :, 0, 0].double(), (-MEAN / STD).flatten())  # black


def test_a_letterbox_is_not_clamped_and_antialiased() -> None:
    image = picture(768, 512)
    found = Letterbox().of_images([image])
    inside = found * STD + MEAN
    assert inside.min() < -0.01 or inside.max() > 1.01
    assert (Letterbox(antialias=False).of_images([image]) - found).abs().mean() > 1e-3


def test_where_a_crop_cannot_be_central_transformers_and_torchvision_differ() -> None:
    """300 x 401 -> 224 x int(224 * 401 / 300) = 299: 75 rows too many, 37.5 above, so 37 or, the even one, 38."""
    image = picture(300, 401)
    scaled = levels_of(image.resize((224, 299), Image.Resampling.BICUBIC))
    for crop, top in ((CentreCrop(), 37), (CentreCrop(odd="even"), 38)):
        found = crop.of_images([image])[0]
        assert (found * STD + MEAN - scaled[:, top : top + 224]).abs().max() < 1e-6


def test_images_of_every_mode_and_size_are_seen_together() -> None:
    images = [picture(300, 200), picture(64, 640).convert("L"), picture(9, 9).convert("RGBA"), picture(2000, 3)]
    for preprocessing in (CentreCrop(), Letterbox()):
        assert preprocessing.of_images(images).shape == (4, 3, 224, 224)
    assert CentreCrop(side=32).of_pixels(torch.rand(2, 3, 40, 50, dtype=torch.bfloat16)).dtype == torch.float32
