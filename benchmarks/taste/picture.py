"""Two charts a taste: hidden reward over the steps, and against the caption fit; one line an objective."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw

from dspo_train.drawing.series import ticks
from dspo_train.drawing.themes import LIGHT, Colour, Theme
from dspo_train.drawing.typography import TextStyle, draw_text, text_width

from .summary import FIT_LOST, reward, share

SIZE = (1560, 1180)
_LEGEND = 210
_SCALE = 2
_LEAST_FIT = 0.7  # pictures that fit less often are drawn at the edge
COLOURS: Mapping[str, Colour] = {
    "dspo": (79, 70, 205), "diffusion_dpo": (201, 62, 40), "dspo_e": (214, 146, 20), "sft": (30, 30, 34),
    "dspo_paper": (150, 150, 158), "dspo_implicit": (14, 124, 160), "mapo": (22, 132, 82),
    "diffusion_kto": (176, 52, 128), "ipo": (140, 90, 210), "dspo_sdxl": (60, 160, 150), "dspo_ref": (190, 160, 140),
}  # fmt: skip


@dataclass(frozen=True)
class Point:
    step: float
    reward: float
    fit: float


@dataclass(frozen=True)
class Panel:
    """Lines of one taste by objective; each from the base, step 0, to the last step."""

    title: str
    lines: Mapping[str, Sequence[Point]]


def panels(results: Sequence[dict[str, Any]], base: dict[str, Any]) -> list[Panel]:
    """Means over seeds, for runs of one condition and one setting an objective."""
    groups: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        groups[result["run"]["taste"]][result["run"]["objective"]].append(result)
    return [
        Panel(taste.replace("_", " "), {name: _line(runs, base) for name, runs in sorted(by_name.items())})
        for taste, by_name in sorted(groups.items(), reverse=True)
    ]


def _line(runs: Sequence[dict[str, Any]], base: dict[str, Any]) -> list[Point]:
    taste = runs[0]["run"]["taste"]
    steps = zip(*(({"step": 0, **base}, *run["looks"]) for run in runs), strict=True)
    return [
        Point(
            looks[0]["step"],
            statistics.fmean(reward(look, taste) for look in looks),
            statistics.fmean(share(look["fits"]) for look in looks),
        )
        for looks in steps
    ]


def draw(found: Sequence[Panel], theme: Theme = LIGHT) -> Image.Image:
    """A row a taste, two charts a row, one legend. RGB."""
    image = Image.new("RGB", SIZE, theme.page)
    draw_text(image, (40, 24), "Which objective learns the taste, and what it costs the picture",
              TextStyle(24, theme.ink, bold=True))  # fmt: skip
    draw_text(image, (40, 60), "400 pairs, mean of the seeds: dspo at its default, the others at the best setting "
              "tried. Ring: the base; dot: a checkpoint.", TextStyle(16, theme.muted))  # fmt: skip
    width, height = (SIZE[0] - _LEGEND - 40) // 2, (SIZE[1] - 110) // max(1, len(found))
    for row, panel in enumerate(found):
        top = 110 + row * height
        draw_text(image, (40, top), panel.title.capitalize(), TextStyle(20, theme.ink, bold=True))
        for column, over_steps in enumerate((True, False)):
            left = 40 + column * width
            box = (left + 60, top + 46, left + width - 36, top + height - 74)
            _Chart(image, panel, box, over_steps, theme).draw()
    for number, label in enumerate(name for name in COLOURS if any(name in panel.lines for panel in found)):
        y, x = 156 + number * 30, SIZE[0] - _LEGEND + 6
        ImageDraw.Draw(image).line((x, y + 10, x + 26, y + 10), fill=COLOURS[label], width=4)
        draw_text(image, (x + 38, y), label, TextStyle(16, theme.ink))
    return image


class _Chart:
    """Reward upwards; to the right the steps, or ever fewer pictures that fit."""

    def __init__(
        self, image: Image.Image, panel: Panel, box: tuple[int, int, int, int], over_steps: bool, theme: Theme
    ) -> None:
        self.image, self.panel, self.box, self.over_steps, self.theme = image, panel, box, over_steps, theme
        points = [point for line in panel.lines.values() for point in line]
        low, high = min(p.reward for p in points), max(p.reward for p in points)
        self.low, self.high = low - 0.06 * (high - low), high + 0.06 * (high - low)
        worst = max(_LEAST_FIT, min(0.95, math.floor(20 * min(p.fit for p in points)) / 20))
        self.start, self.end = (0.0, max(p.step for p in points)) if over_steps else (1.0, worst)

    def draw(self) -> None:
        left, top, right, bottom = self.box
        draw, small = ImageDraw.Draw(self.image), TextStyle(15, self.theme.faint)
        limit = right if self.over_steps else self._x(1 - FIT_LOST)
        draw.rectangle((left, top, limit, bottom), fill=self.theme.card)
        for value in ticks(self.low, self.high):
            y = self._y(value)
            draw.line((left, y, right, y), fill=self.theme.rule)
            text = f"{value:+g}"
            draw_text(self.image, (left - 8 - text_width(text, small), y - 9), text, small)
        for value, text in self._marks():
            draw.line((self._x(value), bottom, self._x(value), bottom + 5), fill=self.theme.rule)
            draw_text(self.image, (self._x(value) - text_width(text, small) / 2, bottom + 9), text, small)
        what = "hidden reward over the steps" if self.over_steps else "hidden reward by caption fit; white: kept"
        draw_text(self.image, (left, bottom + 34), what, small)
        self._lines()

    def _marks(self) -> list[tuple[float, str]]:
        if self.over_steps:
            return [(value, f"{value:g}") for value in ticks(self.start, self.end)]
        return [(fit, f"{fit:.0%}") for fit in (1.0, 0.98, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7) if fit >= self.end]

    def _x(self, value: float) -> float:
        left, _, right, _ = self.box
        return left + 12 + (value - self.start) / (self.end - self.start) * (right - left - 24)

    def _y(self, reward: float) -> float:
        _, top, _, bottom = self.box
        return bottom - (reward - self.low) / (self.high - self.low) * (bottom - top)

    def _lines(self) -> None:
        """Smooth edges by drawing larger on a layer of its own; `dspo` on top."""
        layer = Image.new("RGBA", (self.image.width * _SCALE, self.image.height * _SCALE))
        draw = ImageDraw.Draw(layer)
        for name in reversed(list(COLOURS)):
            if name in self.panel.lines:
                _draw_line(draw, [self._place(point) for point in self.panel.lines[name]], COLOURS[name], self.theme)
        self.image.paste(small := layer.resize(self.image.size, Image.Resampling.LANCZOS), (0, 0), small)

    def _place(self, point: Point) -> tuple[float, float]:
        across = point.step if self.over_steps else max(point.fit, self.end)
        return self._x(across) * _SCALE, self._y(point.reward) * _SCALE


def _draw_line(draw: ImageDraw.ImageDraw, points: list[tuple[float, float]], colour: Colour, theme: Theme) -> None:
    draw.line(points, fill=(*colour, 235), width=3 * _SCALE, joint="curve")
    for x, y in points[1:]:
        draw.ellipse((x - 8, y - 8, x + 8, y + 8), fill=(*colour, 255))
    x, y = points[0]
    draw.ellipse((x - 9, y - 9, x + 9, y + 9), outline=(*theme.ink, 255), width=3)
