"""Which folders are collected sets."""

from __future__ import annotations

import pytest

from dspo_train.exceptions import DatasetError
from dspo_train.preferences import LOG_NAME, PreferenceStore
from dspo_train.preferences.recognise import is_collected


def test_a_set_is_recognised_by_its_log(tmp_path):
    PreferenceStore(tmp_path)
    assert is_collected(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{}\n", b'{"prompt": "a cat"}\n', b"\xff\n", b"not json"])
def test_another_programs_file_of_that_name_is_no_set(tmp_path, content):
    (tmp_path / LOG_NAME).write_bytes(content)
    assert not is_collected(tmp_path)


def test_a_damaged_first_line_does_not_hide_a_set(tmp_path):
    PreferenceStore(tmp_path)
    log = tmp_path / LOG_NAME
    log.write_bytes(b"damaged\n" + log.read_bytes())
    assert is_collected(tmp_path)


def test_a_folder_without_a_log_is_no_set(tmp_path):
    assert not is_collected(tmp_path)
    assert not is_collected(tmp_path / "absent")
    (tmp_path / LOG_NAME).mkdir()
    assert not is_collected(tmp_path)


def test_a_log_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    def locked(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", locked)
    with pytest.raises(DatasetError, match="cannot be read \\(Permission denied\\); close the program"):
        is_collected(tmp_path)
