"""Measuring, wrapping and drawing text on an image.

A line of text fills a box `text_width` wide and `TextStyle.line_height` high. Text is drawn at four times its size and
reduced, which spaces small letters evenly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageOps

from .themes import Colour
from .typefaces import Run, clean, clusters, emoji_font, load, runs

ELLIPSIS = "…"
_SCALE = 4
_BASELINE, _LEADING = 1.02, 1.36  # of the size: room for an accented capital above, for a g below
_LONGEST = 4000  # characters of a text that are used; more never fit on an image
_NOT_AT_LINE_START = set(",.;:!?)]}%…") | set("、。，．・：；？！）」』】》〉］ーぁぃぅぇぉっゃゅょァィゥェォッャュョ")  # noqa: RUF001
_NOT_AT_LINE_END = set("([{（「『【《〈［")  # noqa: RUF001
_BREAK_AFTER = set(",;/|-_–—")  # noqa: RUF001


@dataclass(frozen=True)
class TextStyle:
    """How a text looks.

    Attributes:
        size: em height in pixels.
        colour: of every glyph but emoji.
        bold: semi-bold, where the bundled font has the characters.
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
    return math.ceil(sum(_run_width(run, style.size) for run in runs(clean(text), style.bold)))


def clip(text: str, style: TextStyle, width: int) -> str:
    """The text on one line of at most `width` pixels, ending in an ellipsis if it is too long."""
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

    The last line ends in an ellipsis if anything is left over. Lines break at spaces, after commas and hyphens,
    between CJK characters, and inside a word only if the word alone is too wide.
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
    """Draw one line. `xy` is the left edge, centre or right edge of its box, as `anchor` says, and the box's top."""
    text = clean(text)
    width = text_width(text, style)
    left, top = round(xy[0] - {"left": 0.0, "center": 0.5, "right": 1.0}[anchor] * width), round(xy[1])
    margin = style.size  # room for what extends beyond the box, such as the tail of a j or two accents on a capital
    mask = Image.new("L", ((width + 2 * margin) * _SCALE, (style.line_height + 2 * margin) * _SCALE))
    x = float(margin)
    for run in runs(text, style.bold):
        if run.emoji:
            _paste_emoji(canvas, run.text, (left - margin + x, top), style)
        else:
            origin = (round(x * _SCALE), round((margin + _BASELINE * style.size) * _SCALE))
            _draw_run(ImageDraw.Draw(mask), origin, run, style.size * _SCALE)
        x += _run_width(run, style.size)
    canvas.paste(style.colour, (left - margin, top - margin), mask.reduce(_SCALE))


def draw_lines(
    canvas: Image.Image, xy: tuple[float, float], lines: list[str], style: TextStyle, anchor: str = "left"
) -> None:
    """Draw wrapped lines one below the other, the first at `xy`."""
    for number, line in enumerate(lines):
        draw_text(canvas, (xy[0], xy[1] + number * style.line_height), line, style, anchor)


def _shortened(parts: list[str]) -> str:
    return "".join(parts).rstrip(" ,;:.-") + ELLIPSIS


def _pieces(text: str) -> Iterator[str]:
    """The parts between which a line may break, each with the space after it."""
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
    """Split a piece wherever it reaches the width, with at least one cluster per line."""
    lines, line = [], ""
    for part in clusters(piece):
        if line and part != " " and text_width((line + part).rstrip(), style) > width:
            lines.append(line)
            line = ""
        line += part
    return [*lines, line]


def _run_width(run: Run, size: int) -> float:
    if run.emoji:
        return size * 1.2
    if run.font is None:
        return size * 0.72
    return load(run.font, size * _SCALE).getlength(run.text) / _SCALE


def _draw_run(draw: ImageDraw.ImageDraw, origin: tuple[int, int], run: Run, size: int) -> None:
    """`origin` is on the baseline; it and `size` in pixels of the enlarged mask."""
    if run.font is None:
        x, baseline = origin
        box = (x + 0.1 * size, baseline - 0.68 * size, x + 0.62 * size, baseline)
        draw.rectangle(box, outline=255, width=max(1, round(size / 16)))
    else:
        draw.text(origin, run.text, fill=255, font=load(run.font, size), anchor="ls")


def _paste_emoji(canvas: Image.Image, text: str, corner: tuple[float, float], style: TextStyle) -> None:
    found = emoji_font()
    assert found, "an emoji run needs an emoji font"
    font = load(*found)
    left, top, right, bottom = font.getbbox(text)
    glyph = Image.new("RGBA", (max(1, math.ceil(right - left)), max(1, math.ceil(bottom - top))))
    ImageDraw.Draw(glyph).text((-left, -top), text, font=font, embedded_color=True, fill=style.colour)
    side = round(style.size * 1.14)
    glyph = ImageOps.contain(glyph, (side, side), Image.Resampling.LANCZOS)
    x = corner[0] + (style.size * 1.2 - glyph.width) / 2
    y = corner[1] + (style.line_height - glyph.height) / 2
    canvas.paste(glyph, (round(x), round(y)), glyph)
