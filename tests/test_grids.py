"""Sheets of pictures: everything named is there, in its place, within the size limit."""

from __future__ import annotations

import pytest
from PIL import Image

from dspo_train.drawing.grids import GridCell, ab_grid
from dspo_train.drawing.pair_sheets import pair_sheet
from dspo_train.drawing.themes import DARK, LIGHT, Theme
from dspo_train.drawing.tiles import LARGEST_SIDE, rounded_mask
from dspo_train.exceptions import ConfigError

RED, GREEN, BLUE, GREY = (230, 20, 30), (20, 200, 60), (30, 40, 220), (128, 128, 128)
WHITE = (255, 255, 255)
PROMPT = "a weathered lighthouse keeper on the cliff at dusk, storm clouds, rim light, volumetric fog, " * 4


def plain(colour: tuple[int, int, int], size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.new("RGB", size, colour)


def place(sheet: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """The rectangle around every pixel of exactly this colour."""
    bands = sheet.split()
    masks = [
        band.point(lambda value, wanted=wanted: 255 * (value == wanted))
        for band, wanted in zip(bands, colour, strict=True)
    ]
    both = Image.composite(masks[0], Image.new("L", sheet.size), masks[1])
    box = Image.composite(both, Image.new("L", sheet.size), masks[2]).getbbox()
    assert box, f"{colour} is nowhere on the sheet"
    return box


def extent(box: tuple[int, int, int, int]) -> tuple[int, int]:
    return box[2] - box[0], box[3] - box[1]


def test_cells_stand_in_rows_and_columns_in_the_order_given():
    yellow = (240, 220, 40)
    sheet = ab_grid(["one", "two"], ["base", "LoRA"], [[plain(RED), plain(GREEN)], [plain(BLUE), plain(yellow)]])
    red, green, blue, last = (place(sheet, colour) for colour in (RED, GREEN, BLUE, yellow))
    assert red[1] == green[1] and blue[1] == last[1]  # tops
    assert red[0] == blue[0] and green[0] == last[0]  # left edges
    assert red[2] < green[0] and red[3] < blue[1]
    assert extent(red) == extent(last) == (256, 256)  # 64 pixels are enlarged


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((64, 64), (256, 256)),
        ((512, 512), (512, 512)),
        ((2048, 2048), (512, 512)),
        ((832, 1216), (350, 512)),  # 512 * 832 / 1216 = 350.3
        ((1216, 832), (512, 350)),
        ((1, 1), (256, 256)),
    ],
)
def test_a_picture_keeps_its_proportions(size: tuple[int, int], shown: tuple[int, int]):
    sheet = ab_grid([""], ["base", "LoRA"], [[plain(RED, size), plain(GREEN, size)]])
    assert extent(place(sheet, RED)) == shown


def test_mixed_proportions_are_centred_on_the_mat():
    cells = [[plain(RED, (200, 100)), plain(GREEN, (100, 200)), plain(BLUE, (100, 100))]]
    sheet = ab_grid(["x"], ["a", "b", "c"], cells, cell_size=200)
    red, green, blue = (place(sheet, colour) for colour in (RED, GREEN, BLUE))
    assert (extent(red), extent(green), extent(blue)) == ((200, 100), (100, 200), (200, 200))
    assert red[1] - blue[1] == blue[3] - red[3] == 50
    assert sheet.getpixel(((red[0] + red[2]) // 2, red[1] - 10)) == LIGHT.mat


def test_a_sharp_edge_is_enlarged_smoothly_and_in_place():
    image = plain(RED)
    image.paste(BLUE, (32, 0, 64, 64))
    sheet = ab_grid([""], ["base", "LoRA"], [[image, plain(GREEN)]])
    middle = (place(sheet, RED)[0] + 128, place(sheet, RED)[1] + 128)
    assert sheet.getpixel((middle[0] - 20, middle[1])) == RED
    assert sheet.getpixel((middle[0] + 20, middle[1])) == BLUE
    assert sheet.getpixel(middle) not in (RED, BLUE)


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 2), (8, 5), (3, 9), (20, 4)])
def test_every_shape_of_grid_keeps_to_the_limit(rows: int, columns: int):
    cells = [[GridCell(plain(GREY, (512, 512)), "seed 7")] * columns for _ in range(rows)]
    names = ["base", *(f"LoRA {number}" for number in range(1, columns))]
    sheet = ab_grid([PROMPT] * rows, names, cells, title=PROMPT, subtitle=PROMPT, footer=PROMPT)
    assert sheet.mode == "RGB"
    assert max(sheet.size) <= LARGEST_SIDE


