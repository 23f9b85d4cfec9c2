"""What makes a run another run, and what is only told of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dspo_train.config import TrainConfig
from dspo_train.exceptions import RunError
from dspo_train.runs.folder import RunFolder

KNOWN = {"version": "1", "config": TrainConfig().to_dict(), "base": {"name": "flux1-dev", "unet": "a hash"}}


def test_a_renamed_base_is_the_same_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.folder.mkdir()
    folder.start(KNOWN)
    folder.check({**KNOWN, "version": "2", "base": {"name": "flux1-dev-copy", "unet": "a hash"}})


def test_other_weights_are_another_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.folder.mkdir()
    folder.start(KNOWN)
    with pytest.raises(RunError, match=r'base\.unet was "a hash", now "another"'):
        folder.check({**KNOWN, "base": {"name": "flux1-dev", "unet": "another"}})
