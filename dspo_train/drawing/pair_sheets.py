"""Contact sheets of a dataset: its pairs, or its liked and disliked images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from ..exceptions import ConfigError
from .themes import LIGHT, Theme
from .tiles import (
    Box,
    Page,
    cell_size_for,
    checked,
    common_box,
    fitting_cell,
    paste_badge,
    paste_image,
    paste_pill,
    paste_ring,
    unit_for,
)
from .typography import draw_lines, wrap

Pair = tuple[Image.Image, Image.Image, str]
LabelledImage = tuple[Image.Image, bool, str]


@dataclass(frozen=True)
class _Card:
    """Images side by side, whether each has the green mark, and their prompt."""

    images: tuple[Image.Image, ...]
    marked: tuple[bool, ...]
    prompt: str


def pair_sheet(
    pairs: Sequence[Pair],
    *,
    title: str = "",
    subtitle: str = "",
    footer: str = "",
    columns: int | None = None,
    cell_size: int | None = None,
    theme: Theme = LIGHT,
) -> Image.Image:
    """A contact sheet of (winner, loser, prompt): the winner left with a green mark, the loser right. RGB.

    Args:
        columns: pairs side by side; by default as many as give the sheet the shape of a screen.
        cell_size: as in `ab_grid`.

    Raises:
        ConfigError: there are no pairs, fewer than one column, or something is not an image.
    """
    if not pairs:
        raise ConfigError("a sheet of pairs needs at least one pair; the list is empty")
    for number, pair in enumerate(pairs):
        for role, image in zip(("winner", "loser"), pair[:2], strict=True):
            checked(image, f"pair {number}, {role}")
    cards = [_Card((winner, loser), (True, False), prompt) for winner, loser, prompt in pairs]
    return _sheet(cards, (theme, title, subtitle, footer), columns, cell_size)


def unpaired_sheet(
    images: Sequence[LabelledImage],
    *,
    title: str = "",
    subtitle: str = "",
    footer: str = "",
    columns: int | None = None,
    cell_size: int | None = None,
    theme: Theme = LIGHT,
) -> Image.Image:
    """A contact sheet of (image, liked, prompt): the liked ones with a green mark, the others with a cross. RGB.

    Args:
        columns, cell_size: as in `pair_sheet`.

    Raises:
        ConfigError: there are no images, fewer than one column, or something is not an image.
    """
    if not images:
        raise ConfigError("a sheet of images needs at least one image; the list is empty")
    cards = [
        _Card((checked(image, f"image {number}"),), (liked,), prompt)
        for number, (image, liked, prompt) in enumerate(images)
    ]
    return _sheet(cards, (theme, title, subtitle, footer), columns, cell_size)


def _sheet(
    cards: Sequence[_Card], page: tuple[Theme, str, str, str], columns: int | None, cell_size: int | None
) -> Image.Image:
    theme, *texts = page
    if columns is not None and columns < 1:
        raise ConfigError(f"columns must be at least 1, got {columns}")
    images = [image for card in cards for image in card.images]

    def sheet(cell: int, across: int) -> _CardSheet:
        page = Page(theme, unit_for(cell), *texts)
        return _CardSheet(page, common_box(images, cell), tuple(cards), min(across, len(cards)))

    across = columns or _screen_columns(len(cards), len(cards[0].images), common_box(images, 256))
    wanted = cell_size_for(cell_size, images, smallest=256)
    return sheet(fitting_cell(wanted, lambda cell: sheet(cell, across).size), across).draw()


@dataclass(frozen=True)
class _CardSheet:
    """A sheet of cards with a known cell size and number of columns."""

    page: Page
    box: Box
    cards: tuple[_Card, ...]
    across: int

    @property
    def size(self) -> Box:
        return self.page.size(self._body)

    def draw(self) -> Image.Image:
        sheet, (left, y) = self.page.canvas(self._body)
        for start in range(0, len(self.cards), self.across):
            line = self.cards[start : start + self.across]
            size = (self._card_width, self._card_height(line))
            for number, card in enumerate(line):
                self._draw_card(sheet, (left + number * (size[0] + self._gap), y), size, card)
            y += size[1] + self._gap
        return sheet

    @property
    def _body(self) -> Box:
        lines = [self.cards[start : start + self.across] for start in range(0, len(self.cards), self.across)]
        height = sum(self._card_height(line) + self._gap for line in lines) - self._gap
        return self.across * (self._card_width + self._gap) - self._gap, height

    @property
    def _gap(self) -> int:
        return self.page.px(20)

    @property
    def _padding(self) -> int:
        return self.page.px(16)

    @property
    def _card_width(self) -> int:
        count = len(self.cards[0].images)
        return count * self.box[0] + (count - 1) * self.page.px(14) + 2 * self._padding

    def _prompt_lines(self, prompt: str) -> list[str]:
        style = self.page.style(15, self.page.theme.ink)
        return wrap(prompt, style, self._card_width - 2 * self._padding, 3)

    def _card_height(self, line: Sequence[_Card]) -> int:
        most = max(len(self._prompt_lines(card.prompt)) for card in line)
        text = most * self.page.style(15, self.page.theme.ink).line_height
        return self.box[1] + 2 * self._padding + (self.page.px(12) + text if most else 0)

    def _draw_card(self, sheet: Image.Image, corner: Box, size: Box, card: _Card) -> None:
        page, theme = self.page, self.page.theme
        paste_pill(sheet, corner, size, theme.rule, page.px(14))
        inside = (corner[0] + 1, corner[1] + 1)
        paste_pill(sheet, inside, (size[0] - 2, size[1] - 2), theme.card, page.px(14) - 1)
        left, top = (corner[0] + self._padding, corner[1] + self._padding)
        for number, (image, marked) in enumerate(zip(card.images, card.marked, strict=True)):
            self._draw_image(sheet, (left + number * (self.box[0] + page.px(14)), top), image, marked)
        below = (left, top + self.box[1] + page.px(12))
        draw_lines(sheet, below, self._prompt_lines(card.prompt), page.style(15, theme.ink))

    def _draw_image(self, sheet: Image.Image, corner: Box, image: Image.Image, marked: bool) -> None:
        page, theme = self.page, self.page.theme
        paste_image(sheet, corner, self.box, image, page)
        if marked:
            paste_ring(sheet, corner, self.box, theme.good, page)
        sign = ("check", theme.good, theme.card) if marked else ("cross", theme.mat, theme.faint)
        paste_badge(sheet, (corner[0] + page.px(8), corner[1] + page.px(8)), page.px(24), *sign)


def _screen_columns(cards: int, images: int, box: Box) -> int:
    """The number of cards across that brings a sheet nearest to 4:3, with two lines of prompt under each."""
    width, height = images * box[0] + (images - 1) * 14 + 52, box[1] + 104
    return min(
        range(1, min(cards, 12) + 1),
        key=lambda across: abs(math.log(across * width / (math.ceil(cards / across) * height) / (4 / 3))),
    )
