"""Line plots stacked above one step axis, drawn with Pillow: values and their drawing, no knowledge of training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from ..exceptions import ConfigError
from . import series
from .series import Array
from .themes import LIGHT, Colour, Theme
from .typography import TextStyle, clip, draw_text, text_width

_SCALE = 3  # supersampling of lines


@dataclass(frozen=True)
class Line:
    """One named series.

    Attributes:
        name: in the legend.
        steps, values: equally long, (n,), steps ascending; values may be NaN or infinite and are then marked.
        colour: index into the theme's series colours.
        marked: few and exact values: a dot at each, joined as they are instead of smoothed.
    """

    name: str
    steps: Array
    values: Array
    colour: int = 0
    marked: bool = False

    def __post_init__(self) -> None:
        if self.steps.shape != self.values.shape or self.steps.ndim != 1:
            shapes = f"{self.steps.shape} and {self.values.shape}"
            raise ConfigError(f"line {self.name!r}: steps and values must be equally long, got {shapes}")
        if not series.finite(self.steps).all():
            raise ConfigError(f"line {self.name!r}: every step must be a finite number")


@dataclass(frozen=True)
class LinePanel:
    """Lines that share a vertical axis.

    Attributes:
        title: what is shown; `hint` says how to read it, in the colour of bad news if `alarm`.
        reference: a dashed horizontal line that is always in view, or None.
        limits: the axis's range, or None to choose it from the values.
    """

    title: str
    lines: tuple[Line, ...]
    hint: str = ""
    alarm: bool = False
    reference: float | None = None
    limits: tuple[float, float] | None = None

    def view(self) -> tuple[float, float]:
        """Lowest and highest value on the axis."""
        if self.limits:
            return self.limits
        always = () if self.reference is None else (self.reference,)
        return series.view(np.concatenate([line.values for line in self.lines] or [np.empty(0)]), always)


def draw_panels(
    panels: Sequence[LinePanel],
    *,
    title: str = "",
    subtitle: str = "",
    x_label: str = "step",
    theme: Theme = LIGHT,
    size: tuple[int, int] = (1200, 900),
) -> Image.Image:
    """Plot panels above each other: raw values faint, a smoothed line on top, legends with the last smoothed value.

    A red mark at the bottom edge of a panel stands for values that are not finite. RGB.

    Raises:
        ConfigError: no panels, or a picture too small to read: under 480 pixels wide or 160 a panel.
    """
    if not panels:
        raise ConfigError("a plot needs at least one panel; the list is empty")
    if size[0] < 480 or size[1] < 160 * len(panels):
        least = f"480 x {160 * len(panels)}"
        raise ConfigError(f"{len(panels)} panels need at least {least} pixels, got {size[0]} x {size[1]}")
    page = _Page(Image.new("RGB", size, theme.page), theme, min(size[0] / 1200, size[1] / 900))
    top = _draw_heading(page, title, subtitle)
    steps = _step_range(panels)
    bottom = size[1] - page.px(10) - page.small.line_height * 2
    height = (bottom - top) / len(panels)
    for number, panel in enumerate(panels):
        panel_top, panel_bottom = round(top + number * height), round(top + (number + 1) * height)
        box = (page.left, panel_top + page.px(44), page.right, panel_bottom - page.px(18))
        _draw_panel(page, panel, _Axes(box, steps, panel.view()))
    _draw_step_axis(page, steps, round(top + len(panels) * height) - page.px(18), x_label)
    return page.image


@dataclass(frozen=True)
class _Page:
    """The picture being drawn; lengths are given for 1200 x 900 pixels."""

    image: Image.Image
    theme: Theme
    unit: float

    def px(self, length: float) -> int:
        return max(1, round(length * max(0.7, self.unit)))

    def style(self, size: float, colour: Colour, *, bold: bool = False) -> TextStyle:
        return TextStyle(self.px(size), colour, bold)

    @property
    def small(self) -> TextStyle:
        return self.style(14, self.theme.faint)

    @property
    def left(self) -> int:
        return self.px(84)

    @property
    def right(self) -> int:
        return self.image.width - self.px(36)


@dataclass(frozen=True)
class _Axes:
    """A plot area (left, top, right, bottom in pixels) and the values at its edges."""

    box: tuple[int, int, int, int]
    steps: tuple[float, float]
    values: tuple[float, float]

    def x(self, step: float) -> float:
        share = (step - self.steps[0]) / (self.steps[1] - self.steps[0])
        return self.box[0] + share * (self.box[2] - self.box[0])

    def y(self, value: float) -> float:
        share = (value - self.values[0]) / (self.values[1] - self.values[0])
        return self.box[3] - share * (self.box[3] - self.box[1])


def _step_range(panels: Sequence[LinePanel]) -> tuple[float, float]:
    drawn = [line.steps for panel in panels for line in panel.lines if len(line.steps)]
    if not drawn:
        return 0.0, 1.0
    first, last = min(float(s.min()) for s in drawn), max(float(s.max()) for s in drawn)
    return (first, last) if last > first else (first - 1, last + 1)


def _draw_heading(page: _Page, title: str, subtitle: str) -> int:
    """Title and subtitle; returns where the panels begin."""
    y, margin, room = page.px(26), page.px(36), page.image.width - 2 * page.px(36)
    blocks = (
        (title, page.style(28, page.theme.ink, bold=True)),
        (subtitle, page.style(16, page.theme.muted)),
    )
    for text, style in blocks:
        if text.strip():
            draw_text(page.image, (margin, y), clip(text, style, room), style)
            y += style.line_height + page.px(2)
    return y + page.px(6)


def _draw_panel(page: _Page, panel: LinePanel, axes: _Axes) -> None:
    smooth = [_smooth(line, axes.values) for line in panel.lines]
    _draw_grid(page, axes)
    page.image.paste(_plot(page, panel, axes, smooth), axes.box[:2])
    _draw_panel_heading(page, panel, axes, [_last(values) for _, values in smooth])
    if not any(series.finite(line.values).any() for line in panel.lines):
        style = page.style(16, page.theme.faint)
        middle = ((axes.box[0] + axes.box[2]) / 2, (axes.box[1] + axes.box[3] - style.line_height) / 2)
        half = text_width("no values yet", style) / 2 + page.px(12)
        patch = (middle[0] - half, middle[1], middle[0] + half, middle[1] + style.line_height)
        ImageDraw.Draw(page.image).rectangle(patch, fill=page.theme.page)
        draw_text(page.image, middle, "no values yet", style, "center")


def _smooth(line: Line, limits: tuple[float, float]) -> tuple[Array, Array]:
    """Thinned steps and smoothed values; an outlier counts as the edge of the view, or it would bend the line."""
    usable = series.finite(line.values)
    clipped = np.where(usable, np.clip(np.where(usable, line.values, 0.0), *limits), np.nan)
    steps, values = series.thinned(line.steps, clipped)
    return steps, values if line.marked else series.smoothed(values)


def _last(values: Array) -> float:
    return float(values[-1]) if len(values) else math.nan


def _draw_grid(page: _Page, axes: _Axes) -> None:
    """Horizontal hairlines with their values, and the power of ten taken out of them above."""
    values = series.ticks(*axes.values)
    exponent = series.shared_exponent(values)
    draw, style = ImageDraw.Draw(page.image), page.small
    left, top, right, _ = axes.box
    for value in values:
        y = axes.y(value)
        draw.line((left, round(y), right - 1, round(y)), fill=page.theme.rule)
        position = (left - page.px(10), y - style.line_height / 2)
        draw_text(page.image, position, series.label(value, exponent), style, "right")
    if exponent:
        position = (left - page.px(10), top - style.line_height - page.px(6))
        draw_text(page.image, position, f"1e{exponent}", page.style(13, page.theme.muted), "right")


def _plot(page: _Page, panel: LinePanel, axes: _Axes, smooth: list[tuple[Array, Array]]) -> Image.Image:
    """The plot area with everything drawn in it, which also clips it."""
    area = page.image.crop(axes.box)
    large = area.resize((area.width * _SCALE, area.height * _SCALE), Image.Resampling.NEAREST)
    draw, theme, width = ImageDraw.Draw(large), page.theme, page.px(2.4) * _SCALE
    for line in (line for line in panel.lines if not line.marked):
        steps, values = series.envelope(line.steps, line.values)
        mask = Image.new("L", large.size)
        opacity = 90 if len(steps) == len(line.steps) else 44
        _draw_polyline(ImageDraw.Draw(mask), _points(axes, steps, values), opacity, page.px(1) * _SCALE)
        large.paste(theme.series[line.colour % len(theme.series)], mask=mask)
    if panel.reference is not None:
        y = (axes.y(panel.reference) - axes.box[1]) * _SCALE
        dash = page.px(7) * _SCALE
        for x in range(0, large.width, 2 * dash):
            draw.line((x, y, x + dash, y), fill=theme.faint, width=round(page.px(1.4) * _SCALE))
    for line, (steps, values) in zip(panel.lines, smooth, strict=True):
        colour = theme.series[line.colour % len(theme.series)]
        points = _points(axes, steps, values)
        _draw_polyline(draw, points, colour, width)
        if line.marked:
            _draw_dots(draw, page, [point for stretch in points for point in stretch], colour)
    for line in panel.lines:
        _draw_marks(draw, page, axes, line)
    return large.reduce(_SCALE)


def _points(axes: _Axes, steps: Array, values: Array) -> list[list[tuple[float, float]]]:
    """Supersampled positions in the plot area, in stretches between values that are not finite."""
    stretches: list[list[tuple[float, float]]] = [[]]
    for step, value, usable in zip(steps, values, series.finite(values), strict=True):
        if usable:
            x, y = axes.x(step) - axes.box[0], axes.y(value) - axes.box[1]
            height = axes.box[3] - axes.box[1]
            stretches[-1].append((x * _SCALE, min(max(y, -height), 2.0 * height) * _SCALE))
        elif stretches[-1]:
            stretches.append([])
    return [stretch for stretch in stretches if stretch]


def _draw_polyline(
    draw: ImageDraw.ImageDraw, stretches: list[list[tuple[float, float]]], colour: Colour | int, width: int
) -> None:
    """Lines with round ends; a lone point becomes a dot."""
    for stretch in stretches:
        draw.line(stretch, fill=colour, width=width, joint="curve")
        radius = width / 2 if len(stretch) > 1 else max(width, 4 * _SCALE)
        for x, y in (stretch[0], stretch[-1]):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _draw_dots(draw: ImageDraw.ImageDraw, page: _Page, points: Sequence[tuple[float, float]], colour: Colour) -> None:
    """A dot with a rim of the page's colour at every point, smaller where they stand close."""
    apart = min((b[0] - a[0] for a, b in pairwise(points)), default=math.inf)
    radius = min(page.px(4.5) * _SCALE, max(apart / 4, page.px(1.6) * _SCALE))
    for x, y in points:
        for reach, fill in ((radius + page.px(1) * _SCALE, page.theme.page), (radius, colour)):
            draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=fill)