def test_far_too_many_rows_grow_the_sheet_and_not_the_eyestrain():
    sheet = ab_grid(["p"] * 60, ["base", "LoRA"], [[plain(RED, (512, 512)), plain(GREEN)]] * 60)
    red = place(sheet, RED)
    assert sheet.height > LARGEST_SIDE
    assert red[2] - red[0] == 96


@pytest.mark.parametrize("columns", [2, 3])
def test_prompts_never_touch_the_pictures(columns: int):
    """The page's colour, or the mat's, is all that surrounds a picture closely."""
    cells = [[plain(RED), *[plain(GREEN)] * (columns - 1)]]
    box = place(ab_grid([PROMPT], ["base"] * columns, cells), RED)
    sheet = ab_grid([PROMPT], ["base"] * columns, cells)
    for y in (box[1] - 4, box[3] + 3):
        assert {sheet.getpixel((x, y)) for x in range(box[0], box[2], 3)} == {LIGHT.page}
    for x in (box[0] - 4, box[2] + 3):
        assert {sheet.getpixel((x, y)) for y in range(box[1], box[3], 3)} == {LIGHT.page}


def test_words_leave_the_margins_free():
    sheet = ab_grid([PROMPT] * 2, ["base", PROMPT, "LoRA"], [[plain(GREY)] * 3] * 2, title=PROMPT, footer=PROMPT)
    for strip in ((0, 0, 30, sheet.height), (sheet.width - 30, 0, sheet.width, sheet.height)):
        assert sheet.crop(strip).getcolors() == [(30 * sheet.height, LIGHT.page)]


def test_short_prompts_take_no_more_room_than_they_need():
    cells = [[plain(GREY)] * 3]
    names = ["base", "LoRA 0.5", "LoRA 1.0"]
    assert ab_grid(["cat"], names, cells).width < ab_grid([PROMPT], names, cells).width
    assert ab_grid([""], names, cells).width < ab_grid(["cat"], names, cells).width


def test_base_has_a_quiet_heading_and_the_lora_a_coloured_one():
    sheet = ab_grid(["p"], ["Base model", "LoRA 1.0"], [[plain(RED), plain(GREEN)]])
    base, lora = place(sheet, RED), place(sheet, GREEN)
    inside = lora[1] - 14  # the lower part of the heading, under its letters
    assert sheet.getpixel((base[0] + 20, inside)) == LIGHT.mat
    assert sheet.getpixel((lora[0] + 20, inside)) == LIGHT.accent


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_the_theme_reaches_the_corners(theme: Theme):
    sheets = (
        ab_grid(["p"], ["base"], [[plain(RED)]], theme=theme),
        pair_sheet([(plain(RED), plain(BLUE), "p")], theme=theme),
    )
    for sheet in sheets:
        assert sheet.getpixel((0, 0)) == sheet.getpixel((sheet.width - 1, sheet.height - 1)) == theme.page


def luminance(colour: tuple[int, int, int]) -> float:
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("text", "ground"),
    [
        *[(text, "page") for text in ("ink", "muted", "faint", "bad")],
        *[("ink", "card"), ("ink", "mat"), ("on_accent", "accent")],
    ],
)
def test_text_has_the_contrast_that_wcag_asks_for(theme: Theme, text: str, ground: str):
    """WCAG 2.1 AA: (lighter + 0.05) / (darker + 0.05) of at least 4.5."""
    low, high = sorted((luminance(getattr(theme, text)), luminance(getattr(theme, ground))))
    assert (high + 0.05) / (low + 0.05) >= 4.5


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "I", "YCbCr"])
def test_every_picture_mode_is_shown(mode: str):
    wide = mode.startswith("I")  # 16 bits: 200 * 256 of 65535 is 200 of 255
    picture = Image.new(mode, (32, 32), 200 * 256) if wide else plain(WHITE, (32, 32)).convert(mode)
    sheet = ab_grid([""], ["a", "b"], [[picture, plain(GREEN)]])
    green = place(sheet, GREEN)
    pixel = sheet.getpixel((green[0] - 14 - 128, green[1] + 128))
    assert pixel == ((200, 200, 200) if wide else WHITE)


