"""Measuring, wrapping and drawing text on a picture.

A line of text lives in a box `text_width` wide and `TextStyle.line_height` high. Text is drawn four times too
large and reduced, which spaces small letters evenly and makes a bold weight out of the only weight there is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageChops, ImageDraw, ImageOps

from .themes import Colour
from .typefaces import DEFAULT, MARKS, Run, clean, clusters, decompose, runs

ELLIPSIS = "…"
_SCALE = 4
_BASELINE, _LEADING = 1.0, 1.34  # of the size: room for an accented capital above, for a g below
_LONGEST = 4000  # characters of a text that are looked at; more never fits a picture
_NOT_AT_LINE_START = set(",.;:!?)]}%…") | set("、。，．・：；？！）」』】》〉］ーぁぃぅぇぉっゃゅょァィゥェォッャュョ")  # noqa: RUF001
_NOT_AT_LINE_END = set("([{（「『【《〈［")  # noqa: RUF001
_BREAK_AFTER = set(",;/|-_–—")  # noqa: RUF001


@dataclass(frozen=True)
class TextStyle:
    """How a text looks.

    Attributes:
        size: em height in pixels.
        colour: of every glyph but emoji.
        bold: a heavier stroke of the same width.
    """

    size: int
    colour: Colour
    bold: bool = False

    @property
    def line_height(self) -> int:
        """Height of one line's box in pixels."""
        return math.ceil(self.size * _LEADING)


def text_width(text: str, style: TextStyle) -> int:
    """Width of one line in pixels, rounded up."""
    return math.ceil(sum(_run_width(run, style.size) for run in runs(clean(text))))


def clip(text: str, style: TextStyle, width: int) -> str:
    """The text on one line of at most `width` pixels, ended by an ellipsis where it was too long."""
    text = clean(text[:_LONGEST])
    if text_width(text, style) <= width:
        return text
    parts = clusters(text)
    fits, too_long = 0, len(parts)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if text_width(_shortened(parts[:middle]), style) <= width:
            fits = middle
        else:
            too_long = middle
    return _shortened(parts[:fits])


def wrap(text: str, style: TextStyle, width: int, max_lines: int) -> list[str]:
    """Break a text into at most `max_lines` lines of at most `width` pixels.

    The last line ends in an ellipsis if anything is left over. Breaks at spaces, after commas and hyphens,
    between CJK characters, and inside a word only where the word alone is too wide.
    """
    return list(_wrapped(text[:_LONGEST], style, width, max_lines))


@lru_cache(maxsize=1024)  # a layout is tried several times before it is drawn
def _wrapped(text: str, style: TextStyle, width: int, max_lines: int) -> list[str]:
    pieces = list(_pieces(clean(text)))
    lines: list[str] = []
    line = ""
    for index, piece in enumerate(pieces):
        if text_width((line + piece).rstrip(), style) <= width:
            line += piece
            continue
        if line:
            lines.append(line.rstrip())
        if len(lines) >= max_lines:
            return [*lines[:-1], clip(line + "".join(pieces[index:]), style, width)]
        *full, line = _split_wide(piece, style, width)
        lines += full
        if len(lines) >= max_lines:
            rest = "".join([*lines[max_lines - 1 :], line, *pieces[index + 1 :]])
            return [*lines[: max_lines - 1], clip(rest, style, width)]
    return [*lines, line.rstrip()] if line.strip() else lines


def draw_text(canvas: Image.Image, xy: tuple[float, float], text: str, style: TextStyle, anchor: str = "left") -> None:
    """Draw one line. `xy` is the top of its box and its left edge, centre or right edge, as `anchor` says."""
    text = clean(text)
    offset = {"left": 0.0, "center": 0.5, "right": 1.0}[anchor] * text_width(text, style)
    left, top = round(xy[0] - offset), round(xy[1])
    margin = style.size  # room for what reaches beyond its advance, such as the first stroke of a j
    width = text_width(text, style) + 2 * margin
    mask = Image.new("L", (width * _SCALE, style.line_height * _SCALE))
    x = float(margin)
    for run in runs(text):
        if run.kind == "emoji":
            _paste_emoji(canvas, run, (left - margin + x, top), style)
        else:
            _draw_run(mask, x, run, style)
        x += _run_width(run, style.size)
    canvas.paste(style.colour, (left - margin, top), mask.reduce(_SCALE))


def draw_lines(
    canvas: Image.Image, xy: tuple[float, float], lines: list[str], style: TextStyle, anchor: str = "left"
) -> None:
    """Draw wrapped lines below each other, the first at `xy`."""
    for number, line in enumerate(lines):
        draw_text(canvas, (xy[0], xy[1] + number * style.line_height), line, style, anchor)


def _shortened(parts: list[str]) -> str:
    return "".join(parts).rstrip(" ,;:.-") + ELLIPSIS


def _pieces(text: str) -> Iterator[str]:
    """The parts a line may be made of; each carries the space behind it."""
    piece, parts = "", clusters(text)
    for part, following in zip(parts, [*parts[1:], " "], strict=False):
        piece += part
        if following != " " and _may_break(part, following):
            yield piece
            piece = ""
    if piece:
        yield piece


