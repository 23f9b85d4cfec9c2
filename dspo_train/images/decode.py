"""From an image file to the tensor that a model's image encoder takes."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image, ImageFile
from torch import Tensor

from ..exceptions import ConfigError, DatasetError
from .buckets import Bucket
from .formats import FORMATS, MAX_PIXELS, ORIENTATION

_WIDE_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_rgb(path: str | os.PathLike[str]) -> Image.Image:
    """Decode a PNG, JPEG or WebP file into an upright 8-bit RGB image.

    Transparency is laid over white, 16-bit grey is scaled (not clipped) to 8 bits, the first frame of an
    animation is taken, and colour profiles are ignored.

    Raises:
        DatasetError: the file is missing, damaged, cut off, of another format or over 64 megapixels.
    """
    try:
        with strict_decoding(), Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                size = f"{image.width}x{image.height}"
                raise DatasetError(f"{path}: {size} pixels is over 64 megapixels; scale the image down")
            image.load()
            turn = _TURNS.get(orientation(image))
            rgb = _to_rgb(image)
            return rgb if turn is None else rgb.transpose(turn)
    except DatasetError:
        raise
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: no such image; check the path") from error
    except Image.DecompressionBombError as error:
        raise DatasetError(f"{path}: is over 64 megapixels; scale the image down") from error
    except Exception as error:  # decoders raise OSError, ValueError, SyntaxError, struct.error, zlib.error, ...
        raise DatasetError(f"{path}: cannot be decoded ({error}); copy or save it again") from error


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8; damaged EXIF data counts as upright."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow raises many types on broken EXIF, and the pixels are fine without it
        return 1
    return value if value in _TURNS else 1


def crop_to_bucket(
    image: Image.Image, bucket: Bucket, position: tuple[float, float] = (0.5, 0.5)
) -> tuple[Image.Image, tuple[int, int]]:
    """Scale an image until it covers the bucket, keeping its proportions, and crop it to the bucket.

    Args:
        position: of the crop, as a fraction (x, y) of the free room: 0 is left or top, 1 right or bottom.

    Returns:
        The image, exactly the bucket's size, and the crop's (left, top) in pixels of the scaled image.

    Raises:
        ConfigError: a position outside 0 ... 1.
    """
    (width, height), (left, top) = crop_plan(image.size, bucket, position)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return image.crop((left, top, left + bucket.width, top + bucket.height)), (left, top)


def crop_plan(
    size: tuple[int, int], bucket: Bucket, position: tuple[float, float]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The (width, height) to scale an image to and the (left, top) of the crop in it; see `crop_to_bucket`."""
    if not all(math.isfinite(place) and 0 <= place <= 1 for place in position):
        raise ConfigError(f"crop position must be two numbers from 0 to 1, got {position}")
    scale = max(bucket.width / size[0], bucket.height / size[1])
    width, height = max(bucket.width, round(size[0] * scale)), max(bucket.height, round(size[1] * scale))
    return (width, height), (round((width - bucket.width) * position[0]), round((height - bucket.height) * position[1]))


def to_tensor(image: Image.Image) -> Tensor:
    """An RGB image as (3, H, W) float32 from -1 (black) to 1 (white)."""
    assert image.mode == "RGB", f"load images with load_rgb; this one is {image.mode}"
    pixels = torch.from_numpy(np.array(image, dtype=np.uint8))  # (H, W, 3)
    return pixels.permute(2, 0, 1).to(torch.float32, memory_format=torch.contiguous_format) / 127.5 - 1


def to_images(pixels: Tensor) -> list[Image.Image]:
    """(N, 3, H, W) in [-1, 1] -> N RGB images."""
    levels = ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to("cpu", torch.uint8)
    return [Image.fromarray(level.permute(1, 2, 0).numpy()) for level in levels]


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _WIDE_MODES:
        # Pillow's own conversion clips at 255, which turns nearly every 16-bit image white.
        wide = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((wide.clip(0, 65535) * 255 + 32767) // 65535).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB") if image.mode != "RGB" else image.copy()


@contextmanager
def strict_decoding() -> Iterator[None]:
    """Refuse truncated files even where the host has told Pillow to accept them: half an image must not train."""
    lenient = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = lenient


def pixel_hash(image: Image.Image) -> bytes:
    """SHA-256 of an image's size and pixels, whatever else its file holds."""
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).digest()
