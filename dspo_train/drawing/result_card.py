"""The result of a blind test as an image to post: the win rate, its interval, and what was counted."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageDraw

from .themes import LIGHT, Colour, Theme
from .tiles import Page, paste_pill
from .typography import clip, draw_lines, draw_text, wrap

BODY = (1120, 372)  # with margins, heading and footer about 1200 x 630, the usual size of link previews
_BAR = 24  # height of the interval's bar


@dataclass(frozen=True, slots=True)
class ResultCard:
    """What the card shows.

    Attributes:
        rate, low, high: the share that preferred the second name, and its interval; None without votes.
        counts: wins, ties and losses of the second name.
        names: of the two compared models.
        text: one sentence.
    """

    title: str
    rate: float | None
    low: float | None
    high: float | None
    counts: tuple[int, int, int]
    names: tuple[str, str]
    text: str


def draw_result_card(card: ResultCard, theme: Theme = LIGHT) -> Image.Image:
    """Draw the card. RGB, of one size for any numbers, except for the lines of a long title."""
    page = Page(theme, 1.25, card.title, "Blind test: which image is better, not knowing which model made it", _FOOTER)
    sheet, (left, top) = page.canvas(BODY)
    draw_rate(sheet, (left, top), card, page, BODY[0])
    draw_scale(sheet, (left, top + page.px(148)), card, page, BODY[0])
    style = page.style(17, theme.ink)
    draw_lines(sheet, (left, top + page.px(232)), wrap(card.text, style, BODY[0], 2), style)
    return sheet


_FOOTER = "Ties count one half. The interval treats the prompt, not the image, as the independent unit. DSPO Studio"


def draw_rate(sheet: Image.Image, corner: tuple[int, int], card: ResultCard, page: Page, width: int) -> None:
    """The number, large, and beside it what was counted; as wide as given, in pixels."""
    theme, (left, top) = page.theme, corner
    style = page.style(84, _colour(card, theme), bold=True)
    text = "–" if card.rate is None else f"{card.rate:.0%}"  # noqa: RUF001
    draw_text(sheet, (left, top), text, style)
    words = page.style(20, theme.ink, bold=True)
    lines = page.style(17, theme.muted)
    x, width = left + page.px(250), width - page.px(250)
    draw_text(sheet, (x, top + page.px(18)), clip(f"preferred {card.names[1]}", words, width), words)
    draw_text(sheet, (x, top + page.px(48)), clip(f"over {card.names[0]}", lines, width), lines)
    wins, ties, losses = card.counts
    draw_text(sheet, (x, top + page.px(76)), f"{wins:,} better · {ties:,} the same · {losses:,} worse", lines)


def draw_scale(sheet: Image.Image, corner: tuple[int, int], card: ResultCard, page: Page, width: int) -> None:
    """A bar from 0 to 100% with a mark at one half, the interval on it, and the rate as a line."""
    theme, (left, top) = page.theme, corner
    height = page.px(_BAR)
    paste_pill(sheet, (left, top), (width, height), theme.mat, height // 2)
    draw = ImageDraw.Draw(sheet)
    if card.rate is not None and card.low is not None and card.high is not None:
        start, end = (left + round(share * width) for share in (card.low, card.high))
        paste_pill(sheet, (start, top), (max(height, end - start), height), _colour(card, theme), height // 2)
        x = min(left + width - 3, left + round(card.rate * width))
        draw.line((x, top - page.px(5), x, top + height + page.px(4)), fill=theme.ink, width=page.px(3))
    middle = left + width // 2
    draw.line((middle, top - page.px(10), middle, top + height + page.px(10)), fill=theme.muted, width=page.px(1))
    style = page.style(14, theme.muted)
    y = top + height + page.px(12)
    ends = ((left, "100% base", "left"), (middle, "no difference", "center"), (left + width, "100% LoRA", "right"))
    for x, text, anchor in ends:
        draw_text(sheet, (x, y), text, style, anchor)


def _colour(card: ResultCard, theme: Theme) -> Colour:
    """Good or bad once the interval excludes one half, neither before."""
    if card.low is not None and card.low > 0.5:
        return theme.good
    if card.high is not None and card.high < 0.5:
        return theme.bad
    return theme.accent
