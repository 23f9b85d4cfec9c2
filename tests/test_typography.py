"""Text stays in its box, in any script, on a machine with no fonts at all."""

from __future__ import annotations

import itertools
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
    "greek": "η γάτα στο παράθυρο",
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
    """Only what the package brings along."""
    caches = (typefaces.runs, typefaces.emoji_font, typefaces._covering)
    monkeypatch.setattr(typefaces, "SYSTEM_FONTS", ())
    monkeypatch.setattr(typefaces, "EMOJI_FONTS", ())
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


def drawn(text: str, style: TextStyle, at: tuple[int, int] = (100, 100)) -> tuple[int, int, int, int] | None:
    """Where ink is, relative to the top left corner of the text's box."""
    canvas = Image.new("RGB", (text_width(text, style) + 200, style.line_height + 200), WHITE)
    draw_text(canvas, at, text, style)
    box = ImageChops.difference(canvas, Image.new("RGB", canvas.size, WHITE)).getbbox()
    return box and (box[0] - at[0], box[1] - at[1], box[2] - at[0], box[3] - at[1])


@pytest.mark.parametrize("bold", [False, True])
def test_ink_stays_in_the_measured_box(bold: bool):
    for text, size in itertools.product(SCRIPTS.values(), (12, 20, 40)):
        style = TextStyle(size, BLACK, bold)
        box = drawn(text, style)
        slack = 2 + size // 10  # a stroke may reach a hair beyond its advance
        if not clean(text):
            assert box is None
            continue
        assert box is not None, (text, size)
        assert box[0] >= -slack and box[2] <= text_width(text, style) + slack, (text, size)
        assert box[1] >= 0 and box[3] <= style.line_height, (text, size)


def test_every_script_is_drawn_without_any_system_font(no_system_fonts: None):
    for text in SCRIPTS.values():
        assert (drawn(text, STYLE) is None) == (clean(text) == ""), text


@pytest.mark.parametrize("bold", [False, True])
def test_the_bundled_font_has_the_alphabets_of_europe(no_system_fonts: None, bold: bool):
    """And the signs that captions and labels are written with."""
    for text in (*(SCRIPTS[name] for name in ("latin", "umlauts", "accents", "cyrillic", "greek")), "– × · … → ≤ − €"):  # noqa: RUF001
        assert [run.font for run in runs(text, bold)] == [typefaces.BOLD if bold else typefaces.REGULAR], text


def test_what_no_font_has_becomes_a_box_for_each_character(no_system_fonts: None):
    assert [(run.text, run.font is None) for run in runs("a\U000f0000夕b")] == [
        ("a", False), ("\U000f0000", True), ("夕", True), ("b", False),
    ]  # fmt: skip
    assert drawn("夕", STYLE) is not None


def test_other_scripts_take_one_system_font_with_the_spaces_between_their_words(
    no_system_fonts: None, monkeypatch: pytest.MonkeyPatch
):
    """A font with half of the sentence comes first, one with all of it second; Latin stays in the bundled font."""
    held = {"half": set("夕の"), "whole": set("夕暮の 海"), typefaces.REGULAR: set("abc ")}
    monkeypatch.setattr(typefaces, "SYSTEM_FONTS", ("half", "whole"))
    monkeypatch.setattr(typefaces, "_opens", lambda font, size: True)
    monkeypatch.setattr(typefaces, "_has", lambda font, part: set(part) <= held[font])
    assert [(run.text, run.font) for run in runs("ab 夕暮の 海 c")] == [
        ("ab ", typefaces.REGULAR), ("夕暮の 海", "whole"), (" c", typefaces.REGULAR),
    ]  # fmt: skip


def test_bold_is_heavier():
    def ink(style: TextStyle) -> int:
        image = Image.new("RGB", (300, 60), WHITE)
        draw_text(image, (5, 5), "Weight", style)
        return sum(255 - value for value in image.convert("L").tobytes())

    assert ink(TextStyle(30, BLACK, bold=True)) > 1.2 * ink(TextStyle(30, BLACK))


def test_clusters():
    for text, expected in (
        ("a\u0301b", ["\u00e1", "b"]),  # composed first
        ("\U0001f469\u200d\U0001f3a8x", ["\U0001f469\u200d\U0001f3a8", "x"]),
        ("\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", ["\U0001f1e9\U0001f1ea", "\U0001f1eb\U0001f1f7"]),
        ("\U0001f44d\U0001f3fd!", ["\U0001f44d\U0001f3fd", "!"]),
    ):
        assert clusters(clean(text)) == expected


def test_wrapped_lines_fit():
    texts = (*SCRIPTS.values(), LONG, "x" * 500, "a,b_c-d/" * 60, "猫" * 200)
    for text, width in itertools.product(texts, (60, 150, 400)):
        lines = wrap(text, STYLE, width, 4)
        assert len(lines) <= 4, text
        assert all(text_width(line, STYLE) <= width for line in lines), text


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
