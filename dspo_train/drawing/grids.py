"""The captioned A/B grid: the same prompts and seeds with and without the LoRA."""

from __future__ import annotations

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
    draw_centred,
    fitting_cell,
    paste_image,
    paste_pill,
    unit_for,
)
from .typography import clip, draw_lines, draw_text, text_width, wrap


@dataclass(frozen=True)
class GridCell:
    """An image of a grid with a small note under it, such as "seed 7"."""

    image: Image.Image
    note: str = ""


def ab_grid(
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Sequence[Sequence[Image.Image | GridCell]],
    *,
    title: str = "",
    subtitle: str = "",
    footer: str = "",
    cell_size: int | None = None,
    theme: Theme = LIGHT,
) -> Image.Image:
    """Images in rows by prompt and columns by variant, ready to post. RGB.

    Prompts are to the left of their row if there are three columns or more, and below it otherwise; a long one is
    clipped with an ellipsis. Columns whose name starts with "base" have a plain heading, the others a coloured one.
    Small images are enlarged to 256 pixels, large ones reduced to 512; cells shrink to keep the sheet within 4096
    pixels per side, down to 96 pixels per cell, below which the sheet grows instead.

    Args:
        rows: one prompt per row; no captions if all are empty.
        columns: one name per column.
        cells: `cells[row][column]`, images of any mode, size and aspect ratio.
        cell_size: the longer side of an image on the sheet, in pixels; by default chosen from the images.

    Raises:
        ConfigError: there are no rows or columns, a row has the wrong length, or something is not an image.
    """
    table = _table(rows, columns, cells)
    images = [cell.image for line in table for cell in line]

    def grid(cell: int) -> _Grid:
        page = Page(theme, unit_for(cell), title, subtitle, footer)
        return _Grid(page, common_box(images, cell), tuple(rows), tuple(columns), table)

    wanted = cell_size_for(cell_size, images, smallest=256 if len(columns) > 1 else 384)
    return grid(fitting_cell(wanted, lambda cell: grid(cell).size)).draw()


@dataclass(frozen=True)
class _Grid:
    """An A/B grid with a known cell size."""

    page: Page
    box: Box
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    table: tuple[tuple[GridCell, ...], ...]

    @property
    def size(self) -> Box:
        return self.page.size(self._body)

    def draw(self) -> Image.Image:
        sheet, (left, top) = self.page.canvas(self._body)
        for number, name in enumerate(self.columns):
            self._draw_header(sheet, (left + self._column_x(number), top), name)
        y = top + self._header_height
        for prompt, cells in zip(self.rows, self.table, strict=True):
            for number, cell in enumerate(cells):
                self._draw_cell(sheet, (left + self._column_x(number), y), cell)
            self._draw_prompt(sheet, (left, y), prompt)
            y += self._row_height(prompt) + self._row_gap
        return sheet

    @property
    def _body(self) -> Box:
        heights = [self._row_height(prompt) for prompt in self.rows]
        height = self._header_height + sum(heights) + self._row_gap * (len(heights) - 1)
        return self._column_x(len(self.columns)) - self._gap, height

    @property
    def _captioned(self) -> bool:
        return any(prompt.strip() for prompt in self.rows)

    @property
    def _prompts_left(self) -> bool:
        return self._captioned and len(self.columns) >= 3

    @property
    def _gap(self) -> int:
        return self.page.px(14)

    @property
    def _row_gap(self) -> int:
        return self._gap if self._prompts_left or not self._captioned else self.page.px(28)

    @property
    def _header_height(self) -> int:
        return self.page.px(36) + self.page.px(10)

    @property
    def _prompt_width(self) -> int:
        """Width of the column of prompts, or of the whole grid if they are below the images."""
        if self._prompts_left:
            style = self.page.style(16, self.page.theme.ink)
            widest = max(text_width(prompt[:200], style) for prompt in self.rows)
            return min(widest, max(self.page.px(170), min(round(1.1 * self.box[0]), self.page.px(300))))
        return self._column_x(len(self.columns)) - self._gap

    def _column_x(self, number: int) -> int:
        prompts = self._prompt_width + self.page.px(20) if self._prompts_left else 0
        return prompts + number * (self.box[0] + self._gap)

    @property
    def _note_height(self) -> int:
        noted = any(cell.note.strip() for cells in self.table for cell in cells)
        return self.page.px(4) + self.page.style(13, self.page.theme.muted).line_height if noted else 0

    def _prompt_lines(self, prompt: str) -> list[str]:
        style = self.page.style(16, self.page.theme.ink)
        room = max(2, self.box[1] // style.line_height) if self._prompts_left else 4
        return wrap(prompt, style, self._prompt_width, room)

    def _row_height(self, prompt: str) -> int:
        images = self.box[1] + self._note_height
        text = len(self._prompt_lines(prompt)) * self.page.style(16, self.page.theme.ink).line_height
        if self._prompts_left:
            return max(images, text)
        return images + (self.page.px(10) + text if text else 0)

    def _draw_header(self, sheet: Image.Image, corner: Box, name: str) -> None:
        theme, box = self.page.theme, (self.box[0], self.page.px(36))
        base = name.strip().casefold().startswith("base")
        fill, ink = (theme.mat, theme.ink) if base else (theme.accent, theme.on_accent)
        style = self.page.style(16, ink, bold=True)
        paste_pill(sheet, corner, box, fill, self.page.px(8))
        draw_centred(sheet, corner, box, clip(name, style, box[0] - self.page.px(16)), style)

    def _draw_cell(self, sheet: Image.Image, corner: Box, cell: GridCell) -> None:
        paste_image(sheet, corner, self.box, cell.image, self.page)
        style = self.page.style(13, self.page.theme.muted)
        note = clip(cell.note, style, self.box[0])
        y = corner[1] + self.box[1] + self.page.px(4)
        draw_text(sheet, (corner[0] + self.box[0] / 2, y), note, style, "center")

    def _draw_prompt(self, sheet: Image.Image, corner: Box, prompt: str) -> None:
        style, lines = self.page.style(16, self.page.theme.ink), self._prompt_lines(prompt)
        if self._prompts_left:
            drop = max(0, self.box[1] - len(lines) * style.line_height) // 2
        else:
            drop = self.box[1] + self._note_height + self.page.px(10)
        draw_lines(sheet, (corner[0], corner[1] + drop), lines, style)


def _table(
    rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[Image.Image | GridCell]]
) -> tuple[tuple[GridCell, ...], ...]:
    if not rows or not columns:
        raise ConfigError(f"a grid needs at least one row and one column, got {len(rows)} and {len(columns)}")
    if len(cells) != len(rows):
        raise ConfigError(f"the grid names {len(rows)} rows but has images for {len(cells)}")
    table: list[tuple[GridCell, ...]] = []
    for number, line in enumerate(cells):
        if len(line) != len(columns):
            raise ConfigError(f"row {number} holds {len(line)} images for {len(columns)} columns")
        table.append(tuple(_cell(item, f"row {number}, column {at}") for at, item in enumerate(line)))
    return tuple(table)


def _cell(item: Image.Image | GridCell, where: str) -> GridCell:
    cell = item if isinstance(item, GridCell) else GridCell(item)
    checked(cell.image, where)
    return cell
