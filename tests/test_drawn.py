"""What a set remembers of the graphs that filled it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dspo_train.preferences.drawn import FILE, DrawnPart, find_drawn, note_drawn


def test_what_is_noted_is_found_for_the_same_set_only(tmp_path: Path) -> None:
    note_drawn(tmp_path, "set-1", "part", DrawnPart(("g1", "g2"), 3))
    note_drawn(tmp_path, "set-1", "other", DrawnPart(("g3",)))
    assert find_drawn(tmp_path, "set-1", "part") == DrawnPart(("g1", "g2"), 3)
    assert find_drawn(tmp_path, "set-1", "none such") is None
    assert find_drawn(tmp_path, "set-2", "part") is None
    note_drawn(tmp_path, "set-2", "part", DrawnPart(("g9",)))
    assert find_drawn(tmp_path, "set-1", "other") is None


def test_the_latest_are_kept(tmp_path: Path) -> None:
    for number in range(258):
        note_drawn(tmp_path, "s", f"part {number}", DrawnPart((f"g{number}",)))
    found = [number for number in range(258) if find_drawn(tmp_path, "s", f"part {number}")]
    assert found == list(range(2, 258))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"set": "s", "parts": 1}', '{"set": "s", "parts": {"part": [1]}}'])
def test_a_damaged_file_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text, encoding="utf-8")
    assert find_drawn(tmp_path, "s", "part") is None
    note_drawn(tmp_path, "s", "part", DrawnPart(("g",)))
    assert find_drawn(tmp_path, "s", "part") == DrawnPart(("g",))
