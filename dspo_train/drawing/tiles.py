"""The parts of captioned sheets: images in rounded boxes, pills, badges, a page with a heading."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from ..exceptions import ConfigError
from .themes import Colour, Theme
from .typography import TextStyle, draw_lines, draw_text, wrap

Box = tuple[int, int]

LARGEST_SIDE = 4096  # pixels of a finished sheet; browsers and chats shrink or refuse more
SMALLEST_CELL = 96  # pixels; smaller images cannot be judged, so the sheet grows instead
_SCALE = 4  # supersampling of curved edges


@dataclass(frozen=True)
class Page:
    """A sheet's colours, sizes and words around its body.

    Attributes:
        unit: 1.0 for cells of 256 pixels; every length and text size grows with it.
    """

    theme: Theme
    unit: float
    title: str = ""
    subtitle: str = ""
    footer: str = ""

    def px(self, length: float) -> int:
        """A length given for cells of 256 pixels, in pixels of this page."""
        return round(length * self.unit)

    def style(self, size: float, colour: Colour, *, bold: bool = False) -> TextStyle:
        return TextStyle(self.px(size), colour, bold)

    def size(self, body: Box) -> Box:
        """Width and height of the whole sheet around a body of this size."""
        heading, footer = self._heading_height(body[0]), self._footer_height(body[0])
        return body[0] + 2 * self.px(40), body[1] + heading + footer + 2 * self.px(40)

    def canvas(self, body: Box) -> tuple[Image.Image, Box]:
        """A new sheet with heading and footer, and the position of the body's top left corner."""
        margin, (width, height) = self.px(40), self.size(body)
        sheet = Image.new("RGB", (width, height), self.theme.page)
        y = margin
        for lines, style in self._heading(body[0]):
            draw_lines(sheet, (margin, y), lines, style)
            y += len(lines) * style.line_height + self.px(4)
        if self.footer:
            lines, style = self._footer(body[0])
            top = height - margin - len(lines) * style.line_height
            rule = top - self.px(12)
            ImageDraw.Draw(sheet).line((margin, rule, width - margin - 1, rule), fill=self.theme.rule)
            draw_lines(sheet, (margin, top), lines, style)
        return sheet, (margin, margin + self._heading_height(body[0]))

    def _heading(self, width: int) -> list[tuple[list[str], TextStyle]]:
        title, subtitle = self.style(32, self.theme.ink, bold=True), self.style(17, self.theme.muted)
        blocks = ((self.title, title), (self.subtitle, subtitle))
        return [(wrap(text, style, width, 3), style) for text, style in blocks if text.strip()]

    def _heading_height(self, width: int) -> int:
        blocks = self._heading(width)
        heights = [len(lines) * style.line_height + self.px(4) for lines, style in blocks]
        return sum(heights) + self.px(22) if blocks else 0

    def _footer(self, width: int) -> tuple[list[str], TextStyle]:
        style = self.style(13, self.theme.faint)
        return wrap(self.footer, style, width, 3), style

    def _footer_height(self, width: int) -> int:
        lines, style = self._footer(width)
        return len(lines) * style.line_height + self.px(36) if lines else 0


def common_box(images: Iterable[Image.Image], cell: int) -> Box:
    """The smallest box that holds every image once its longer side is `cell`."""
    scaled = [_contained(image.size, (cell, cell)) for image in images]
    return max(width for width, _ in scaled), max(height for _, height in scaled)


def checked(image: object, where: str) -> Image.Image:
    """The image itself, if it is one.

    Raises:
        ConfigError: something else, or an image without pixels.
    """
    if not isinstance(image, Image.Image):
        raise ConfigError(f"{where}: expected a PIL image, found {type(image).__name__}")
    if min(image.size) < 1:
        raise ConfigError(f"{where}: the image is {image.width} x {image.height} pixels; there is nothing to show")
    return image


def cell_size_for(asked: int | None, images: Sequence[Image.Image], smallest: int) -> int:
    """The longer side of an image on a sheet: as asked, or the images' own size between `smallest` and 512.

    Raises:
        ConfigError: `asked` is less than 16 pixels.
    """
    if asked is not None and asked < 16:
        raise ConfigError(f"cell_size must be at least 16 pixels, got {asked}")
    return asked or min(max(smallest, *(max(image.size) for image in images)), 512)


def unit_for(cell: int) -> float:
    """Text keeps a legible size on small cells and grows with large ones."""
    return min(max(cell / 256, 0.8), 2.0)