def _draw_marks(draw: ImageDraw.ImageDraw, page: _Page, axes: _Axes, line: Line) -> None:
    """A red triangle on the lower edge at every pixel column that holds a value that is not finite."""
    broken = line.steps[~series.finite(line.values)]
    columns = sorted({round(axes.x(float(step)) - axes.box[0]) for step in broken})
    side, floor = page.px(5) * _SCALE, (axes.box[3] - axes.box[1]) * _SCALE
    for column in columns:
        x = min(max(column, page.px(5)), axes.box[2] - axes.box[0] - page.px(5)) * _SCALE
        points = [(x - side, floor), (x + side, floor), (x, floor - 1.7 * side)]
        draw.polygon(points, fill=page.theme.bad)


def _draw_panel_heading(page: _Page, panel: LinePanel, axes: _Axes, last: list[float]) -> None:
    """Title and hint on the left, the legend on the right."""
    y, left = axes.box[1] - page.px(34), axes.box[0]
    bold = page.style(17, page.theme.ink, bold=True)
    name = clip(panel.title, bold, (axes.box[2] - left) // 2)
    draw_text(page.image, (left, y - page.px(2)), name, bold)
    left += text_width(name, bold) + page.px(12)
    right = _draw_legend(page, panel, (left, y, axes.box[2]), last)
    hint = page.style(15, page.theme.bad if panel.alarm else page.theme.muted)
    if right - left > page.px(80):
        draw_text(page.image, (left, y), clip(panel.hint, hint, right - left), hint)


def _draw_legend(page: _Page, panel: LinePanel, room: tuple[int, int, int], last: list[float]) -> int:
    """Names and last values, flush right, in a room (left, top, right); returns where the legend begins."""
    theme, style, gap = page.theme, page.style(15, page.theme.ink), page.px(40)
    entries = [
        (f"{line.name} {series.short(value)}", theme.series[line.colour % len(theme.series)])
        for line, value in zip(panel.lines, last, strict=True)
        if len(line.values)
    ]
    broken = sum(int((~series.finite(line.values)).sum()) for line in panel.lines)
    if broken:
        entries.append((f"{broken:,} not finite", theme.bad))
    left, top, x = room
    widest = (x - left) // max(1, len(entries)) - gap
    middle = round(top + style.line_height / 2)
    for text, colour in reversed(entries):
        text = clip(text, style, widest)
        x -= text_width(text, style)
        draw_text(page.image, (x, top), text, style)
        dash = (x - page.px(22), middle, x - page.px(8), middle)
        ImageDraw.Draw(page.image).line(dash, fill=colour, width=page.px(3))
        x -= gap
    return x


def _draw_step_axis(page: _Page, steps: tuple[float, float], top: int, name: str) -> None:
    draw, style = ImageDraw.Draw(page.image), page.small
    axes = _Axes((page.left, top, page.right, top + 1), steps, (0.0, 1.0))
    draw.line((page.left, top, page.right - 1, top), fill=page.theme.faint)
    for value in series.ticks(*steps, most=9):
        if value == round(value):
            x = round(axes.x(value))
            draw.line((x, top, x, top + page.px(6)), fill=page.theme.faint)
            text = f"{value:,.0f}"
            middle = min(x, page.image.width - page.px(8) - text_width(text, style) / 2)
            draw_text(page.image, (middle, top + page.px(8)), text, style, "center")
    centre = ((page.left + page.right) / 2, top + page.px(8) + style.line_height)
    draw_text(page.image, centre, name, style, "center")
