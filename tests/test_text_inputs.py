"""Prompts, seeds and strengths as people write them."""

from __future__ import annotations

import pytest

from dspo_train.exceptions import ConfigError
from dspo_train.sheets.text_inputs import load_prompts, prompts_for, read_prompts, read_seeds, read_strengths


def test_prompts_stand_one_per_line_among_comments_and_may_repeat():
    text = "\ufeff  a cat \n# a comment\n\n  # another\na dog, #1\na cat\n"
    assert read_prompts(text) == ["a cat", "a dog, #1", "a cat"]


@pytest.mark.parametrize("text", ["", "\n \n", "# only a comment"])
def test_a_list_without_a_prompt_is_refused(text):
    with pytest.raises(ConfigError, match="no prompts"):
        read_prompts(text)


def test_a_file_as_windows_writes_it(tmp_path):
    file = tmp_path / "p.txt"
    file.write_bytes("\ufeffein Kätzchen\r\n#x\r\n猫\r\n".encode())
    assert load_prompts(file) == ["ein Kätzchen", "猫"]


@pytest.mark.parametrize(
    ("content", "message"), [(b"\xff\xfea", "not UTF-8"), (b"a\n" * 600_000, "longer than 1 MiB"), (b"#", "no prompt")]
)
def test_other_files_are_refused_by_their_name_alone(content, message, tmp_path):
    file = tmp_path / "p.txt"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_prompts(file)
    assert str(caught.value).startswith("p.txt:")


def test_a_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_prompts(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("text", "rows", "expected"),
    [
        ("a\nb", 2, ["a", "b"]),
        ("a\n\nb\n", 4, ["a", "a", "b", "b"]),
        ("a", 3, ["a", "a", "a"]),
        (" ", 2, ["", ""]),
        ("a\nb\na", 3, ["a", "b", "a"]),
    ],
)
def test_every_row_has_its_prompt(text, rows, expected):
    assert prompts_for(text, rows) == expected


@pytest.mark.parametrize(("text", "rows"), [("a\nb", 3), ("a\nb\nc", 2)])
def test_lines_that_do_not_fit_are_refused(text, rows):
    with pytest.raises(ConfigError, match="do not fit"):
        prompts_for(text, rows)


def test_seeds():
    assert read_seeds(" 7, 8;18446744073709551615 ", 3) == [7, 8, 2**64 - 1]
    assert read_seeds(" , ", 3) is None


@pytest.mark.parametrize("text", ["a, b", "1, -2", "1.5, 2", "1, ²", "1, 2, 3", "1"])
def test_other_seeds_are_refused(text):
    with pytest.raises(ConfigError, match="seeds"):
        read_seeds(text, 2)


def test_strengths_are_read_as_people_write_them():
    assert read_strengths("0.5, 1.0,1.5") == (0.5, 1.0, 1.5)
    assert read_strengths(" 1 ; -0.5 ;") == (1.0, -0.5)
    assert read_strengths("0,5; 1,0") == (0.5, 1.0)
    assert read_strengths("0.5,1") == (0.5, 1.0)


@pytest.mark.parametrize("text", ["", " , ", "a", "1 2", "nan", "inf", "1e9", "0,5", "1,2,3"])
def test_other_strengths_are_refused(text):
    with pytest.raises(ConfigError, match="strengths"):
        read_strengths(text)
