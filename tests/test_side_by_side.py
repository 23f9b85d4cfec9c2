"""Batches to sheets, a set at a glance, previews."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from PIL import Image
from tiny_runs import config, write_base, write_pairs

from dspo_train.demo.example_pairs import scenes, write
from dspo_train.drawing.grids import GridCell, ab_grid
from dspo_train.exceptions import ConfigError, DatasetError
from dspo_train.images.decode import load_rgb
from dspo_train.pairs import scan_pairs
from dspo_train.runs import diffusers_model
from dspo_train.runs.diffusers_model import DiffusersSource
from dspo_train.runs.job import Job
from dspo_train.runs.previews import Previewer
from dspo_train.runs.session import open_session
from dspo_train.scorers.toys import large_and_dark, look
from dspo_train.sheets.contact_sheet import scan_sheet
from dspo_train.sheets.side_by_side import GridText, batches_grid


def plain(colour: str) -> Image.Image:
    return Image.new("RGB", (64, 64), colour)


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.size == other.size and bool((np.asarray(one) == np.asarray(other)).all())


def test_a_batch_is_laid_out_by_strength_then_row():
    base = [plain("white"), plain("black")]
    aligned = [plain(colour) for colour in ("red", "green", "blue", "yellow")]
    sheet = batches_grid(base, aligned, GridText("one\ntwo", "0.5, 1", "7, 8", "Title"))
    rows = [[base[0], aligned[0], aligned[2]], [base[1], aligned[1], aligned[3]]]
    cells = [[GridCell(picture, f"seed {seed}") for picture in row] for row, seed in zip(rows, (7, 8), strict=True)]
    assert same(sheet, ab_grid(["one", "two"], ["base", "LoRA 0.5", "LoRA 1"], cells, title="Title"))


def test_one_prompt_stands_for_all_rows():
    base, aligned = [plain("white")] * 4, [plain("red")] * 4
    sheet = batches_grid(base, aligned, GridText("one\n\ntwo\n"))
    cells = [[plain("white"), plain("red")]] * 4
    assert same(sheet, ab_grid(["one", "", "two", ""], ["base", "LoRA 1"], cells))


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        (GridText(strengths="1, 2"), "2 images with the LoRA do not fit 2 without it at 2 strengths: 4 are needed"),
        (GridText(seeds="1"), "1 seeds are given for 2 images"),
        (GridText(prompts="a\nb\nc"), "3 prompts do not fit 2 images"),
    ],
)
def test_numbers_that_do_not_fit_are_named(captions, message):
    with pytest.raises(ConfigError, match=message):
        batches_grid([plain("white")] * 2, [plain("red")] * 2, captions)


def test_a_sheet_shows_pairs_from_all_over_the_set(tmp_path):
    scan = scan_pairs(write_pairs(tmp_path, 9))
    few, all_of_them = scan_sheet(scan, 3, title="x"), scan_sheet(scan, 100, title="x")
    assert few.height < all_of_them.height or few.width < all_of_them.width
    scan.pairs[0].winner.write_bytes(b"not a picture")
    scan_sheet(scan, 3, title="x")  # the other two are shown
    with pytest.raises(DatasetError):
        scan_sheet(scan, 1, title="x")


def test_the_example_set_is_labelled_by_its_taste(tmp_path):
    write(tmp_path, 3)
    scan = scan_pairs(tmp_path)
    assert len(scan.usable()) == 3
    assert not scan.defects
    assert len({pair.prompt for pair in scan.pairs}) == 3
    for pair in scan.pairs:
        small = [load_rgb(path).resize((64, 64), Image.Resampling.BOX) for path in (pair.winner, pair.loser)]
        winner, loser = (large_and_dark(look(picture)) for picture in small)
        assert winner > loser
    assert all(better.shape == worse.shape and better.color == worse.color for better, worse in scenes(5))


@pytest.mark.slow
def test_previews_show_the_base_beside_the_lora_and_do_not_touch_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr(diffusers_model, "_PREVIEW_STEPS", 3)
    base, pairs = write_base(tmp_path / "base"), write_pairs(tmp_path / "pairs")
    losses = []
    for name in ("with", "without"):
        job = Job(
            DiffusersSource(base), pairs, tmp_path / name, config(steps=4, optim={"lr": 0.05}), cache=tmp_path / "cache"
        )
        with open_session(job) as session, contextlib.closing(session.reports()) as reports:
            previewer = Previewer(session, "red dog", 3, lambda done, total: None) if name == "with" else None
            losses.append([])
            for report in reports:
                losses[-1].append(report.loss)
                if previewer is not None:
                    picture = previewer.draw()
                    assert same(picture, load_rgb(session.folder.preview(report.step)))
                    assert not same(previewer.before, previewer._draw()) or report.step == 1
    assert losses[0] == losses[1]
    assert len(list((tmp_path / "with" / "previews").iterdir())) == 4
