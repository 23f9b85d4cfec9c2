"""The two colour schemes of the images that this library draws."""

from __future__ import annotations

from dataclasses import dataclass

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Theme:
    """Colours by their role, sRGB 0-255.

    Attributes:
        page: behind everything.  card: raised areas.  mat: around an image that does not fill its cell.
        rule: hairlines.  ink, muted, faint: text, from title to footer.
        accent, on_accent: what was trained, and text on it.  good, bad: chosen and rejected.
        series: lines of a plot, in order.
    """

    page: Colour
    card: Colour
    mat: Colour
    rule: Colour
    ink: Colour
    muted: Colour
    faint: Colour
    accent: Colour
    on_accent: Colour
    good: Colour
    bad: Colour
    series: tuple[Colour, ...]


LIGHT = Theme(
    page=(250, 250, 248),
    card=(255, 255, 255),
    mat=(238, 238, 236),
    rule=(224, 224, 221),
    ink=(27, 28, 32),
    muted=(88, 91, 98),
    faint=(112, 115, 122),
    accent=(79, 70, 205),
    on_accent=(255, 255, 255),
    good=(22, 132, 82),
    bad=(196, 62, 52),
    series=((79, 70, 205), (22, 132, 82), (201, 92, 28), (14, 124, 160), (176, 52, 128), (120, 104, 40)),
)
DARK = Theme(
    page=(19, 20, 24),
    card=(28, 29, 35),
    mat=(36, 38, 45),
    rule=(50, 53, 61),
    ink=(240, 241, 244),
    muted=(176, 180, 189),
    faint=(140, 145, 155),
    accent=(158, 148, 255),
    on_accent=(22, 20, 44),
    good=(76, 201, 139),
    bad=(244, 118, 106),
    series=(
        (158, 148, 255),
        (76, 201, 139),
        (245, 160, 98),
        (90, 196, 230),
        (238, 130, 196),
        (214, 196, 110),
    ),
)
