"""A world of coloured shapes: draw a scene, and read an image back.

Everything here is arithmetic on pixels, so what an image shows is measured, not judged by another network.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SIZE = 64  # pixels; the side of every image of this world
_SUPERSAMPLE = 4  # sub-pixels per side, for anti-aliased edges
_MAX_TILT = math.radians(14)

COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.90, 0.18, 0.18),
    "orange": (0.96, 0.54, 0.10),
    "yellow": (0.95, 0.85, 0.14),
    "green": (0.18, 0.70, 0.26),
    "teal": (0.08, 0.68, 0.68),
    "blue": (0.18, 0.34, 0.92),
    "purple": (0.56, 0.22, 0.86),
    "pink": (0.96, 0.36, 0.70),
}


def _star(x: Tensor, y: Tensor) -> Tensor:
    """Five tips at radius 1, five notches at radius 0.45: fold every point into one tip's half-sector."""
    turn = 2 * math.pi / 5
    angle = torch.atan2(x, y)
    angle = (angle - turn * torch.round(angle / turn)).abs()
    radius = torch.hypot(x, y)
    along, across = radius * angle.cos(), radius * angle.sin()
    notch_along, notch_across = 0.45 * math.cos(turn / 2), 0.45 * math.sin(turn / 2)
    return (along - 1) * notch_across - across * (notch_along - 1) < 0


def _heart(x: Tensor, y: Tensor) -> Tensor:
    x, y = 1.22 * x, 1.22 * y + 0.12
    return (x * x + y * y - 1) ** 3 - x * x * y**3 < 0


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    sides = [math.sin(a) * x + math.cos(a) * y for a in (math.pi, math.pi / 3, -math.pi / 3)]
    return torch.stack(sides).amax(0) < 0.5


# Is the point inside? Unit coordinates, y upwards, the shape inside radius 1.
Inside = Callable[[Tensor, Tensor], Tensor]
Kinds = Mapping[str, Inside]
_ROUND = ("circle", "ring")  # have no tilt
SHAPES: dict[str, Inside] = {
    "circle": lambda x, y: torch.hypot(x, y) < 0.9,
    "square": lambda x, y: torch.maximum(x.abs(), y.abs()) < 0.78,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "cross": lambda x, y: (torch.minimum(x.abs(), y.abs()) < 0.3) & (torch.maximum(x.abs(), y.abs()) < 0.92),
}


@dataclass(frozen=True)
class Scene:
    """One shape on a plain background. Lengths are fractions of the image's side.

    Attributes:
        x, y: the shape's centre, from the left and from the top.
        radius: of the circle around the shape.
        tilt: radians.
        tone: brightness of the background at its centre, 0 black to 1 white.
        tint: small offsets of the background's red, green and blue.
    """

    shape: str
    color: str
    x: float
    y: float
    radius: float
    tilt: float
    tone: float
    tint: tuple[float, float, float]

    @property
    def caption(self) -> str:
        return f"a {self.color} {self.shape}"


def captions() -> list[str]:
    """Every shape in every colour."""
    return [f"a {color} {shape}" for shape in SHAPES for color in COLORS]


def random_scene(generator: torch.Generator) -> Scene:
    """Draw a scene; size, place, tilt and background are independent of shape and colour."""
    u = torch.rand(10, generator=generator, dtype=torch.float64).tolist()
    radius = 0.15 + 0.25 * u[2]
    return Scene(
        shape=list(SHAPES)[int(u[0] * len(SHAPES))],
        color=list(COLORS)[int(u[1] * len(COLORS))],
        x=0.5 + (2 * u[3] - 1) * (0.48 - radius),
        y=0.5 + (2 * u[4] - 1) * (0.48 - radius),
        radius=radius,
        tilt=(2 * u[5] - 1) * _MAX_TILT,
        tone=0.08 + 0.84 * u[6],
        tint=((u[7] - 0.5) * 0.1, (u[8] - 0.5) * 0.1, (u[9] - 0.5) * 0.1),
    )


def draw_scenes(scenes: Sequence[Scene], side: int = SIZE) -> Tensor:
    """Render scenes. -> (N, 3, side, side) in [0, 1]"""
    return torch.stack([_draw(scene, side) for scene in scenes])


def _draw(scene: Scene, side: int) -> Tensor:
    fine = side * _SUPERSAMPLE
    centres = (torch.arange(fine) + 0.5) / fine
    right, up = (centres - scene.x) / scene.radius, -(centres - scene.y) / scene.radius
    up, right = torch.meshgrid(up, right, indexing="ij")
    cos, sin = math.cos(scene.tilt), math.sin(scene.tilt)
    inside = SHAPES[scene.shape](cos * right + sin * up, cos * up - sin * right)
    cover = inside.float().view(side, _SUPERSAMPLE, side, _SUPERSAMPLE).mean((1, 3))
    down = torch.linspace(-1, 1, side)[:, None]
    background = torch.tensor(scene.tint).view(3, 1, 1) + scene.tone - 0.06 * down
    # lit from above: a shape is slightly brighter at its top than at its bottom
    light = 1 - 0.10 * ((torch.linspace(0, 1, side)[:, None] - scene.y) / scene.radius).clamp(-1, 1)
    paint = torch.tensor(COLORS[scene.color]).view(3, 1, 1) * light
    return (cover * paint + (1 - cover) * background).expand(3, side, side).clamp(0, 1)


