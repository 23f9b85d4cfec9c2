"""`score` on the command line: what it prints and writes, and what mistakes are answered with."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from test_published_scorers import write_aesthetic, write_clip
from tiny_scorers import tiny

from dspo_train.cli.main import OK, USER, main
from dspo_train.images.decode import load_rgb
from dspo_train.scorers.table import SCORERS, make_scorer

__all__ = ["tiny"]  # a fixture


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two images, of which one has a caption."""
    folder = tmp_path / "images"
    folder.mkdir()
    Image.linear_gradient("L").save(folder / "a.png")
    Image.radial_gradient("L").save(folder / "b.png")
    (folder / "a.txt").write_text("a cat\n", encoding="utf-8")
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_scores_are_printed_and_written(
    tiny: None, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    weights, table = write_clip(tmp_path), tmp_path / "scores.csv"
    given = ["score", "--scorer", "pickscore", "--weights", str(weights), "--csv", str(table), str(images)]
    assert main(given) == OK
    out = capsys.readouterr().out
    assert "1 image without a prompt" in caplog.text
    found = rows(table)
    paths = [images / "a.png", images / "b.png"]
    expected = make_scorer("pickscore", weights).score([load_rgb(path) for path in paths], ["a cat", ""])
    assert torch.allclose(torch.tensor([float(row["score"]) for row in found]).double(), expected, rtol=1e-4)
    told = [(row["image"], row["prompt"], row["scorer"]) for row in found]
    assert told == [(str(paths[0]), "a cat", "pickscore"), (str(paths[1]), "", "pickscore")]
    assert [line.split()[1] for line in out.splitlines()] == [str(path) for path in paths]
    assert [float(line.split()[0]) for line in out.splitlines()] == pytest.approx(expected.tolist(), abs=1e-3)


def test_a_scorer_that_reads_no_prompts_asks_for_none(
    tiny: None, images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = ["score", "--scorer", "aesthetic", "--weights", str(write_aesthetic(tmp_path)), str(images / "b.png")]
    assert main(given) == OK
    assert "without a prompt" not in caplog.text


def test_all_scorers_are_listed_with_licence_and_download(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "--scorer", "list"]) == OK
    told = capsys.readouterr().out
    for name, row in SCORERS.items():
        assert name in told and row.title in told and row.licence in told
        assert all(file.command in told and file.size in told for file in row.files)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--scorer", "beauty", "a.png"], "unknown scorer 'beauty'; known: pickscore"),
        (["--scorer", "pickscore"], "no images; name files, or folders of them"),
        (["--scorer", "pickscore", "gone.png"], "gone.png: no such image"),
        (["--scorer", "pickscore", "a.png"], "hf download yuvalkirstain/PickScore_v1 model.safetensors"),
        (["--scorer", "pickscore", "--weights", "a.txt", "a.png"], "a.txt is damaged or not fully downloaded"),
    ],
)
def test_a_mistake_is_answered_with_one_message(
    more: list[str],
    told: str,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(images)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert main(["score", *more]) == USER
    error = capsys.readouterr().err
    assert told in error and error.count("error: ") == 1 and "Traceback" not in error
