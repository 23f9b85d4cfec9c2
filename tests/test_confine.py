"""Names from outside: what is refused, on either system's rules, and what must not be."""

from __future__ import annotations

from pathlib import Path

import pytest

from dspo_train.exceptions import ConfigError
from dspo_train.files.names import file_name, inside, parts_of

HOSTILE = [
    "",
    ".",
    "..",
    "../x",
    "x/..",
    "a/../../b",
    "..\\x",
    "a\\..\\..\\b",
    "a/./b",
    "./a",
    "/etc/passwd",
    "//server/share",
    "\\\\server\\share",
    "\\\\?\\C:\\x",
    "\\\\.\\PhysicalDrive0",
    "\\x",
    "C:\\Windows",
    "C:/Windows",
    "C:x",
    "c:",
    "x:y",
    "file.txt:stream",
    "file.txt::$DATA",
    "a\0b",
    "a/b\0.png",
    "a\nb",
    "a\r",
    "\x1b[31m",
    "a\x7f",
    "CON",
    "con.txt",
    "a/NUL",
    "nul.safetensors",
    "PRN",
    "AUX.png",
    "COM1",
    "com9.log",
    "LPT1.txt",
    "COM¹",
    "CONIN$",
    "conout$.x",
    "NUL .txt",
    "a.",
    "a ",
    " a",
    "a./b",
    "a /b",
    "...",
    "a//b",
    "a/",
    "a?b",
    "a*",
    "<a>",
    'a"b',
    "a|b",
    "a\ud800",
    "x" * 500,
    "../",
]
HARMLESS = [
    "taste",
    "my taste 2",
    "sets/animals/cats",
    "sets\\cats",
    "Möwen",
    "猫と犬",
    "..hidden",
    "a..b",
    "console",
    "COM10",
    "nulls",
    "it's (1) [final], 50% off!",
    "~home",
    "$HOME",
    "a@b#c",
]


@pytest.mark.parametrize(
    "refuse", [parts_of, file_name, lambda text: inside(Path("root"), text)], ids=["parts_of", "file_name", "inside"]
)
def test_hostile_names_are_refused_everywhere(refuse):
    for name in HOSTILE:
        if refuse is file_name and name in ("a ", " a", "a\r"):  # a person's slip at the ends is trimmed there
            continue
        try:
            accepted = refuse(name)
        except ConfigError as error:
            assert "not accepted" in str(error), ascii(name)
        else:
            pytest.fail(f"{name!a} is taken for {accepted!r}")


def test_there_are_enough_of_them():
    assert len(set(HOSTILE)) >= 40


def test_harmless_names_stay_inside(tmp_path):
    root = tmp_path.resolve()
    expected = {name: root.joinpath(*name.replace("\\", "/").split("/")) for name in HARMLESS}
    assert {name: inside(tmp_path, name) for name in HARMLESS} == expected
    assert all(path.is_relative_to(root) for path in expected.values())


def test_a_link_that_leads_out_is_refused(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    (outside / "inner").mkdir(parents=True)
    (root / "within").mkdir()
    try:
        (root / "out").symlink_to(outside, target_is_directory=True)
        (root / "in").symlink_to(root / "within", target_is_directory=True)
    except OSError:
        pytest.skip("this system does not let us make links")
    for name in ("out", "out/inner", "out/new"):
        with pytest.raises(ConfigError, match="leads out"):
            inside(root, name)
    assert inside(root, "in") == (root / "within").resolve()


def test_the_root_itself_may_be_reached_through_a_link(tmp_path):
    (tmp_path / "real" / "set").mkdir(parents=True)
    try:
        (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    except OSError:
        pytest.skip("this system does not let us make links")
    assert inside(tmp_path / "link", "set") == (tmp_path / "real" / "set").resolve()


def test_a_new_file_is_one_plain_name():
    assert file_name("  my-taste.safetensors ") == "my-taste"
    assert file_name("v1.5") == "v1.5"
    with pytest.raises(ConfigError, match="names a folder"):
        file_name("dspo/my-taste")


def test_the_error_shows_the_name_without_its_control_characters():
    with pytest.raises(ConfigError) as caught:
        parts_of("a\x1b[31m\u202e", "the set's name")
    assert "\\x1b" in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert str(caught.value).startswith("the set's name")
