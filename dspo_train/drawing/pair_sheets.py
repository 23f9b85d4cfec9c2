"""A contact sheet of a dataset's pairs."""

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
    paste_picture,
    paste_pill,
    paste_ring,
    unit_for,
)
from .typography import draw_lines, wrap

Pair = tuple[Image.Image, Image.Image, str]


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
        ConfigError: no pairs, fewer than one column, something that is not a picture.
    """
    if not pairs:
        raise ConfigError("a sheet of pairs needs at least one pair; the list is empty")
    if columns is not None and columns < 1:
        raise ConfigError(f"columns must be at least 1, got {columns}")
    images = [
        checked(image, f"pair {number}, {role}")
        for number, pair in enumerate(pairs)
        for role, image in zip(("winner", "loser"), pair[:2], strict=True)
    ]

    def sheet(cell: int, across: int) -> _PairSheet:
        page = Page(theme, unit_for(cell), title, subtitle, footer)
        return _PairSheet(page, common_box(images, cell), tuple(pairs), min(across, len(pairs)))

    across = columns or _screen_columns(len(pairs), common_box(images, 256))
    wanted = cell_size_for(cell_size, images, smallest=256)
    return sheet(fitting_cell(wanted, lambda cell: sheet(cell, across).size), across).draw()


@dataclass(frozen=True)
class _PairSheet:
    """A sheet of pairs whose cell size and number of columns are settled."""

    page: Page
    box: Box
    pairs: tuple[Pair, ...]
    across: int

    @property
    def size(self) -> Box:
        return self.page.size(self._body)

    def draw(self) -> Image.Image:
        sheet, (left, y) = self.page.canvas(self._body)
        for start in range(0, len(self.pairs), self.across):
            line = self.pairs[start : start + self.across]
            card = (self._card_width, self._card_height(line))
            for number, pair in enumerate(line):
                self._draw_card(sheet, (left + number * (card[0] + self._gap), y), card, pair)
            y += card[1] + self._gap
        return sheet

    @property
    def _body(self) -> Box:
        lines = [self.pairs[start : start + self.across] for start in range(0, len(self.pairs), self.across)]
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
        return 2 * self.box[0] + self.page.px(14) + 2 * self._padding

    def _prompt_lines(self, prompt: str) -> list[str]:
        style = self.page.style(15, self.page.theme.ink)
        return wrap(prompt, style, self._card_width - 2 * self._padding, 3)

    def _card_height(self, line: Sequence[Pair]) -> int:
        most = max(len(self._prompt_lines(prompt)) for _, _, prompt in line)
        text = most * self.page.style(15, self.page.theme.ink).line_height
        return self.box[1] + 2 * self._padding + (self.page.px(12) + text if most else 0)

    def _draw_card(self, sheet: Image.Image, corner: Box, card: Box, pair: Pair) -> None:
        page, theme = self.page, self.page.theme
        winner, loser, prompt = pair
        paste_pill(sheet, corner, card, theme.rule, page.px(14))
        inside = (corner[0] + 1, corner[1] + 1)
        paste_pill(sheet, inside, (card[0] - 2, card[1] - 2), theme.card, page.px(14) - 1)
        left = (corner[0] + self._padding, corner[1] + self._padding)
        right = (left[0] + self.box[0] + page.px(14), left[1])
        paste_picture(sheet, left, self.box, winner, page)
        paste_ring(sheet, left, self.box, theme.good, page)
        paste_picture(sheet, right, self.box, loser, page)
        inset, disc = page.px(8), page.px(24)
        paste_badge(sheet, (left[0] + inset, left[1] + inset), disc, "check", theme.good, theme.card)
        paste_badge(sheet, (right[0] + inset, right[1] + inset), disc, "cross", theme.mat, theme.faint)
        below = (left[0], left[1] + self.box[1] + page.px(12))
        draw_lines(sheet, below, self._prompt_lines(prompt), page.style(15, theme.ink))


def _screen_columns(pairs: int, box: Box) -> int:
    """How many pairs across bring a sheet nearest to 4:3, with two lines of prompt under each."""
    width, height = 2 * box[0] + 66, box[1] + 104
    return min(
        range(1, min(pairs, 12) + 1),
        key=lambda across: abs(math.log(across * width / (math.ceil(pairs / across) * height) / (4 / 3))),
    )
