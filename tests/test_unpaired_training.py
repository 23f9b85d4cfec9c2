"""A folder of liked and disliked images from the check before a run to the LoRA, and resumed to the bit."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
from collections import namedtuple
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_runs import config, train_and_cut, write_base, write_opinions, write_pairs

from benchmarks.memory import published
from dspo_train.drawing.pair_sheets import unpaired_sheet
from dspo_train.drawing.themes import LIGHT
from dspo_train.exceptions import ConfigError, DatasetError, DspoError, RunError
from dspo_train.models.families import FAMILIES
from dspo_train.pairs import format_report, scan_folder
from dspo_train.pairs.discover import find_sets, pairs_stamp
from dspo_train.runs import preflight
from dspo_train.runs.diffusers_model import DiffusersSource
from dspo_train.runs.job import Job
from dspo_train.runs.presets import configure
from dspo_train.runs.previews import Previewer
from dspo_train.runs.session import check_settings, open_session
from dspo_train.sheets.contact_sheet import scan_sheet
from dspo_train.training.trainer import StepReport

KTO: dict[str, Any] = {"objective": "diffusion_kto"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_base(folder / "base")
    write_opinions(folder / "opinions")
    return folder


def job(world: Path, out: Path, settings: Mapping[str, Any], **more: Any) -> Job:
    return Job(DiffusersSource(world / "base"), world / "opinions", out, config(**settings), **more)


def train(task: Job, stop: int | None = None) -> list[dict[str, Any]]:
    """Train, perhaps only some steps; -> the reports of this part, without what the clock says."""
    with open_session(task) as session:
        reports = session.reports()
        seen = [timeless(report) for report in itertools.islice(reports, stop)]
        reports.close()
    return seen


def timeless(report: StepReport) -> dict[str, Any]:
    return {k: v for k, v in report.flat().items() if k not in ("seconds", "pairs_per_second")}


def result(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / f"{out.name}.safetensors")


def same(one: Path, other: Path) -> bool:
    a, b = result(one), result(other)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        KTO,
        {"objective": "sft"},
        {**KTO, "loss": {"sft_mix": 0.25}, "ema": 0.5, "moving_reference": 0.5},
        {**KTO, "loss": {"sharpness": 300.0}, "batch_size": 1, "accumulate": 3},
        {**KTO, "data": {"resolution": 64, "bucket_step": 16, "flip": True, "crop": "random", "caption_dropout": 0.3}},
    ],
    ids=["kto", "sft", "averages", "sharpness", "drawing"],
)
def test_a_stopped_run_ends_with_the_same_bits(world: Path, tmp_path: Path, settings: dict[str, Any]):
    whole = job(world, tmp_path / "whole" / "x", {**settings, "save_every": 3})
    parts = dataclasses.replace(whole, out=tmp_path / "parts" / "x")
    reports = [timeless(report) for report in train_and_cut(whole, 3, parts.out)]
    assert [report["step"] for report in reports] == [1, 2, 3, 4, 5, 6]
    assert train(parts) == reports[3:]
    assert same(tmp_path / "whole" / "x", tmp_path / "parts" / "x")


def test_the_file_tells_of_the_pictures(world: Path, tmp_path: Path):
    train(job(world, tmp_path / "taste", {**KTO, "steps": 1}))
    with safe_open(tmp_path / "taste" / "taste.safetensors", framework="pt") as file:
        told = file.metadata()
    assert (told["dspo.objective"], told["dspo.labels"], told["dspo.pairs"]) == ("diffusion_kto", "given", "8")


@pytest.mark.slow
def test_swapped_labels_are_the_folders_exchanged(world: Path, tmp_path: Path):
    for side, other in (("liked", "disliked"), ("disliked", "liked")):
        shutil.copytree(world / "opinions" / side, tmp_path / "opinions" / other)
    given = job(world, tmp_path / "given", {**KTO, "steps": 2})
    train(given)
    train(job(world, tmp_path / "swapped", {**KTO, "steps": 2, "labels": "swapped"}))
    train(dataclasses.replace(given, out=tmp_path / "exchanged", pairs=tmp_path / "opinions"))
    assert same(tmp_path / "swapped", tmp_path / "exchanged")
    assert not same(tmp_path / "given", tmp_path / "swapped")


def test_a_scan_that_is_known_goes_on_with_the_run(world: Path, tmp_path: Path):
    """The nodes hand over the scan that they showed; the command line has none."""
    settings = {**KTO, "steps": 4}
    train(job(world, tmp_path / "x", settings), stop=2)
    scan = scan_folder(world / "opinions")
    rest = train(job(world, tmp_path / "x", settings, scan=scan))
    assert [report["step"] for report in rest] == [3, 4]


def test_changed_pictures_are_another_run(tmp_path: Path):
    write_base(tmp_path / "base")
    write_opinions(tmp_path / "opinions")
    train(job(tmp_path, tmp_path / "x", KTO), stop=2)
    Image.fromarray(np.zeros((64, 64, 3), dtype=np.uint8)).save(tmp_path / "opinions" / "liked" / "1.png")
    with pytest.raises(RunError, match="dataset"):
        train(job(tmp_path, tmp_path / "x", KTO))


def test_previews_are_drawn_of_the_first_prompt(world: Path, tmp_path: Path):
    with open_session(job(world, tmp_path / "x", {**KTO, "steps": 1})) as session:
        list(session.reports())
        picture = Previewer(session, session.scan.usable()[0].prompt, 0, lambda done, total: None).draw()
    assert picture.width > picture.height


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "`objective` 'dspo' compares the two images of a pair.*use one of diffusion_kto, sft"),
        ({**KTO, "held_out": {"share": 0.5}}, "`held_out.share` needs pairs, but opinions holds unpaired images"),
        ({**KTO, "held_out": {"share": 0.5}, "keep": "best"}, "`held_out.share` needs pairs"),
        ({**KTO, "loss": {"safeguard": 0.5}}, "`loss.safeguard` compares the two images of a pair"),
        ({**KTO, "data": {"resolution": 64, "bucket_step": 16, "one_per_prompt": True}}, "`data.one_per_prompt` needs"),
    ],
)
def test_what_needs_pairs_is_refused_before_a_model_is_loaded(
    world: Path, tmp_path: Path, settings: dict[str, Any], words: str
):
    with pytest.raises(ConfigError, match=words):
        check_settings(config(**settings), scan_folder(world / "opinions"))
    with (
        pytest.raises(ConfigError, match=words),
        open_session(job(tmp_path, tmp_path / "x", settings, scan=scan_folder(world / "opinions"))),
    ):
        pass
    assert not (tmp_path / "x").exists()


# Before a run, as the nodes ask


def test_either_kind_of_folder_is_read_as_what_it_is(world: Path, tmp_path: Path):
    opinions, pairs = scan_folder(world / "opinions"), scan_folder(write_pairs(tmp_path))
    assert opinions.unpaired and not pairs.unpaired
    assert not (opinions.lack or pairs.lack)
    assert "5 liked, 3 disliked" in format_report(opinions)
    assert "6 usable" in format_report(pairs)


def test_it_is_listed_once_and_by_its_own_name(tmp_path: Path):
    write_opinions(tmp_path / "taste")
    write_opinions(tmp_path / "deep" / "er")
    assert find_sets(tmp_path) == ["deep/er", "taste"]


def test_what_is_trained_has_a_stamp(tmp_path: Path):
    folder = write_opinions(tmp_path / "x")
    stamps = [pairs_stamp(scan_folder(folder))]
    (folder / "notes.md").write_text("x", encoding="utf-8")
    os.utime(folder / "liked" / "0.txt", ns=(1, 1))
    assert pairs_stamp(scan_folder(folder)) == stamps[0]
    (folder / "liked" / "0.txt").write_text("another prompt", encoding="utf-8")
    stamps.append(pairs_stamp(scan_folder(folder)))
    os.utime(folder / "disliked" / "1.png", ns=(1, 1))
    stamps.append(pairs_stamp(scan_folder(folder)))
    os.rename(folder / "liked", folder / "other")
    os.rename(folder / "disliked", folder / "liked")
    os.rename(folder / "other", folder / "disliked")
    stamps.append(pairs_stamp(scan_folder(folder)))
    assert len(set(stamps)) == 4


def test_few_pictures_and_many_rounds_are_said_of_the_smaller_side(world: Path):
    scan = scan_folder(world / "opinions")
    few, often = preflight.check_pairs(scan, configure("balanced", 512, {"steps": 400}))
    assert few.startswith("3 disliked images are few")
    assert "each disliked image will be seen 533 times" in often  # 400 steps of 4 rows over 3
    assert "lower `steps` to 75" in often  # 75 steps of 4 rows: each 100 times


def test_pictures_without_captions_are_explained(tmp_path: Path):
    folder = write_opinions(tmp_path)
    (folder / "liked" / "0.txt").unlink()
    short = configure("balanced", 512, {"steps": 1})
    assert "1 image left out for want of a caption (liked/0.png)" in preflight.check_pairs(scan_folder(folder), short)
    for text in folder.glob("liked/*.txt"):
        text.unlink()
    with pytest.raises(DatasetError, match=r"no usable images on both sides \(0 liked, 3 disliked\)"):
        preflight.check_pairs(scan_folder(folder), short)
    for text in folder.glob("*/*.txt"):
        text.unlink()
    with pytest.raises(DatasetError, match="none of its 8 images has a caption"):
        preflight.check_pairs(scan_folder(folder), short)
    assert len(scan_folder(folder, allow_empty_captions=True).usable()) == 8


def test_one_side_alone_is_explained(tmp_path: Path):
    folder = write_opinions(tmp_path, disliked=0)
    with pytest.raises(DspoError, match="no usable images on both sides"):
        preflight.check_pairs(scan_folder(folder), configure("balanced", 512, {"steps": 1}))


def test_the_disk_is_asked_for_each_picture(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As for pairs: 8 pictures at 512 pixels and their captions, and the checkpoints; see test_runs_by_name.py."""
    setting = configure("balanced", 512, {"steps": 10, "data.resolution": 512})
    need = 8 * (512 * 512 / 64 * 8 * 4 + 77 * 768 * 4) + 3 * 4 * 4 * 16 * 199296 + 256 * 2**20
    setup = preflight.setup_of(published(FAMILIES["sd15"]), setting)
    usage = namedtuple("usage", "total used free")
    scan = scan_folder(world / "opinions")
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda folder: usage(0, 0, need + 1))
    preflight.check_disk(tmp_path / "run", tmp_path / "cache", scan, setting, setup)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda folder: usage(0, 0, need - 1))
    with pytest.raises(RunError, match="free"):
        preflight.check_disk(tmp_path / "run", tmp_path / "cache", scan, setting, setup)


def test_a_sheet_marks_the_liked():
    """The mark's green is in no picture here."""

    def green(*liked: bool) -> int:
        sheet = np.asarray(unpaired_sheet([(Image.new("RGB", (64, 64), "black"), it, "dog") for it in liked]))
        return int((sheet == np.array(LIGHT.good)).all(axis=2).sum())

    assert green(False) == green(False, False) == 0
    assert green(True, True) == green(True, True, False) == 2 * green(True) > 100


def test_a_sheet_shows_pictures_from_all_over_the_set(tmp_path: Path):
    scan = scan_folder(write_opinions(tmp_path, liked=6, disliked=6))
    few, all_of_them = scan_sheet(scan, 2, title="x"), scan_sheet(scan, 100, title="x")
    assert few.height * few.width < all_of_them.height * all_of_them.width
    scan.usable()[0].images[0].write_bytes(b"not a picture")
    scan_sheet(scan, 2, title="x")  # the other one is shown, which lies half-way
    with pytest.raises(DatasetError):
        scan_sheet(scan, 1, title="x")
