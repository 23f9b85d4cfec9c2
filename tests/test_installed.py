"""Installed packages against what a requirements file asks."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from dspo_train.exceptions import RunError
from dspo_train.runs.installed import refuse_old_packages, shortfalls, trouble

ROOT = Path(__file__).parents[1]


@pytest.fixture
def requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of four packages one is new enough, one too old, one missing, one not asked for by this Python."""
    installed = {"diffusers": "0.30.1", "transformers": "4.46.0", "accelerate": "1.15.0.dev0"}

    def version(name: str) -> str:
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(metadata, "version", version)
    path = tmp_path / "requirements.txt"
    path.write_text(
        "# for ComfyUI\ndiffusers>=0.32\ntransformers>=4.46  # prompts\naccelerate>=1.0\n"
        "filelock>=3.13\n\n-r other.txt\n"
        "tomli>=2.0; python_version < '3.5'\n"
    )
    return path


def test_each_shortfall_is_named(requirements: Path) -> None:
    assert shortfalls(requirements) == [
        "diffusers 0.30.1 is installed, but 0.32 or newer is needed",
        "the package filelock is not installed",
    ]
    with pytest.raises(
        RunError, match=r"diffusers 0\.30\.1 is .*filelock is not installed\. Run: pip install -r \".*txt\""
    ):
        refuse_old_packages(requirements)


def test_this_environment_lacks_nothing() -> None:
    assert trouble(ROOT / "requirements.txt") == ""
    refuse_old_packages(ROOT / "requirements.txt")


def test_without_the_file_nothing_is_said(tmp_path: Path) -> None:
    assert trouble(tmp_path / "gone.txt") == ""