def _may_break(before: str, after: str) -> bool:
    if after[0] in _NOT_AT_LINE_START or before[0] in _NOT_AT_LINE_END:
        return False
    ideographs = _is_ideograph(before) or _is_ideograph(after)
    return before == " " or ideographs or (before in _BREAK_AFTER and not after[0].isdigit())


def _is_ideograph(cluster: str) -> bool:
    """Scripts that break between any two characters: Han, kana and full-width signs."""
    code = ord(cluster[0])
    return 0x2E80 <= code <= 0x9FFF or 0xF900 <= code <= 0xFAFF or 0xFF00 <= code <= 0xFF60 or code >= 0x20000


def _split_wide(piece: str, style: TextStyle, width: int) -> list[str]:
    """A piece cut wherever it reaches the width; at least one cluster a line."""
    lines, line = [], ""
    for part in clusters(piece):
        if line and part != " " and text_width((line + part).rstrip(), style) > width:
            lines.append(line)
            line = ""
        line += part
    return [*lines, line]


def _run_width(run: Run, size: int) -> float:
    if run.kind == "emoji":
        return size * 1.2
    if run.kind == "missing":
        return size * 0.72
    text = decompose(run.text)[0] if run.kind == "accented" else run.text
    return run.face.font(size * _SCALE).getlength(text) / _SCALE


def _draw_run(mask: Image.Image, x: float, run: Run, style: TextStyle) -> None:
    """Draw on a mask that is `_SCALE` times too large; `x` in unscaled pixels."""
    size = style.size * _SCALE
    stroke = max(1, round(size / 60)) if style.bold else 0
    origin = (round(x * _SCALE), round(_BASELINE * size))
    if run.kind == "missing":
        box = (origin[0] + 0.1 * size, origin[1] - 0.68 * size, origin[0] + 0.62 * size, origin[1])
        ImageDraw.Draw(mask).rectangle(box, outline=255, width=max(1, round(size / 16)))
    elif run.kind == "accented":
        glyph = _accented(run.text, size, stroke)
        corner = (origin[0] - size, origin[1] - size)
        layer = Image.new("L", mask.size)
        layer.paste(glyph, corner)
        mask.paste(ImageChops.lighter(mask, layer))
    else:
        font = run.face.font(size)
        ImageDraw.Draw(mask).text(origin, run.text, fill=255, font=font, anchor="ls", stroke_width=stroke)


def _accented(cluster: str, size: int, stroke: int) -> Image.Image:
    """A letter of the default font with its marks, 3 x 2 em, its origin one em from the left and the top."""
    base, marks = decompose(cluster)
    font = DEFAULT.font(size)
    glyph = Image.new("L", (3 * size, 2 * size))
    draw = ImageDraw.Draw(glyph)
    draw.text((size, size), base, fill=255, font=font, anchor="ls", stroke_width=stroke)
    top = size + font.getbbox(base, anchor="ls")[1]
    if base in "ij" and any(MARKS[mark][1] != "below" for mark in marks):
        top = size + font.getbbox("x", anchor="ls")[1]
        draw.rectangle((0, 0, 3 * size, top - stroke - 1), fill=0)  # the mark replaces the dot
    left, _, right, _ = font.getbbox(base, anchor="ls")
    centre = size + (left + right) / 2
    for mark in marks:
        signs, place = MARKS[mark]
        sign = _mark_glyph(signs, place, size, stroke)
        y = size + size // 40 if place == "below" else top - round(0.075 * size) - sign.height
        glyph.paste(255, (round(centre - sign.width / 2), round(y)), sign)
        top = min(top, round(y))
    return glyph


def _mark_glyph(signs: str, place: str, size: int, stroke: int) -> Image.Image:
    small = DEFAULT.font(round(size * (0.62 if signs in "^~°" else 0.8)))
    sign = Image.new("L", (3 * size, 3 * size))
    draw, x = ImageDraw.Draw(sign), float(size)
    for char in signs:
        draw.text((round(x), size), char, fill=255, font=small, anchor="ls", stroke_width=stroke)
        x += max(small.getlength(char), 0.24 * size)
    cropped = sign.crop(sign.getbbox())
    return ImageOps.flip(cropped) if place.endswith("upside down") else cropped


def _paste_emoji(canvas: Image.Image, run: Run, corner: tuple[float, float], style: TextStyle) -> None:
    font = run.face.font(style.size * _SCALE)
    left, top, right, bottom = font.getbbox(run.text)
    picture = Image.new("RGBA", (max(1, math.ceil(right - left)), max(1, math.ceil(bottom - top))))
    ImageDraw.Draw(picture).text((-left, -top), run.text, font=font, embedded_color=True, fill=style.colour)
    room = (round(style.size * 1.14), round(style.size * 1.14))
    picture = ImageOps.contain(picture, room, Image.Resampling.LANCZOS)
    x = corner[0] + (style.size * 1.2 - picture.width) / 2
    y = corner[1] + (style.line_height - picture.height) / 2
    canvas.paste(picture, (round(x), round(y)), picture)
