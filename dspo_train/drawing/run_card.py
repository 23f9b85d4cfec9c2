"""A LoRA as an image to post: what it does to three prompts, how a blind test went, and how it was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from .result_card import ResultCard, draw_rate, draw_scale
from .themes import LIGHT, Theme
from .tiles import Box, Page, common_box, draw_centred, paste_image, paste_pill
from .typography import clip, draw_lines, draw_text, wrap

WIDTH = 1120  # pixels of the body; with margins about 1200, the usual width of link previews
_COLUMNS = 3  # of pictures, and of facts
_LARGEST = 520  # pixels of a picture's side
_RATE_HEIGHT, _SCALE_HEIGHT = 132, 72  # in the page's units
_FOOTER = "Same prompts, same seeds, same settings on both rows. DSPO Studio"


@dataclass(frozen=True, slots=True)
class RunCard:
    """What the card shows.

    Attributes:
        title: the LoRA's name.
        subtitle: one line on what it is.
        examples: (prompt, image without the LoRA, image with it), at most three.
        result: of a blind test; None if there was none.
        facts: (what, value), in their order.
    """

    title: str
    subtitle: str
    examples: Sequence[tuple[str, Image.Image, Image.Image]]
    result: ResultCard | None
    facts: Sequence[tuple[str, str]]


def draw_run_card(card: RunCard, theme: Theme = LIGHT) -> Image.Image:
    """Draw the card. RGB."""
    page = Page(theme, 1.25, card.title, card.subtitle, _FOOTER)
    blocks = [_Pictures(card, page), _Result(card, page), _Facts(card, page)]
    shown = [block for block in blocks if block.height]
    gap = page.px(30)
    height = sum(block.height for block in shown) + gap * max(0, len(shown) - 1)
    sheet, (left, top) = page.canvas((WIDTH, max(1, height)))
    for number, block in enumerate(shown):
        if number:
            y = top - gap // 2
            ImageDraw.Draw(sheet).line((left, y, left + WIDTH - 1, y), fill=theme.rule)
        block.draw(sheet, (left, top))
        top += block.height + gap
    return sheet


class _Pictures:
    """Two rows, without the LoRA and with it, a column for each prompt, which stands below it."""

    def __init__(self, card: RunCard, page: Page) -> None:
        self.examples, self.page = card.examples[:_COLUMNS], page
        self.label, self.gap = page.px(58), page.px(12)
        columns = len(self.examples) or 1
        room = (WIDTH - self.label - columns * self.gap) // columns
        images = [image for _, *both in self.examples for image in both]
        cell = min(room, _LARGEST)
        self.box: Box = common_box(images, cell) if images else (0, 0)
        self.style = page.style(14, page.theme.muted)
        self.texts = [wrap(prompt, self.style, self.box[0], 2) for prompt, *_ in self.examples]

    @property
    def height(self) -> int:
        lines = max(map(len, self.texts), default=0)
        text = self.page.px(10) + lines * self.style.line_height if lines else 0
        return 2 * self.box[1] + self.gap + text if self.examples else 0

    def draw(self, sheet: Image.Image, corner: Box) -> None:
        left, top = corner
        for row, name in enumerate(("base", "LoRA")):
            self._draw_label(sheet, (left, top + row * (self.box[1] + self.gap)), name)
        for n, (_, *both) in enumerate(self.examples):
            x = left + self.label + self.gap + n * (self.box[0] + self.gap)
            for row, image in enumerate(both):
                paste_image(sheet, (x, top + row * (self.box[1] + self.gap)), self.box, image, self.page)
            y = top + 2 * self.box[1] + self.gap + self.page.px(10)
            draw_lines(sheet, (x, y), self.texts[n], self.style)

    def _draw_label(self, sheet: Image.Image, corner: Box, name: str) -> None:
        theme, size = self.page.theme, (self.label, self.page.px(30))
        fill, ink = (theme.mat, theme.ink) if name == "base" else (theme.accent, theme.on_accent)
        place = (corner[0], corner[1] + (self.box[1] - size[1]) // 2)
        paste_pill(sheet, place, size, fill, self.page.px(8))
        draw_centred(sheet, place, size, name, self.page.style(14, ink, bold=True))


class _Result:
    """The win rate and its interval, or that there is none yet."""

    def __init__(self, card: RunCard, page: Page) -> None:
        self.result, self.page = card.result, page
        self.style = page.style(17, page.theme.muted)
        text = "Not tested blind yet." if card.result is None else card.result.text
        self.lines = wrap(text, self.style, WIDTH, 3)

    @property
    def height(self) -> int:
        text = len(self.lines) * self.style.line_height
        return text if self.result is None else self.page.px(_RATE_HEIGHT) + self.page.px(_SCALE_HEIGHT) + text

    def draw(self, sheet: Image.Image, corner: Box) -> None:
        left, top = corner
        if self.result is not None:
            draw_rate(sheet, corner, self.result, self.page, WIDTH)
            draw_scale(sheet, (left, top + self.page.px(_RATE_HEIGHT)), self.result, self.page, WIDTH)
            top += self.page.px(_RATE_HEIGHT) + self.page.px(_SCALE_HEIGHT)
        draw_lines(sheet, (left, top), self.lines, self.style)


class _Facts:
    """Names and values in columns."""

    def __init__(self, card: RunCard, page: Page) -> None:
        self.facts, self.page = card.facts, page
        self.name, self.value = page.style(13, page.theme.faint), page.style(16, page.theme.ink)
        self.row = self.name.line_height + self.value.line_height + page.px(10)

    @property
    def height(self) -> int:
        rows = -(-len(self.facts) // _COLUMNS)
        return rows * self.row - self.page.px(10) if rows else 0

    def draw(self, sheet: Image.Image, corner: Box) -> None:
        width = WIDTH // _COLUMNS
        for n, (name, value) in enumerate(self.facts):
            x, y = corner[0] + n % _COLUMNS * width, corner[1] + n // _COLUMNS * self.row
            draw_text(sheet, (x, y), name, self.name)
            text = clip(value, self.value, width - self.page.px(20))
            draw_text(sheet, (x, y + self.name.line_height), text, self.value)
