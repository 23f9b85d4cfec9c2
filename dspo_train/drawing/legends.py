"""Legends of charts: dashes with names, flowing over as many lines as they need."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from .themes import Colour
from .tiles import Page
from .typography import TextStyle, clip, draw_text, text_width

LegendEntry = tuple[str, Colour]
Legend = list[list[tuple[int, str, Colour]]]  # lines of entries: where each begins, its text, its colour


def legend_style(page: Page) -> TextStyle:
    return page.style(15, page.theme.ink)


def flow(page: Page, entries: Sequence[LegendEntry], width: int) -> Legend:
    """Arrange a legend in lines no wider than `width`."""
    style, dash = legend_style(page), page.px(22)
    lines: Legend = []
    x = width
    for name, colour in entries:
        text = clip(name, style, width - dash)
        if x + dash + text_width(text, style) > width:
            lines.append([])
            x = 0
        lines[-1].append((x, text, colour))
        x += dash + text_width(text, style) + page.px(20)
    return lines


def draw_legend(sheet: Image.Image, page: Page, corner: tuple[int, int], lines: Legend) -> int:
    """Draw a legend from its top left corner. -> y of its end"""
    style, top = legend_style(page), corner[1]
    for line in lines:
        middle = top + round(style.line_height / 2)
        for offset, text, colour in line:
            x = corner[0] + offset
            ImageDraw.Draw(sheet).line((x, middle, x + page.px(14), middle), fill=colour, width=page.px(3))
            draw_text(sheet, (x + page.px(22), top), text, style)
        top += style.line_height
    return top