@dataclass(frozen=True)
class Reading:
    """What an image shows.

    Attributes:
        shape, color: the nearest of this world's, or None if nothing is recognisable.
        likeness: overlap (intersection over union) with the nearest shape, 0 to 1.
        size: square root of the share of the image that the shape covers.
        darkness: 1 - brightness of the image's border, 0 white to 1 black.
        x, y: the shape's centre of gravity, 0 left or top edge to 1 right or bottom; 0.5 if there is no shape.
        tilt: radians, to within a few degrees; 0 for a circle and for what is no shape.
        turn: radians of hue from the nearest colour to the shape's own; 0 if there is no shape.
    """

    shape: str | None
    color: str | None
    likeness: float
    size: float
    darkness: float
    x: float = 0.5
    y: float = 0.5
    tilt: float = 0.0
    turn: float = 0.0

    def fits(self, caption: str) -> bool:
        """Do shape and colour match a caption of this world, `a COLOUR SHAPE`?"""
        return caption == f"a {self.color} {self.shape}"


def read(image: Tensor) -> Reading:
    """Measure one image. (3, SIZE, SIZE) in [0, 1] -> Reading"""
    darkness = _darkness(image)
    chroma = image.amax(0) - image.amin(0)  # backgrounds are nearly grey, shapes are not
    peak = chroma.flatten().quantile(0.985).item()
    mask = chroma > 0.5 * peak
    covered = mask.float().mean().item()
    if peak < 0.3 or not 0.01 < covered < 0.7:
        return Reading(None, None, 0.0, math.sqrt(covered), darkness)
    y, x = ((mask.nonzero().float().mean(0) + 0.5) / torch.tensor(mask.shape)).tolist()
    shape, tilt, likeness = _nearest_shape(mask)
    color, turn = _nearest_color(image[:, mask].median(1).values)
    known = shape if likeness >= 0.75 else None
    return Reading(known, color, likeness, math.sqrt(covered), darkness, x, y, tilt if known else 0.0, turn)


def _darkness(image: Tensor) -> float:
    border = torch.cat([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]], dim=1)
    return 1 - border.mean().item()


def _nearest_color(rgb: Tensor) -> tuple[str, float]:
    """The colour, and the hue's turn from it, radians."""
    hue = _hue(rgb)
    turns = {name: math.remainder(hue - _hue(torch.tensor(color)), math.tau) for name, color in COLORS.items()}
    nearest = min(turns, key=lambda name: abs(turns[name]))
    return nearest, turns[nearest]


def _hue(rgb: Tensor) -> float:
    red, green, blue = rgb.tolist()
    return math.atan2(math.sqrt(3) * (green - blue), 2 * red - green - blue)


def _nearest_shape(mask: Tensor, kinds: Kinds = SHAPES) -> tuple[str, float, float]:
    """Overlap of the mask, centred and scaled to a common area, with every kind of shape at several tilts.

    Returns:
        The shape, its tilt in radians, and the overlap.
    """
    moved = _normalise(mask)
    poses, templates = _templates(tuple(kinds.items()))
    both = (templates & moved).sum((1, 2)).float()
    either = (templates | moved).sum((1, 2)).float()
    best = int((both / either).argmax())
    return *poses[best], (both / either)[best].item()


_GRID = 48


def _normalise(mask: Tensor) -> Tensor:
    """Resample a mask so that its centroid is the middle and its area a fixed share. (H, W) -> (GRID, GRID)"""
    height, width = mask.shape
    rows, columns = mask.nonzero(as_tuple=True)
    centre_y, centre_x = rows.float().mean() + 0.5, columns.float().mean() + 0.5
    side = math.sqrt(mask.sum().item())  # pixels; the side of a square of equal area
    steps = ((torch.arange(_GRID) + 0.5) / _GRID - 0.5) * 2.2 * side
    y = (centre_y + steps).long().clamp(0, height - 1)
    x = (centre_x + steps).long().clamp(0, width - 1)
    return mask[y][:, x]


@functools.cache
def _templates(kinds: tuple[tuple[str, Inside], ...]) -> tuple[list[tuple[str, float]], Tensor]:
    """(shape, tilt) and masks."""
    poses, masks = [], []
    axis = torch.linspace(-1.2, 1.2, 160)
    up, right = torch.meshgrid(-axis, axis, indexing="ij")
    for name, inside in kinds:
        for tilt in torch.linspace(-_MAX_TILT, _MAX_TILT, 7).tolist():
            cos, sin = math.cos(tilt), math.sin(tilt)
            poses.append((name, 0.0 if name in _ROUND else tilt))
            masks.append(_normalise(inside(cos * right + sin * up, cos * up - sin * right)))
    return poses, torch.stack(masks)
