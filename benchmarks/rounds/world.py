"""The worlds that models are looked at in: what is asked of them, and how an image is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from dspo_train.evaluate import shapes
from dspo_train.scorers import toys

from . import two_shapes


@dataclass(frozen=True)
class World:
    """A world of scenes.

    Attributes:
        side: of its images, pixels.
        captions: that candidates and test images are drawn with.
        candidates: for each caption.
        look: what an image shows: a reading with the quantities, `shape` (None: nothing that is known) and `fits`.
        quantities: mean and unit of each, by which tastes are stated.
    """

    side: int
    captions: tuple[str, ...]
    candidates: int
    look: Callable[[Image.Image], Any]
    quantities: Mapping[str, tuple[float, float]]


# Units are the standard deviations among the embedded model's images; it draws no tilt and no odd hues, so theirs are
# the spread of tilt among the scenes that its VAE was trained on, and a shift that is seen.
ONE_SHAPE = World(
    shapes.SIZE,
    tuple(shapes.captions()),
    18,
    toys.look,
    {
        "size": (0.445, 0.108),
        "darkness": (0.502, 0.238),
        "x": (0.5, 0.096),
        "y": (0.5, 0.101),
        "tilt": (0.0, 0.14),
        "turn": (0.0, 0.05),
    },
)
# Units are the standard deviations among its scenes; tilt and hue as above.
TWO_SHAPES = World(
    two_shapes.SIDE,
    tuple(two_shapes.captions()),
    8,
    two_shapes.look,
    {
        "size": (0.266, 0.052),
        "darkness": (0.525, 0.244),
        "x": (0.5, 0.104),
        "y": (0.5, 0.123),
        "tilt": (0.0, 0.14),
        "turn": (0.0, 0.05),
    },
)
WORLDS: Mapping[str, World] = {"one": ONE_SHAPE, "two": TWO_SHAPES}
