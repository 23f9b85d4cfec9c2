"""A taste as a file, and features that are kept beside a set."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image
from test_taste_comparisons import images, opinions, vote_left
from tiny_runs import write_pairs

from dspo_train.exceptions import ConfigError, DatasetError
from dspo_train.pairs import scan_folder
from dspo_train.preferences import PreferenceStore
from dspo_train.taste.charts import reliability_chart
from dspo_train.taste.comparisons import from_ranks
from dspo_train.taste.kept import FOLDER, keep_features, kept_features
from dspo_train.taste.knowing import known
from dspo_train.taste.looking import comparisons_of, fit_scan, look_at
from dspo_train.taste.model import TasteModel, fit_taste, load_taste


class Shade:
    """Implements `ImageFeatures`: mean and spread of an image, and the length of its prompt."""

    def __init__(self, identity: str = "shade") -> None:
        self.identity = identity
        self.seen = 0

    def of(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        self.seen += len(images)
        pixels = [np.asarray(image, dtype=np.float32) / 255 for image in images]
        rows = [(each.mean(), each.std(), len(prompt)) for each, prompt in zip(pixels, prompts, strict=True)]
        return np.array(rows, dtype=np.float32)


def taste(pairs: int = 30) -> TasteModel:
    draw = np.random.default_rng(0)
    comparisons = from_ranks([(f"prompt {row}", [f"{row}a", f"{row}b"]) for row in range(pairs)])
    features = draw.normal(size=(2 * pairs, 5)).astype(np.float32)
    features[0::2, 0] += 1
    return fit_taste(comparisons, features, "shade", "mine", seen_by="a tiny model")


@pytest.mark.parametrize("pairs", [30, 3])
def test_a_taste_comes_back_to_the_bit(tmp_path: Path, pairs: int):
    """Whether its accuracy is known or not, and written once more it is the same file."""
    written = taste(pairs)
    written.save(tmp_path / "one.safetensors")
    read = load_taste(tmp_path / "one.safetensors")
    for name in ("mean", "scale", "weights"):
        assert getattr(read.head, name).tobytes() == getattr(written.head, name).tobytes()
    assert (read.head.temperature, read.head.prior) == (written.head.temperature, written.head.prior)
    assert repr(read.assessment) == repr(written.assessment)
    assert (read.identity, read.name, read.trained_on, read.seen_by) == ("shade", "mine", pairs, "a tiny model")
    assert math.isnan(read.assessment.accuracy) is (pairs == 3)
    read.save(tmp_path / "two.safetensors")
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()


def test_the_chart_has_a_dot_where_answers_came_true():
    """Another share that came true is another chart."""
    known = taste().assessment
    drawn = [
        np.asarray(reliability_chart(replace(known, reliability=((0.6, share, 10), (0.9, 0.9, 20)))))
        for share in (0.2, 0.2, 0.6)
    ]
    changed = (drawn[0] != drawn[2]).any(2)
    assert (drawn[0] == drawn[1]).all() and changed.any()
    assert changed.nonzero()[1].max() < 0.85 * drawn[0].shape[1]  # right of 0.9 nothing is another


def test_what_is_not_a_taste_is_refused(tmp_path: Path):
    lora, newer, cut = (tmp_path / f"{name}.safetensors" for name in ("lora", "newer", "cut"))
    tensors = {"up": np.zeros(3)}
    safetensors.numpy.save_file(tensors, lora)
    safetensors.numpy.save_file(tensors, newer, {"dspo.taste": json.dumps({"version": 2})})
    safetensors.numpy.save_file(tensors, cut, {"dspo.taste": json.dumps({"version": 1})})
    (tmp_path / "notes.txt").write_text("large and dark", encoding="utf-8")
    for path, words in (
        (lora, "not the file of a taste"),
        (newer, "update the program"),
        (cut, "damaged"),
        (tmp_path / "notes.txt", "notes.txt"),
        (tmp_path / "gone.safetensors", "cannot be read"),
    ):
        with pytest.raises(ConfigError, match=words):
            load_taste(path)
    with pytest.raises(ConfigError, match=r"\.safetensors"):
        taste(3).save(tmp_path / "taste.bin")


def test_features_of_another_model_are_refused():
    taste(3).check(Shade())
    with pytest.raises(ConfigError, match=r"'mine'.*shade \(a tiny model\).*other.*learn the taste again"):
        taste(3).check(Shade("other"))


def test_features_are_kept_in_half_precision_and_added_to(tmp_path: Path):
    """1e6 is more than float16 holds: its largest, 65,504, stands for it."""
    keep_features(tmp_path, "x", {"a": np.array([0.1, 1e6]), "b": np.array([1.0, 2.0])})
    keep_features(tmp_path, "y", {"a": np.array([7.0])})
    keep_features(tmp_path, "x", {"c": np.array([3.0, 4.0])})
    keep_features(tmp_path, "x", {})
    found = kept_features(tmp_path)
    assert {identity: sorted(rows) for identity, rows in found.items()} == {"x": ["a", "b", "c"], "y": ["a"]}
    assert found["x"]["a"].tolist() == [float(np.float16(0.1)), 65504.0]
    assert len(list((tmp_path / FOLDER).iterdir())) == 3


def test_a_damaged_file_of_features_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    keep_features(tmp_path, "x", {"a": np.array([1.0])})
    (tmp_path / FOLDER / "cut.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{")
    safetensors.numpy.save_file({"features": np.zeros((1, 2))}, tmp_path / FOLDER / "strange.safetensors")
    assert list(kept_features(tmp_path)) == ["x"]
    assert sorted(message.split(": ")[0].rsplit("/")[-1] for message in caplog.messages) == [
        "cut.safetensors",
        "strange.safetensors",
    ]


def test_images_are_looked_at_once(tmp_path: Path):
    """An image that was written anew, or has another prompt, is another one."""
    folder = write_pairs(tmp_path / "pairs", 3)
    paths, features = sorted(folder.glob("*.png")), Shade()
    steps: list[tuple[int, int]] = []
    first = look_at(paths, ["cat"] * 6, features, tmp_path, lambda *done: steps.append(done))
    assert steps == [(0, 6), (6, 6)]
    again = look_at(paths, ["cat"] * 6, features, tmp_path)
    assert features.seen == 6 and (first == again).all()
    assert (first == look_at(paths, ["cat"] * 6, Shade())).all()
    Image.new("RGB", (9, 9)).save(paths[0])
    changed = look_at(paths, ["cat"] * 5 + ["a dog"], features, tmp_path)
    assert features.seen == 8
    assert (changed != first).any(1).tolist() == [True, False, False, False, False, True]


def test_the_taste_of_a_dataset(tmp_path: Path):
    """Every winner is brighter than its loser."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    for row in range(14):
        for side, shade in (("w", 200 - row), ("l", 90 + row)):
            Image.new("RGB", (64, 64), (shade, shade, shade)).save(folder / f"pair{row}_{side}.png")
        (folder / f"pair{row}.txt").write_text(f"cat {row}", encoding="utf-8")
    found = fit_scan(scan_folder(folder), Shade(), folder)
    assert (found.name, found.trained_on, found.identity) == ("pairs", 14, "shade")
    assert found.assessment.accuracy == 1.0
    assert scan_folder(folder).defects == ()  # what is kept there is no part of the dataset
    with pytest.raises(DatasetError, match="both sides"):
        comparisons_of(opinions(cat="++"))


