from pathlib import Path

import pytest

from dspo_train.exceptions import ConfigError
from dspo_train.pairs import Defect, PreferencePair, Scan, format_report


def pair(key: str, prompt: str, winner: tuple[int, int], loser: tuple[int, int]) -> PreferencePair:
    return PreferencePair(key, prompt, Path("w"), Path("l"), winner, loser)


PAIRS = (
    pair("a", "cat", (512, 512), (512, 512)),
    pair("b", "cat", (1920, 1080), (1920, 1080)),
    pair("c", "dog", (600, 600), (400, 400)),
)
DEFECTS = (
    Defect("aspect_mismatch", "a_w.png", "warned", fatal=False),
    Defect("no_caption", "x_w.png", "write one"),
    Defect("no_caption", "猫\x1b[31m_w.png", "write one"),
)


def test_a_report_says_all():
    report = format_report(Scan(Path("data"), "suffixes", PAIRS, ties=4, defects=DEFECTS))
    lines = [line.split() for line in report.splitlines()]
    assert ["Layout", "suffixes"] in lines
    assert ["Pairs", "3", "usable,", "2", "different", "prompts"] in lines
    assert ["Ties", "4,", "left", "out"] in lines
    assert ["Defects", "2", "no", "caption"] in lines
    assert ["1", "aspect", "mismatch", "(warning)"] in lines
    # Widths: 400 512 512 600 1920 1920. Heights: 400 512 512 600 1080 1080.
    assert ["width", "400", "556", "1920"] in lines
    assert ["height", "400", "556", "1080"] in lines
    assert ["512", "x", "512", "2", "#" * 30] in lines
    assert ["640", "x", "384", "1", "#" * 15] in lines
    # 1920x1080 in 640x384: scaled by 384/1080 to 682.7x384, of which 42.7/682.7 = 6% is lost; 400x400 grows by 1.28.
    assert "lose" not in report
    assert "  1 pair is enlarged\n    most: 1.3 times, l\n" in report
    assert report.splitlines()[-1] == "USABLE with 3 pairs; 2 defects left something out, 1 warning."


def test_a_report_says_how_much_the_crop_cuts_away():
    """1000x700 in 576x448: scaled by 0.64 to 640x448, of which a tenth is lost; 640x512 in 640x384 loses a quarter.

    512x128 in 512x512, the winner's: scaled by 4 to 2048x512, of which three quarters are lost.
    """
    pairs = (
        pair("a", "x", (1000, 700), (1001, 700)),
        pair("b", "x", (640, 384), (640, 513)),
        pair("c", "x", (512, 512), (512, 128)),
        pair("d", "x", (2048, 512), (2048, 512)),
    )
    report = format_report(Scan(Path("data"), "suffixes", pairs))
    assert "  3 pairs lose over 10% of an image's area to the crop, 2 of them over 25%\n" in report
    assert "    most: 75% of l, 512x128 in 512x512\n" in report
    assert ["1024", "x", "256", "1"] in [line.split()[:4] for line in report.splitlines()]
    assert report.endswith("READY: 4 pairs, 2 pairs lose over 25% of an image's area to the crop.")


def test_remarks_on_the_prompts_count_as_warnings():
    report = format_report(Scan(Path("data"), "suffixes", PAIRS), remarks=["one is long", "one has weights"])
    assert "Prompts   one is long\n          one has weights\n" in report
    assert report.endswith("READY: 3 pairs, 2 warnings.")


def test_fatal_defects_come_first_and_only_some_are_shown():
    report = format_report(Scan(Path("data"), "ranked", PAIRS, ties=0, defects=DEFECTS), shown=1)
    assert "First 1 of 3 defects\n  x x_w.png: write one\n\nUSABLE" in report


def test_every_character_is_in_cp1252_and_none_controls_the_terminal():
    report = format_report(Scan(Path("данные"), "suffixes", PAIRS, ties=0, defects=DEFECTS))
    report.encode("cp1252")
    assert "\\u732b\\x1b[31m_w.png" in report
    assert all(character.isprintable() or character == "\n" for character in report)


@pytest.mark.parametrize(
    "pairs, defects, verdict",
    [
        (PAIRS, (), "READY: 3 pairs, nothing to fix."),
        (PAIRS[:1], DEFECTS[:1], "READY: 1 pair, 1 warning."),
        ((), DEFECTS, "NOT USABLE: no pair is left to train on; fix the defects above."),
    ],
)
def test_verdicts(pairs, defects, verdict):
    assert format_report(Scan(Path("data"), "suffixes", pairs, ties=0, defects=defects)).splitlines()[-1] == verdict


def test_lines_fit_a_terminal():
    report = format_report(Scan(Path("data"), "suffixes", PAIRS * 3000, ties=10_000, defects=DEFECTS), resolution=1024)
    assert max(map(len, report.splitlines())) <= 80


def test_a_bad_resolution_is_refused():
    with pytest.raises(ConfigError, match="below the bucket step"):
        format_report(Scan(Path("data"), "suffixes", PAIRS, ties=0, defects=()), resolution=32)
