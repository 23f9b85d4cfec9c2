"""Rows of line charts under one heading, drawn with Pillow, for any values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from PIL import Image, ImageDraw

from ..exceptions import ConfigError
from . import series
from .legends import LegendEntry, draw_legend, flow, legend_style
from .series import Array
from .themes import LIGHT, Colour, Theme
from .tiles import Page
from .typography import TextStyle, clip, draw_text, text_width

_SCALE = 3  # supersampling of lines
_REACH = 7  # how far is drawn beyond a chart's left and right edges, so that a dot on one is whole
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

WHOLE_NUMBERS = ",.0f"  # the format of whole numbers


@dataclass(frozen=True)
class Line:
    """One named series.

    Attributes:
        name: in the legend.
        x, y: equally long, (n,), x finite; y may be NaN or infinite and is then marked.
        dotted: for few and exact values: a dot at each, joined without smoothing. Otherwise x ascends, and a smoothed
            line is drawn over the faint values.
    """

    name: str
    x: Array
    y: Array
    colour: Colour
    dotted: bool = False

    def __post_init__(self) -> None:
        if self.x.shape != self.y.shape or self.x.ndim != 1:
            raise ConfigError(
                f"line {self.name!r}: x and y must be equally long, got {self.x.shape} and {self.y.shape}"
            )
        if not series.finite(self.x).all():
            raise ConfigError(f"line {self.name!r}: every x must be a finite number")


@dataclass(frozen=True)
class Chart:
    """Lines that share their axes.

    Attributes:
        hint: how to read it, beside the title; in the theme's `bad` colour if `alarm`.
        reference: a dashed horizontal line that is always in view, or None.
        y_limits: the range of the axis, or None to choose it from the values.
        x_limits: the same, left to right, descending if so given; None fits all charts of the column.
        x_label: below the horizontal axis; empty for no axis.
        x_format: of the numbers on that axis.
        shaded: a range of x with a darker background, or None.
    """

    title: str
    lines: tuple[Line, ...]
    hint: str = ""
    alarm: bool = False
    reference: float | None = None
    y_limits: tuple[float, float] | None = None
    x_limits: tuple[float, float] | None = None
    x_label: str = ""
    x_format: str = WHOLE_NUMBERS
    shaded: tuple[float, float] | None = None


def draw_charts(
    rows: Sequence[Sequence[Chart]],
    *,
    title: str = "",
    subtitle: str = "",
    legend: Sequence[LegendEntry] = (),
    theme: Theme = LIGHT,
    size: tuple[int, int] = (1200, 900),
) -> Image.Image:
    """Charts in rows and columns. RGB.

    Each has a legend with the last value of every line. Red marks at the bottom of a chart are values that are not
    finite.

    Args:
        legend: a single one above all charts, instead of theirs.

    Raises:
        ConfigError: there are no charts, or the image is too small to read: under 480 pixels wide or 160 per row.
    """
    if not rows or not all(rows):
        raise ConfigError("a plot needs at least one chart in every row")
    if size[0] < 480 or size[1] < 160 * len(rows):
        raise ConfigError(
            f"{len(rows)} rows of charts need at least 480 x {160 * len(rows)} pixels, got {size[0]} x {size[1]}"
        )
    page = Page(theme, max(0.7, min(size[0] / 1200, size[1] / 900)), title, subtitle)
    width = size[0] - 2 * page.px(40)
    sheet, (left, top) = page.canvas((width, size[1] - page.size((width, 0))[1]))
    if legend:
        top = draw_legend(sheet, page, (left, top), flow(page, legend, width)) + page.px(18)
    columns, gap, gutter = max(map(len, rows)), page.px(36), page.px(44)  # the gutter holds the axis's numbers
    across = (width - gap * (columns - 1)) // columns
    legends = [[[] if legend else flow(page, _entries(c, theme), across - gutter) for c in row] for row in rows]
    heads = [page.px(38) + max(map(len, row)) * legend_style(page).line_height for row in legends]
    axis = 2 * _small(page).line_height + page.px(12)
    feet = [page.px(20) + any(chart.x_label for chart in row) * axis for row in rows]
    height = (size[1] - page.px(10) - top - sum(heads) - sum(feet)) // len(rows)
    for row, under, head, foot in zip(rows, legends, heads, feet, strict=True):
        for column, chart in enumerate(row):
            x, y = left + column * (across + gap) + gutter, top + head
            right = x + across - gutter
            x_range = chart.x_limits or _x_range([line for other in rows for line in other[column].lines])
            _Plot(sheet, page, chart, (x, y, right, y + height), x_range, _y_range(chart)).draw()
            _draw_title(sheet, page, chart, x, top, right)
            draw_legend(sheet, page, (x, top + page.px(26)), under[column])
        top += head + height + foot
    return sheet


def _small(page: Page) -> TextStyle:
    return page.style(14, page.theme.faint)


def _x_range(lines: Sequence[Line]) -> tuple[float, float]:
    drawn = [line.x for line in lines if len(line.x)]
    if not drawn:
        return 0.0, 1.0
    first, last = min(float(x.min()) for x in drawn), max(float(x.max()) for x in drawn)
    return (first, last) if last > first else (first - 1, last + 1)


def _y_range(chart: Chart) -> tuple[float, float]:
    always = () if chart.reference is None else (chart.reference,)
    return chart.y_limits or series.view(np.concatenate([line.y for line in chart.lines] or [np.empty(0)]), always)


def _strong(line: Line, y_range: tuple[float, float]) -> tuple[Array, Array]:
    """The points of the strong line; outliers are clipped to the view, so that they do not bend the line."""
    if line.dotted:
        return line.x, line.y
    usable = series.finite(line.y)
    inside = np.where(usable, np.clip(np.where(usable, line.y, 0.0), *y_range), np.nan)
    x, y = series.thinned(line.x, inside)
    return x, series.gaussian_mean(y)


def _entries(chart: Chart, theme: Theme) -> list[LegendEntry]:
    """Legend entries: each name with its last value, and the number of values that are not finite."""
    drawn = [(line, float(_strong(line, _y_range(chart))[1][-1])) for line in chart.lines if len(line.x)]
    broken = sum(int((~series.finite(line.y)).sum()) for line in chart.lines)
    entries = [(f"{line.name} {series.compact_number(last)}", line.colour) for line, last in drawn]
    return entries + ([(f"{broken:,} not finite", theme.bad)] if broken else [])


def _draw_title(sheet: Image.Image, page: Page, chart: Chart, left: int, top: int, right: int) -> None:
    bold = page.style(17, page.theme.ink, bold=True)
    hint = page.style(15, page.theme.bad if chart.alarm else page.theme.muted)
    title = clip(chart.title, bold, (right - left) // 2)
    draw_text(sheet, (left, top), title, bold)
    left += text_width(title, bold) + page.px(12)
    draw_text(sheet, (left, top + bold.size - hint.size), clip(chart.hint, hint, right - left), hint)  # one baseline


@dataclass(frozen=True)
class _Plot:
    """The plot area of one chart: its box on the sheet, and the values at the box's edges."""

    sheet: Image.Image
    page: Page
    chart: Chart
    box: tuple[int, int, int, int]
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: Array | float) -> Array:
        """Pixels on the sheet."""
        share = (np.asarray(value) - self.x_range[0]) / (self.x_range[1] - self.x_range[0])
        return self.box[0] + share * (self.box[2] - self.box[0])

    def y(self, value: Array | float) -> Array:
        share = (np.asarray(value) - self.y_range[0]) / (self.y_range[1] - self.y_range[0])
        return self.box[3] - share * (self.box[3] - self.box[1])

    def draw(self) -> None:
        self._draw_grid()
        if self.chart.x_label:
            self._draw_x_axis()
        self._draw_lines()
        if not any(series.finite(line.y).any() for line in self.chart.lines):
            left, top, right, bottom = self.box
            style = self.page.style(16, self.page.theme.faint)
            half = text_width("no values yet", style) / 2 + self.page.px(12)
            x, y = (left + right) / 2, (top + bottom - style.line_height) / 2
            patch = (x - half, y, x + half, y + style.line_height)
            ImageDraw.Draw(self.sheet).rectangle(patch, fill=self.page.theme.page)
            draw_text(self.sheet, (x, y), "no values yet", style, "center")

    def _draw_grid(self) -> None:
        """The shade, and hairlines with their values, below their common power of ten."""
        page, style, draw = self.page, _small(self.page), ImageDraw.Draw(self.sheet)
        left, top, right, bottom = self.box
        if self.chart.shaded:
            edges = sorted(float(self.x(edge)) for edge in self.chart.shaded)
            draw.rectangle((edges[0], top, edges[1], bottom), fill=page.theme.mat)
        ticks = series.ticks(*self.y_range)
        exponent = series.shared_exponent(ticks)
        for tick in ticks:
            y = float(self.y(tick))
            draw.line((left, round(y), right - 1, round(y)), fill=page.theme.rule)
            at = (left - page.px(10), y - style.line_height / 2)
            draw_text(self.sheet, at, series.label(tick, exponent), style, "right")
        if exponent:
            power = "\N{MULTIPLICATION SIGN}10" + str(exponent).translate(_SUPERSCRIPT)
            draw_text(self.sheet, (left - page.px(10), top - page.px(32)), power, style, "right")

    def _draw_x_axis(self) -> None:
        page, style, draw = self.page, _small(self.page), ImageDraw.Draw(self.sheet)
        left, _, right, bottom = self.box
        draw.line((left, bottom, right - 1, bottom), fill=page.theme.faint)
        for tick in series.ticks(*sorted(self.x_range), most=max(3, (right - left) // page.px(110))):
            if self.chart.x_format == WHOLE_NUMBERS and tick != round(tick):
                continue
            x = round(float(self.x(tick)))
            draw.line((x, bottom, x, bottom + page.px(6)), fill=page.theme.faint)
            draw_text(self.sheet, (x, bottom + page.px(8)), f"{tick:{self.chart.x_format}}", style, "center")
        middle = ((left + right) / 2, bottom + page.px(8) + style.line_height)
        draw_text(self.sheet, middle, self.chart.x_label, style, "center")

    def _draw_lines(self) -> None:
        """Draw the lines on an enlarged copy of the plot area, which also clips them."""
        page, reach = self.page, self.page.px(_REACH)
        corner = (self.box[0] - reach, self.box[1])
        area = self.sheet.crop((*corner, self.box[2] + reach, self.box[3]))
        large = area.resize((area.width * _SCALE, area.height * _SCALE), Image.Resampling.NEAREST)
        draw = ImageDraw.Draw(large)
        for line in (line for line in self.chart.lines if not line.dotted):
            mask = Image.new("L", large.size)
            for stretch in self._stretches(line.x, line.y, corner):
                opacity = 90 if len(line.x) <= series.POINTS else 44
                ImageDraw.Draw(mask).line(stretch, fill=opacity, width=page.px(1) * _SCALE)
            if box := mask.getbbox():  # the rest of the area stays as it is
                large.paste(line.colour, box, mask.crop(box))
        if self.chart.reference is not None:
            y, dash = (float(self.y(self.chart.reference)) - corner[1]) * _SCALE, page.px(7) * _SCALE
            for x in range(reach * _SCALE, large.width - reach * _SCALE, 2 * dash):
                draw.line((x, y, x + dash, y), fill=page.theme.faint, width=round(page.px(1.4) * _SCALE))
        for line in self.chart.lines:
            self._draw_strong(draw, line, corner)
        for line in self.chart.lines:
            self._draw_marks(draw, line, corner)
        self.sheet.paste(large.reduce(_SCALE), corner)

    def _stretches(self, x: Array, y: Array, corner: tuple[int, int]) -> list[list[tuple[float, float]]]:
        """Enlarged positions relative to `corner`, in stretches between values that are not finite."""
        usable, height = series.finite(y), self.box[3] - self.box[1]
        down = np.clip(self.y(np.where(usable, y, 0.0)) - corner[1], -height, 2.0 * height)
        points = zip(
            usable.tolist(), ((self.x(x) - corner[0]) * _SCALE).tolist(), (down * _SCALE).tolist(), strict=True
        )
        groups = groupby(points, key=lambda point: point[0])
        return [[(right, below) for _, right, below in group] for drawn, group in groups if drawn]

    def _draw_strong(self, draw: ImageDraw.ImageDraw, line: Line, corner: tuple[int, int]) -> None:
        """Draw a line with round ends, and with a dot at each value if dotted, smaller if there are many."""
        page, width = self.page, self.page.px(2.4) * _SCALE
        apart = (self.box[2] - self.box[0]) / max(1, len(line.x))
        dot = min(page.px(4.5), max(apart / 4, page.px(1.6))) * _SCALE
        for stretch in self._stretches(*_strong(line, self.y_range), corner):
            draw.line(stretch, fill=line.colour, width=width, joint="curve")
            radius = dot if line.dotted else page.px(4) * _SCALE if len(stretch) == 1 else width / 2
            for at in stretch if line.dotted else (stretch[0], stretch[-1]):
                if line.dotted:
                    _draw_disc(draw, at, radius + page.px(1) * _SCALE, page.theme.page)
                _draw_disc(draw, at, radius, line.colour)

    def _draw_marks(self, draw: ImageDraw.ImageDraw, line: Line, corner: tuple[int, int]) -> None:
        """A red triangle on the lower edge wherever a value is not finite."""
        side, floor = self.page.px(5) * _SCALE, (self.box[3] - corner[1]) * _SCALE
        for column in sorted({round(x - corner[0]) for x in self.x(line.x[~series.finite(line.y)]).tolist()}):
            x = column * _SCALE
            draw.polygon([(x - side, floor), (x + side, floor), (x, floor - 1.7 * side)], fill=self.page.theme.bad)


def _draw_disc(draw: ImageDraw.ImageDraw, at: tuple[float, float], radius: float, colour: Colour) -> None:
    draw.ellipse((at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius), fill=colour)