def test_what_is_known_of_a_set_by_its_kept_features(tmp_path: Path):
    """Three images of four have features of the identity that most have: votes on the fourth are left out."""
    store = PreferenceStore(tmp_path / "set")
    group = store.add_group("cat", images(10, 20, 30, 40))
    assert known(store, store.folder) is None
    keep_features(store.folder, "few", {group.names[0]: np.ones(2)})
    keep_features(store.folder, "most", {name: np.array([row, 1.0]) for row, name in enumerate(group.names[:3])})
    keep_features(store.folder, "others", {f"{row}.png": np.ones(2) for row in range(9)})
    before = known(store, store.folder)
    assert before is not None and before.head.score(np.ones((1, 2))).tolist() == [0.0]
    while store.next(1):
        vote_left(store)
    found = known(store, store.folder)
    assert found is not None
    assert (found.identity, sorted(found.features)) == ("most", sorted(group.names[:3]))
    assert (found.assessment.pairs, found.assessment.prompts) == (3, 1)


def test_a_set_is_looked_at_under_its_own_names_and_with_its_ties(tmp_path: Path):
    store = PreferenceStore(tmp_path / "set")
    store.add_group("cat", images(10, 20, 30))
    vote_left(store)
    (question,) = store.next(1)
    store.vote(question.pair, "tie")
    found = fit_scan(scan_folder(store.folder), Shade(), store.folder)
    assert found.trained_on == 2
    assert set(kept_features(store.folder)["shade"]) == set(store.groups()[0].names)
    assert known(store, store.folder) is not None
