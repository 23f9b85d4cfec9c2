"""The demonstration, whole and small: the taste moves, the obedience to the prompt does not fall."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from PIL import Image

from dspo_train.cli.main import USER, main
from dspo_train.config import OptimSpec
from dspo_train.demo import run
from dspo_train.demo.run import CONFIG, MODEL, DemoResult, DemoSize, run_demo
from dspo_train.evaluate.shapes import captions
from dspo_train.lora.writing import load_lora
from dspo_train.models.base import load_base
from dspo_train.pairs import scan_pairs


def demonstrate(out: Path, size: DemoSize) -> DemoResult:
    return run_demo(out, size, say=lambda line: None, count=lambda *_: None, watch=lambda *_: None)


def test_the_embedded_model_is_small():
    assert sum(file.stat().st_size for file in MODEL.rglob("*") if file.is_file()) <= 8_000_000
    names = {"unet", "vae", "text_encoder", "tokenizer", "scheduler"}
    assert {path.name for path in MODEL.iterdir() if path.is_dir()} == names


@pytest.mark.slow
def test_the_whole_demonstration(tmp_path):
    result = demonstrate(tmp_path, DemoSize())
    verdict = result.verdict
    assert verdict.win_rate.rate >= 0.85
    assert verdict.win_rate.low > 0.75
    assert verdict.fit_after >= verdict.fit_before - 0.03
    assert verdict.fit_before > 0.9


@pytest.mark.slow
def test_a_small_demonstration_leaves_everything_on_disk(tmp_path, monkeypatch):
    """Two candidates, so one pair, of each of 4 captions; one may be left out, where an image shows nothing."""
    monkeypatch.setattr(run, "captions", lambda: captions()[::12])
    monkeypatch.setattr(run, "GRID_PROMPTS", run.GRID_PROMPTS[:1])
    small = dataclasses.replace(CONFIG, steps=2, batch_size=4, save_every=2, optim=OptimSpec(lr=1e-3))
    result = demonstrate(tmp_path, DemoSize(candidates=2, tests=1, config=small))
    scan = scan_pairs(tmp_path / "pairs")
    assert len(scan.pairs) == result.pairs
    assert 3 <= result.pairs <= 4
    assert not scan.defects
    assert len(load_lora(result.lora, load_base(MODEL).unet).weights) > 0
    for picture in (result.grid, result.curve):
        assert Image.open(picture).width >= 640
    again = demonstrate(tmp_path, DemoSize(candidates=2, tests=1, config=small))
    assert again.verdict == result.verdict  # the same draws, the same training, the same figures


def test_a_folder_with_other_things_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    assert main(["demo", "--out", str(tmp_path)]) == USER
    assert "is not empty and was not made by this demonstration" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "mine"
