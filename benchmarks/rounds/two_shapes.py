"""Another world: the same shape twice, in two sizes, in an image of 128 pixels, and three more kinds of shapes.

As in the world of one shape, what an image shows is measured on its pixels.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from dspo_train.evaluate import shapes as one

SIDE = 128
_FINE = 3  # sub-pixels per side
_LEAST = 0.004  # of the image, that a shape covers
_LIKENESS = 0.75  # as in the world of one shape

KINDS: one.Kinds = {
    **one.SHAPES,
    "ring": lambda x, y: (torch.hypot(x, y) < 0.92) & (torch.hypot(x, y) > 0.5),
    "diamond": lambda x, y: x.abs() / 0.66 + y.abs() / 0.96 < 1,
    "moon": lambda x, y: (torch.hypot(x, y) < 0.95) & (torch.hypot(x - 0.5, y) > 0.72),
}


@dataclass(frozen=True)
class Scene:
    """Two shapes of one kind and colour, on the background of the first."""

    first: one.Scene
    second: one.Scene

    @property
    def words(self) -> tuple[str, str]:
        return self.first.color, self.first.shape

    @property
    def caption(self) -> str:
        return f"{self.first.caption} twice"


def captions(count: int = 48, seed: int = 0) -> list[str]:
    """Some of the 72, drawn at random."""
    generator, found = torch.Generator().manual_seed(seed), {}
    while len(found) < count:
        found[random_scene(generator).caption] = None
    return list(found)


def random_scene(generator: torch.Generator) -> Scene:
    """Two shapes of half the size that one has in its world, apart from each other by at least 3% of the side."""
    while True:
        first, other = (_shape(generator) for _ in range(2))
        if math.hypot(first.x - other.x, first.y - other.y) - first.radius - other.radius > 0.03:
            return Scene(first, dataclasses.replace(other, shape=first.shape, color=first.color))


def _shape(generator: torch.Generator) -> one.Scene:
    u = torch.rand(9, generator=generator, dtype=torch.float64).tolist()
    radius = 0.085 + 0.115 * u[2]
    return one.Scene(
        shape=list(KINDS)[int(u[0] * len(KINDS))],
        color=list(one.COLORS)[int(u[1] * len(one.COLORS))],
        x=0.5 + (2 * u[3] - 1) * (0.48 - radius),
        y=0.5 + (2 * u[4] - 1) * (0.48 - radius),
        radius=radius,
        tilt=0.0,
        tone=0.08 + 0.84 * u[5],
        tint=((u[6] - 0.5) * 0.1, (u[7] - 0.5) * 0.1, (u[8] - 0.5) * 0.1),
    )


def draw(scene: Scene) -> Tensor:
    """-> (3, 128, 128) in [0, 1]"""
    down = torch.linspace(-1, 1, SIDE)[:, None]
    image = (torch.tensor(scene.first.tint).view(3, 1, 1) + scene.first.tone - 0.06 * down).expand(3, SIDE, SIDE)
    centres = (torch.arange(SIDE * _FINE) + 0.5) / (SIDE * _FINE)
    for shape in (scene.first, scene.second):
        right, up = (centres - shape.x) / shape.radius, -(centres - shape.y) / shape.radius
        up, right = torch.meshgrid(up, right, indexing="ij")
        cover = KINDS[shape.shape](right, up).float().view(SIDE, _FINE, SIDE, _FINE).mean((1, 3))
        light = 1 - 0.10 * ((torch.linspace(0, 1, SIDE)[:, None] - shape.y) / shape.radius).clamp(-1, 1)
        image = cover * torch.tensor(one.COLORS[shape.color]).view(3, 1, 1) * light + (1 - cover) * image
    return image.clamp(0, 1)


@dataclass(frozen=True)
class Reading:
    """What an image shows; quantities as in the world of one shape, over all shapes.

    Attributes:
        shape: what it shows in words, or None if any shape is none of this world.
        count: how many shapes.
        size: square root of the share of the image that all cover.
        darkness: 1 - brightness of the image's border.
        x, y, tilt, turn: the mean of all.
    """

    shape: str | None
    count: int
    size: float
    darkness: float
    x: float = 0.5
    y: float = 0.5
    tilt: float = 0.0
    turn: float = 0.0

    def fits(self, caption: str) -> bool:
        """Is every shape of the caption's kind and colour? How many there are is not asked."""
        return caption == f"{self.shape} twice"


def read(image: Tensor) -> Reading:
    """Measure one image, (3, 128, 128) in [0, 1]. Each patch that is not grey is a shape."""
    darkness = one._darkness(image)
    chroma = image.amax(0) - image.amin(0)
    mask = chroma > 0.5 * chroma.flatten().quantile(0.985)
    covered = math.sqrt(mask.float().mean().item())
    patches, count = _labelled(mask.numpy())
    parts = [torch.from_numpy(patches == number) for number in range(1, count + 1)]
    parts = [part for part in parts if part.float().mean() > _LEAST]
    if not parts or chroma.max() < 0.3:
        return Reading(None, 0, covered, darkness)
    seen = [_patch(image, part) for part in parts]
    known = all(patch.likeness >= _LIKENESS for patch in seen)
    named = dict.fromkeys(f"a {patch.color} {patch.shape}" for patch in seen)
    means = {name: statistics.fmean(getattr(patch, name) for patch in seen) for name in ("x", "y", "tilt", "turn")}
    return Reading(" and ".join(named) if known else None, len(seen), covered, darkness, **means)


def _labelled(mask: np.ndarray) -> tuple[np.ndarray, int]:
    return ndimage.label(mask, structure=np.ones((3, 3)))  # type: ignore[return-value]


def _patch(image: Tensor, mask: Tensor) -> one.Reading:
    y, x = ((mask.nonzero().float().mean(0) + 0.5) / SIDE).tolist()
    shape, tilt, likeness = one._nearest_shape(mask, KINDS)
    color, turn = one._nearest_color(image[:, mask].median(1).values)
    return one.Reading(shape, color, likeness, 0.0, 0.0, x, y, tilt, turn)


def look(image: Image.Image) -> Reading:
    return read(torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).permute(2, 0, 1))
