"""Which font draws which character: Pillow's own sans first, then whatever the system has, then a box.

Pillow carries a small cut of Aileron (ASCII and a few signs), so that a picture looks alike on every machine.
Accented Latin letters are composed from its glyphs; a word in another script is set whole in one system font,
so that fonts do not change in mid-word.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal

from PIL import Image, ImageDraw, ImageFont

RunKind = Literal["text", "accented", "emoji", "missing"]

# Looked up by file name: Pillow knows where Windows, macOS and Linux keep their fonts.
TEXT_FONTS = (
    *("segoeui.ttf", "arial.ttf", "tahoma.ttf"),
    *("Helvetica.ttc", "Arial.ttf", "Arial Unicode.ttf"),
    *("NotoSans-Regular.ttf", "DejaVuSans.ttf", "LiberationSans-Regular.ttf", "FreeSans.ttf"),
    *("YuGothM.ttc", "meiryo.ttc", "msgothic.ttc", "msyh.ttc", "simsun.ttc", "msjh.ttc", "malgun.ttf"),
    *("ヒラギノ角ゴシック W3.ttc", "Hiragino Sans GB.ttc", "PingFang.ttc", "AppleSDGothicNeo.ttc"),
    *("NotoSansCJK-Regular.ttc", "NotoSansCJKjp-Regular.otf", "SourceHanSans-Regular.ttc"),
    *("wqy-microhei.ttc", "wqy-zenhei.ttc", "DroidSansFallbackFull.ttf", "ipag.ttf", "NanumGothic.ttf"),
    *("GeezaPro.ttc", "NotoSansArabic-Regular.ttf", "NotoSansHebrew-Regular.ttf"),
    *("LeelawUI.ttf", "Thonburi.ttc", "NotoSansThai-Regular.ttf"),
    *("Nirmala.ttf", "Nirmala.ttc", "Kohinoor.ttc", "NotoSansDevanagari-Regular.ttf"),
    *("seguisym.ttf", "Apple Symbols.ttf", "NotoSansSymbols2-Regular.ttf", "NotoSansSymbols-Regular.ttf"),
)
EMOJI_FONTS = ("seguiemj.ttf", "Apple Color Emoji.ttc", "NotoColorEmoji.ttf")

# Combining mark -> (glyphs of Pillow's font that draw it, place). Marks that are not here are left out.
MARKS = {
    "\u0300": ("`", "above"),
    "\u0301": ("\u00b4", "above"),
    "\u0302": ("^", "above"),
    "\u0303": ("~", "above"),
    "\u0304": ("-", "above"),
    "\u0307": (".", "above"),
    "\u0308": ("..", "above"),
    "\u030a": ("\u00b0", "above"),
    "\u030b": ("\u00b4\u00b4", "above"),
    "\u030c": ("^", "above, upside down"),
    "\u0327": (",", "below"),
    "\u0328": (",", "below"),
}

# The last resort before the box, for a system without any of the fonts above.
PLAIN = {
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
    **{"ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O"},
    **{"ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "\u0131": "i"},
    **{
        "„": '"',
        "\u201a": ",",
        "\u00d7": "x",
        "→": "->",
        "←": "<-",
        "≤": "<=",
        "≥": ">=",
        "≈": "~",
        "•": "·",
    },
    **{"€": "EUR", "£": "GBP", "¥": "JPY", "²": "2", "³": "3", "¿": "?", "¡": "!"},
}

_JOINER, _EMOJI_STYLE = "\u200d", "\ufe0f"
_PROBE = 32  # pixels; only compares glyphs
_BITMAP_SIZES = (109, 160, 136, 96, 64)  # colour bitmap fonts open at their own size only


@dataclass(frozen=True)
class Face:
    """One font in every size.

    Attributes:
        name: file name as Pillow's `truetype` finds it; empty for Pillow's own font.
        fixed_size: the only size a bitmap font has, in pixels, or None where any size does.
    """

    name: str
    fixed_size: int | None = None

    def font(self, size: int) -> ImageFont.FreeTypeFont:
        return _load(self.name, self.fixed_size or size)

    def has(self, cluster: str) -> bool:
        """Whether this font has a glyph of its own for what the eye sees in `cluster`."""
        return all(_has_glyph(self, char) for char in cluster if not _is_invisible(char))


@dataclass(frozen=True)
class Run:
    """Text that one font draws in one go; `accented`, `emoji` and `missing` hold a single cluster."""

    text: str
    kind: RunKind
    face: Face


DEFAULT = Face("")


def clean(text: str) -> str:
    """One line of composed characters: white space becomes single spaces, control characters go."""
    spaced = " ".join(unicodedata.normalize("NFC", text).split())
    return "".join(_printable(char) for char in spaced)


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
def runs(text: str) -> tuple[Run, ...]:
    """Split a cleaned line by the font that draws it."""
    merged: list[Run] = []
    for run in _word_runs(text):
        last = merged[-1] if merged else None
        if last and last.kind == run.kind == "text" and (last.face == run.face or run.text == " "):
            merged[-1] = Run(last.text + run.text, "text", last.face)
        else:
            merged.append(run)
    return tuple(part for run in merged for part in _without_last_space(run))


def decompose(cluster: str) -> tuple[str, str]:
    """Base letter and its combining marks: "ä" -> ("a", "\\u0308")."""
    parts = unicodedata.normalize("NFD", cluster)
    return parts[0], parts[1:]


def is_emoji(cluster: str) -> bool:
    return _EMOJI_STYLE in cluster or 0x1F000 <= ord(cluster[0]) <= 0x1FAFF


def _word_runs(text: str) -> Iterator[Run]:
    for position, word in enumerate(text.split(" ")):
        if position:
            yield Run(" ", "text", DEFAULT)
        parts = clusters(word)
        letters = tuple(part for part in parts if part[0].isalpha() and not is_emoji(part))
        preferred = None if all(map(_is_latin, letters)) else _covering(TEXT_FONTS, letters)
        yield from (_cluster_run(part, preferred or DEFAULT) for part in parts)


def _without_last_space(run: Run) -> Iterator[Run]:
    """A run written right to left would show its last space on the wrong side."""
    if run.face == DEFAULT or not run.text.endswith(" "):
        yield run
    else:
        yield Run(run.text[:-1], run.kind, run.face)
        yield Run(" ", "text", DEFAULT)


def _cluster_run(cluster: str, preferred: Face) -> Run:
    if is_emoji(cluster) and (face := _covering(EMOJI_FONTS, (cluster[0],))):
        return Run(cluster, "emoji", face)
    if preferred.has(cluster):
        return Run(cluster, "text", preferred)
    if _composable(cluster):
        return Run(cluster, "accented", DEFAULT)
    if face := _covering(TEXT_FONTS, (cluster.replace(_EMOJI_STYLE, ""),)):
        return Run(cluster.replace(_EMOJI_STYLE, ""), "text", face)
    if face := _covering(EMOJI_FONTS, (cluster[0],)):
        return Run(cluster, "emoji", face)
    if cluster in PLAIN:
        return Run(PLAIN[cluster], "text", DEFAULT)
    return Run(cluster, "missing", DEFAULT)


@lru_cache(maxsize=4096)
def _covering(names: tuple[str, ...], wanted: tuple[str, ...]) -> Face | None:
    """The first font that has everything wanted."""
    faces = (face for name in names if (face := _open(name)))
    return next((face for face in faces if all(face.has(part) for part in wanted)), None)


@cache
def _open(name: str) -> Face | None:
    for size in (None, *_BITMAP_SIZES):
        try:
            _load(name, size or _PROBE)
        except (OSError, ValueError):
            continue
        return Face(name, size)
    return None


@lru_cache(maxsize=256)
def _load(name: str, size: int) -> ImageFont.FreeTypeFont:
    if name:
        return ImageFont.truetype(name, size)
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise OSError("this Pillow was built without FreeType; install it from PyPI: pip install -U Pillow")
    return font


@lru_cache(maxsize=8192)
def _has_glyph(face: Face, char: str) -> bool:
    return char == " " or _picture(face, char) != _picture(face, "\uffff")


@lru_cache(maxsize=64)
def _picture(face: Face, char: str) -> bytes:
    """The glyph's pixels; those of a noncharacter are the font's sign for "no such glyph"."""
    size = face.fixed_size or _PROBE
    picture = Image.new("L", (3 * size, 2 * size))
    ImageDraw.Draw(picture).text((size, size // 2), char, fill=255, font=face.font(_PROBE))
    return picture.tobytes()


def _composable(cluster: str) -> bool:
    base, marks = decompose(cluster)
    return bool(marks) and base.isascii() and base.isalpha() and all(mark in MARKS for mark in marks)


def _is_latin(cluster: str) -> bool:
    return unicodedata.name(cluster[0], "").startswith("LATIN")


def _continues(cluster: str, char: str) -> bool:
    if char == _JOINER or cluster[-1] == _JOINER or "\ufe00" <= char <= "\ufe0f":
        return True
    if _is_flag_letter(char):
        return len(cluster) == 1 and _is_flag_letter(cluster)
    return unicodedata.category(char) in ("Mn", "Mc", "Me") or 0x1F3FB <= ord(char) <= 0x1F3FF


def _is_flag_letter(char: str) -> bool:
    return 0x1F1E6 <= ord(char) <= 0x1F1FF


def _is_invisible(char: str) -> bool:
    return unicodedata.category(char) == "Cf" or "\ufe00" <= char <= "\ufe0f"


def _printable(char: str) -> str:
    category = unicodedata.category(char)
    if category == "Cs":
        return "\ufffd"  # half a surrogate pair cannot be handed to FreeType
    return "" if category == "Cc" else char