def test_transparency_shows_the_mat():
    sheet = ab_grid([""], ["a", "b"], [[Image.new("RGBA", (32, 32), (255, 0, 0, 0)), plain(GREEN)]])
    green = place(sheet, GREEN)
    assert sheet.getpixel((green[0] - 14 - 128, green[1] + 128)) == LIGHT.mat


PICTURE = plain(RED)


@pytest.mark.parametrize(
    ("rows", "columns", "cells", "message"),
    [
        ([], ["base"], [], "at least one row"),
        (["p"], [], [[]], "at least one row and one column"),
        (["p"], ["base"], [[PICTURE], [PICTURE]], "names 1 rows but has images for 2"),
        (["p", "q"], ["base", "LoRA"], [[PICTURE] * 2, [PICTURE]], "row 1 holds 1 images for 2 columns"),
        (["p"], ["base"], [["a.png"]], "row 0, column 0: expected a PIL image, found str"),
        (["p"], ["base"], [[Image.new("RGB", (0, 5))]], "0 x 5 pixels"),
    ],
)
def test_what_cannot_be_drawn_is_named(rows: list[str], columns: list[str], cells: list, message: str):
    with pytest.raises(ConfigError, match=message):
        ab_grid(rows, columns, cells)


def test_a_cell_size_nobody_can_see_is_refused():
    with pytest.raises(ConfigError, match="at least 16 pixels, got 3"):
        ab_grid(["p"], ["base"], [[PICTURE]], cell_size=3)


def test_pairs_have_the_winner_left_in_a_green_frame():
    sheet = pair_sheet([(plain(RED), plain(BLUE), "a cat")])
    winner, loser = place(sheet, RED), place(sheet, BLUE)
    assert winner[2] < loser[0] and winner[1] == loser[1]
    assert extent(winner) == extent(loser) == (256, 256)
    middle = (winner[1] + winner[3]) // 2
    assert sheet.getpixel((winner[0] - 4, middle)) == LIGHT.good
    assert sheet.getpixel((loser[0] - 4, middle)) == LIGHT.card
    assert sheet.getpixel((winner[0] + 20, winner[1] + 11)) == LIGHT.good  # inside the badge, above its check
    assert sheet.getpixel((loser[0] + 20, loser[1] + 11)) == LIGHT.mat


@pytest.mark.parametrize(("columns", "across"), [(1, 1), (2, 2), (7, 3)])
def test_columns_of_pairs(columns: int, across: int):
    """Three pairs; a card is 2 x 256 + 14 + 2 x 16 = 558 pixels wide, the gap 20, the margins 40."""
    sheet = pair_sheet([(plain(RED), plain(BLUE), "")] * 3, columns=columns)
    assert sheet.width == across * 558 + (across - 1) * 20 + 80


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 5, 9, 60])
def test_sheets_of_pairs_have_the_shape_of_a_screen_and_keep_to_the_limit(count: int):
    sheet = pair_sheet([(plain(RED, (512, 512)), plain(BLUE), PROMPT)] * count, title="Pairs")
    assert max(sheet.size) <= LARGEST_SIDE
    assert 0.6 < sheet.width / sheet.height < 2.4


@pytest.mark.parametrize(
    ("pairs", "columns", "message"),
    [
        ([], None, "at least one pair"),
        ([(PICTURE, PICTURE, "")], 0, "columns must be at least 1, got 0"),
        ([(PICTURE, PICTURE, ""), (PICTURE, None, "")], None, "pair 1, loser: expected a PIL image"),
    ],
)
def test_pairs_that_cannot_be_drawn_are_named(pairs: list, columns: int | None, message: str):
    with pytest.raises(ConfigError, match=message):
        pair_sheet(pairs, columns=columns)


@pytest.mark.parametrize(("box", "radius"), [((40, 30), 8), ((5, 5), 20), ((1, 1), 3), ((7, 9), 0)])
def test_rounded_mask_is_full_inside_and_symmetric(box: tuple[int, int], radius: int):
    mask = rounded_mask(box, radius)
    assert mask.size == box
    assert mask.getpixel((box[0] // 2, box[1] // 2)) == 255
    flipped = mask.transpose(Image.Transpose.ROTATE_180)
    assert all(abs(a - b) <= 8 for a, b in zip(mask.tobytes(), flipped.tobytes(), strict=True))