def fitting_cell(cell: int, size_of: Callable[[int], Box]) -> int:
    """The largest cell size up to `cell` whose sheet is within `LARGEST_SIDE`, but at least `SMALLEST_CELL`."""
    smallest = min(cell, SMALLEST_CELL)
    while cell > smallest and (side := max(size_of(cell))) > LARGEST_SIDE:
        cell = max(smallest, min(cell - 1, cell * LARGEST_SIDE // side))
    return cell


def paste_image(sheet: Image.Image, corner: Box, box: Box, image: Image.Image, page: Page) -> None:
    """Put an image in the middle of a rounded box, as large as fits, on a mat that fills the rest."""
    width, height = _contained(image.size, box)
    resized = _as_rgb(image, page.theme.mat).resize((width, height), Image.Resampling.LANCZOS)
    tile = Image.new("RGB", box, page.theme.mat)
    tile.paste(resized, ((box[0] - width) // 2, (box[1] - height) // 2))
    sheet.paste(tile, corner, rounded_mask(box, page.px(8)))


def paste_pill(sheet: Image.Image, corner: Box, box: Box, colour: Colour, radius: int) -> None:
    sheet.paste(colour, corner, rounded_mask(box, radius))


def paste_ring(sheet: Image.Image, corner: Box, box: Box, colour: Colour, page: Page) -> None:
    """A frame around a box, just outside it."""
    gap, width = max(1, page.px(2)), max(2, page.px(3))
    outer = gap + width
    size = (box[0] + 2 * outer, box[1] + 2 * outer)
    mask = rounded_mask(size, page.px(8) + outer)
    hole = rounded_mask((box[0] + 2 * gap, box[1] + 2 * gap), page.px(8) + gap)
    mask.paste(0, (width, width), hole)
    sheet.paste(colour, (corner[0] - outer, corner[1] - outer), mask)


def paste_badge(sheet: Image.Image, corner: Box, diameter: int, sign: str, fill: Colour, stroke: Colour) -> None:
    """Draw a disc with a check or a cross, without a font."""
    strokes = {
        "check": [[(0.27, 0.52), (0.43, 0.68), (0.73, 0.35)]],
        "cross": [[(0.33, 0.33), (0.67, 0.67)], [(0.67, 0.33), (0.33, 0.67)]],
    }[sign]
    side = diameter * _SCALE
    mask = Image.new("L", (side, side))
    draw, width = ImageDraw.Draw(mask), max(1, round(side * 0.1))
    for points in strokes:
        scaled = [(x * side, y * side) for x, y in points]
        draw.line(scaled, fill=255, width=width, joint="curve")
        for x, y in (scaled[0], scaled[-1]):
            draw.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)
    sheet.paste(fill, corner, rounded_mask((diameter, diameter), diameter // 2))
    sheet.paste(stroke, corner, mask.reduce(_SCALE))


def draw_centred(sheet: Image.Image, corner: Box, box: Box, text: str, style: TextStyle) -> None:
    """One line in the middle of a box."""
    position = (corner[0] + box[0] / 2, corner[1] + (box[1] - style.line_height) / 2)
    draw_text(sheet, position, text, style, "center")


def rounded_mask(box: Box, radius: int) -> Image.Image:
    """255 inside a rounded rectangle, with smooth corners, mode L."""
    mask = Image.new("L", box, 255)
    radius = min(radius, box[0] // 2, box[1] // 2)
    if radius < 1:
        return mask
    disc = Image.new("L", (2 * radius * _SCALE, 2 * radius * _SCALE))
    ImageDraw.Draw(disc).ellipse((0, 0, 2 * radius * _SCALE - 1, 2 * radius * _SCALE - 1), fill=255)
    disc = disc.reduce(_SCALE)
    for x in (0, 1):
        for y in (0, 1):
            quarter = disc.crop((x * radius, y * radius, (x + 1) * radius, (y + 1) * radius))
            mask.paste(quarter, (x * (box[0] - radius), y * (box[1] - radius)))
    return mask


def _contained(size: Box, box: Box) -> Box:
    """The size with the same proportions that just fits the box."""
    scale = min(box[0] / size[0], box[1] / size[1])
    fitted = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    return min(fitted[0], math.ceil(box[0])), min(fitted[1], math.ceil(box[1]))


def _as_rgb(image: Image.Image, background: Colour) -> Image.Image:
    """Any mode as RGB; transparency shows the background, 16-bit grey keeps its brightness."""
    if image.mode.startswith("I"):
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if not image.has_transparency_data:
        return image.convert("RGB")
    opaque = Image.new("RGBA", image.size, background)
    return Image.alpha_composite(opaque, image.convert("RGBA")).convert("RGB")
