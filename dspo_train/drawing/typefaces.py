"""Which font draws which character: Inter, which ships with the package, then a system font, then a box.

`fonts/` holds Inter 4.1 (SIL Open Font License), two static weights at optical size 16, reduced to Latin, Greek,
Cyrillic, punctuation, arrows and mathematical signs.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

_FONTS = Path(__file__).parent / "fonts"
REGULAR, BOLD = str(_FONTS / "Inter-Regular.ttf"), str(_FONTS / "Inter-SemiBold.ttf")

# Looked up by file name: Pillow knows where Windows, macOS and Linux keep their fonts.
SYSTEM_FONTS = (
    *("msyh.ttc", "YuGothM.ttc", "malgun.ttf", "msjh.ttc", "simsun.ttc", "msgothic.ttc"),
    *("Hiragino Sans GB.ttc", "ヒラギノ角ゴシック W3.ttc", "PingFang.ttc", "AppleSDGothicNeo.ttc", "Arial Unicode.ttf"),
    *("NotoSansCJK-Regular.ttc", "SourceHanSans-Regular.ttc", "wqy-microhei.ttc", "wqy-zenhei.ttc"),
    *("DroidSansFallbackFull.ttf", "ipag.ttf", "NanumGothic.ttf"),
    *("segoeui.ttf", "Nirmala.ttf", "Nirmala.ttc", "LeelawUI.ttf", "seguisym.ttf"),
    *("GeezaPro.ttc", "Kohinoor.ttc", "Thonburi.ttc", "Apple Symbols.ttf"),
    *("DejaVuSans.ttf", "NotoSansArabic-Regular.ttf", "NotoSansHebrew-Regular.ttf", "NotoSansThai-Regular.ttf"),
    *("NotoSansDevanagari-Regular.ttf", "NotoSansSymbols2-Regular.ttf", "FreeSans.ttf"),
)
EMOJI_FONTS = ("seguiemj.ttf", "Apple Color Emoji.ttc", "NotoColorEmoji.ttf")
_EMOJI_SIZES = (109, 160, 136, 96, 64)  # bitmap fonts open at their own size only; outlines at any
_PROBE = 32  # pixels; only compares glyphs
_JOINER = "\u200d"


@dataclass(frozen=True)
class Run:
    """Text that one font draws in one go.

    Attributes:
        font: file name or path of the font; None if no font has the character.
        emoji: a single emoji, in its own colours.
    """

    text: str
    font: str | None
    emoji: bool = False


def clean(text: str) -> str:
    """One line of composed characters: white space becomes single spaces, control characters are removed."""
    spaced = " ".join(unicodedata.normalize("NFC", text).split())
    # FreeType does not accept half a surrogate pair (Cs)
    kinds = ((char, unicodedata.category(char)) for char in spaced)
    return "".join("\ufffd" if kind == "Cs" else char for char, kind in kinds if kind != "Cc")


def clusters(text: str) -> list[str]:
    """Characters as a reader counts them: marks, joiners and skin tones stay with what they belong to.

    >>> clusters("ae\u0301")
    ['a', 'e\u0301']
    """
    found: list[str] = []
    for char in text:
        if found and _continues(found[-1], char):
            found[-1] += char
        else:
            found.append(char)
    return found


@lru_cache(maxsize=2048)
def runs(text: str, bold: bool = False) -> tuple[Run, ...]:
    """Split a cleaned line by the font that draws it; a system font has no bold."""
    own = BOLD if bold else REGULAR
    parts = clusters(text)
    foreign = tuple(part for part in parts if not is_emoji(part) and not _has(own, part))
    shared = _covering(foreign) if foreign else None  # so that fonts do not change in mid-word
    chosen = [_run(part, own, shared) for part in parts]
    for at in range(1, len(parts) - 1):
        if parts[at] == " " and chosen[at - 1].font == chosen[at + 1].font:
            chosen[at] = Run(" ", chosen[at + 1].font)  # keeps the words of a right-to-left script in order
    merged: list[Run] = []
    for (font, emoji), group in groupby(chosen, key=lambda run: (run.font, run.emoji)):
        if font is None or emoji:
            merged += group
        else:
            merged.append(Run("".join(run.text for run in group), font))
    return tuple(merged)


@lru_cache(maxsize=256)
def load(font: str, size: int) -> ImageFont.FreeTypeFont:
    """A font at a size in pixels.

    Raises:
        OSError: there is no such font, or it has no such size.
    """
    return ImageFont.truetype(font, size)


@lru_cache(maxsize=1)
def emoji_font() -> tuple[str, int] | None:
    """The system's emoji font and a size at which it opens."""
    found = ((name, size) for name in EMOJI_FONTS for size in _EMOJI_SIZES if _opens(name, size))
    return next(found, None)


def is_emoji(cluster: str) -> bool:
    return "\ufe0f" in cluster or 0x1F000 <= ord(cluster[0]) <= 0x1FAFF


def _run(cluster: str, own: str, shared: str | None) -> Run:
    if is_emoji(cluster) and (emoji := emoji_font()):
        return Run(cluster, emoji[0], emoji=True)
    text = cluster.replace("\ufe0f", "")
    font = next((font for font in (own, shared) if font and _has(font, text)), None)
    return Run(text, font or _covering((text,)))


@lru_cache(maxsize=4096)
def _covering(wanted: tuple[str, ...]) -> str | None:
    """The first system font that has everything wanted."""
    fonts = (name for name in SYSTEM_FONTS if _opens(name, _PROBE))
    return next((name for name in fonts if all(_has(name, part) for part in wanted)), None)


@lru_cache(maxsize=256)
def _opens(font: str, size: int) -> bool:
    try:
        load(font, size)
    except (OSError, ValueError):
        return False
    return True


def _has(font: str, cluster: str) -> bool:
    """Whether the font has a glyph for everything visible in the cluster."""
    return all(_has_glyph(font, char) for char in cluster if unicodedata.category(char) != "Cf")


@lru_cache(maxsize=8192)
def _has_glyph(font: str, char: str) -> bool:
    """Does a character look different from a noncharacter, which is drawn as the font's "no such glyph" sign?"""
    return char == " " or _pixels(font, char) != _pixels(font, "\uffff")


@lru_cache(maxsize=64)
def _pixels(font: str, char: str) -> bytes:
    image = Image.new("L", (3 * _PROBE, 2 * _PROBE))
    ImageDraw.Draw(image).text((_PROBE, _PROBE // 2), char, fill=255, font=load(font, _PROBE))
    return image.tobytes()


def _continues(cluster: str, char: str) -> bool:
    if char == _JOINER or cluster[-1] == _JOINER or "\ufe00" <= char <= "\ufe0f":
        return True
    if _is_flag_letter(char):
        return len(cluster) == 1 and _is_flag_letter(cluster)
    return unicodedata.category(char) in ("Mn", "Mc", "Me") or 0x1F3FB <= ord(char) <= 0x1F3FF


def _is_flag_letter(char: str) -> bool:
    return 0x1F1E6 <= ord(char) <= 0x1F1FF
