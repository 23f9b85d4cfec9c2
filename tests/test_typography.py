"""Text stays in its box, in any script, on a machine with no fonts at all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PIL import Image, ImageChops

from dspo_train.drawing import typefaces
from dspo_train.drawing.typefaces import clean, clusters, runs
from dspo_train.drawing.typography import ELLIPSIS, TextStyle, clip, draw_text, text_width, wrap

BLACK, WHITE = (0, 0, 0), (255, 255, 255)
STYLE = TextStyle(20, BLACK)
LONG = "masterpiece, best quality, (highly detailed:1.2), a lighthouse keeper on the cliff at dusk, " * 5
SCRIPTS = {
    "latin": "a small red circle, Agjpqy |()",
    "umlauts": "ÄÖÜ äöü ß Übergröße in München",
    "accents": "naïve café ñandú Çedille Ångström Dvořák ő",
    "cyrillic": "кот на подоконнике",
    "japanese": "夕暮れの海辺に立つ灯台",
    "arabic": "قطة جميلة تجلس على الكرسي",
    "emoji": "\U0001f3a8 art \U0001f469\u200d\U0001f3a8 \u2764\ufe0f \U0001f1e9\U0001f1ea",
    "private": "a\U000f0000b",
    "half a pair": "x\ud800y",
    "control": "a\x00b\x1b[0m\tc\nd",
    "empty": "",
}


@pytest.fixture
def no_system_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Only what Pillow brings along."""
    monkeypatch.setattr(typefaces, "TEXT_FONTS", ())
    monkeypatch.setattr(typefaces, "EMOJI_FONTS", ())
    typefaces.runs.cache_clear()
    yield
    typefaces.runs.cache_clear()


def drawn(text: str, style: TextStyle, at: tuple[int, int] = (100, 100)) -> tuple[int, int, int, int] | None:
    """Where ink is, relative to the top left corner of the text's box."""
    canvas = Image.new("RGB", (text_width(text, style) + 200, style.line_height + 200), WHITE)
    draw_text(canvas, at, text, style)
    box = ImageChops.difference(canvas, Image.new("RGB", canvas.size, WHITE)).getbbox()
    return box and (box[0] - at[0], box[1] - at[1], box[2] - at[0], box[3] - at[1])


@pytest.mark.parametrize("bold", [False, True])
@pytest.mark.parametrize("size", [12, 20, 40])
@pytest.mark.parametrize("text", SCRIPTS.values(), ids=SCRIPTS)
def test_ink_stays_in_the_measured_box(text: str, size: int, bold: bool):
    style = TextStyle(size, BLACK, bold)
    box = drawn(text, style)
    slack = 2 + size // 10  # a stroke may reach a hair beyond its advance
    if not clean(text):
        assert box is None
        return
    assert box is not None
    assert box[0] >= -slack and box[2] <= text_width(text, style) + slack
    assert box[1] >= 0 and box[3] <= style.line_height


@pytest.mark.parametrize("text", SCRIPTS.values(), ids=SCRIPTS)
def test_every_script_is_drawn_without_any_system_font(text: str, no_system_fonts: None):
    assert (drawn(text, STYLE) is None) == (clean(text) == "")


def test_umlauts_carry_their_dots_without_any_system_font(no_system_fonts: None):
    """The dots reach higher than the letter, and nothing else changes: the advance is that of the letter."""
    for plain, dotted in ("aä", "oö", "uü", "AÄ", "OÖ", "UÜ"):
        letter, umlaut = drawn(plain, STYLE), drawn(dotted, STYLE)
        assert letter and umlaut
        assert umlaut[1] < letter[1] - 1
        assert umlaut[3] == letter[3]
        assert text_width(plain, STYLE) == text_width(dotted, STYLE)


def test_letters_that_cannot_be_composed_are_spelled_out_without_any_system_font(no_system_fonts: None):
    assert "".join(run.text for run in runs("Straße – 2 × 3")) == "Strasse - 2 x 3"  # noqa: RUF001


def test_what_no_font_has_becomes_a_box():
    assert [run.kind for run in runs("a\U000f0000b")] == ["text", "missing", "text"]


def test_bold_is_heavier_and_no_wider():
    def ink(style: TextStyle) -> int:
        picture = Image.new("RGB", (300, 60), WHITE)
        draw_text(picture, (5, 5), "Weight", style)
        return sum(255 - value for value in picture.convert("L").tobytes())

    regular, bold = TextStyle(30, BLACK), TextStyle(30, BLACK, bold=True)
    assert ink(bold) > 1.1 * ink(regular)
    assert text_width("Weight", bold) == text_width("Weight", regular)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\u0301b", ["\u00e1", "b"]),  # composed first
        ("\U0001f469\u200d\U0001f3a8x", ["\U0001f469\u200d\U0001f3a8", "x"]),
        ("\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", ["\U0001f1e9\U0001f1ea", "\U0001f1eb\U0001f1f7"]),
        ("\U0001f44d\U0001f3fd!", ["\U0001f44d\U0001f3fd", "!"]),
    ],
)
def test_clusters(text: str, expected: list[str]):
    assert clusters(clean(text)) == expected


@pytest.mark.parametrize("text", [*SCRIPTS.values(), LONG, "x" * 500, "a,b_c-d/" * 60, "猫" * 200])
@pytest.mark.parametrize("width", [60, 150, 400])
def test_wrapped_lines_fit(text: str, width: int):
    lines = wrap(text, STYLE, width, 4)
    assert len(lines) <= 4
    assert all(text_width(line, STYLE) <= width for line in lines)


def test_wrapping_loses_nothing_until_it_clips():
    text = clean(LONG)
    whole = wrap(text, STYLE, 300, 1000)
    assert " ".join(whole) == text
    cut = wrap(text, STYLE, 300, 3)
    assert cut[:2] == whole[:2]
    assert cut[2].endswith(ELLIPSIS) and not cut[2][:-1].endswith((" ", ","))


def test_wrapping_breaks_where_a_reader_would():
    assert wrap("best_quality,night", STYLE, text_width("best_quality,", STYLE), 3) == ["best_quality,", "night"]
    width = text_width("夕暮れの", STYLE)
    lines = wrap("夕暮れの海、灯台", STYLE, width, 5)
    assert "".join(lines) == "夕暮れの海、灯台"
    assert not any(line.startswith("、") for line in lines)


def test_a_width_that_holds_nothing_still_ends():
    assert "".join(wrap("abc de", STYLE, 1, 10)) == "abcde"
    assert clip("abc", STYLE, 1) == ELLIPSIS


def test_clip_keeps_what_fits_and_as_much_as_fits():
    assert clip("short", STYLE, 500) == "short"
    clipped = clip("abcdefghijklmnop", STYLE, 100)
    kept = clipped.removesuffix(ELLIPSIS)
    assert text_width(clipped, STYLE) <= 100
    assert text_width("abcdefghijklmnop"[: len(kept) + 1] + ELLIPSIS, STYLE) > 100


def test_anchors():
    width = text_width("anchor", STYLE)
    left, right, centre = (Image.new("RGB", (400, 60), WHITE) for _ in range(3))
    draw_text(left, (100, 10), "anchor", STYLE)
    draw_text(right, (100 + width, 10), "anchor", STYLE, "right")
    draw_text(centre, (100 + width / 2, 10), "anchor", STYLE, "center")
    assert left.tobytes() == right.tobytes() == centre.tobytes()
