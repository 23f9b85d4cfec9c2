"""What lies beside a delivered LoRA: the pictures are the result's own, and nobody else's file is touched."""

from __future__ import annotations

import base64
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from test_training import job
from tiny_runs import write_base, write_pairs

from dspo_train import files
from dspo_train.exceptions import RunError
from dspo_train.lora.header import tensor_hash
from dspo_train.runs.examples import chosen, draw_examples, examples_of
from dspo_train.runs.folder import RunFolder
from dspo_train.runs.keepsake import card_of, deliver, note_test, run_facts
from dspo_train.runs.names import undelivered
from dspo_train.runs.session import open_session


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run "taste-01" with examples."""
    root = tmp_path_factory.mktemp("keepsake")
    write_base(root / "base")
    write_pairs(root / "pairs")
    with open_session(job(root, root / "runs" / "taste-01", steps=4, optim={"lr": 0.02})) as session:
        list(session.reports())
        done: list[tuple[int, int]] = []
        draw_examples(session, lambda step, total: done.append((step, total)))
        with session.results.final(session.monitor.best):
            again = session.model.draw("red dog 0", 1000, 64, lambda step, total: None)
    assert len(done) > 4 and done[-1][0] == done[-1][1]
    run = RunFolder(root / "runs" / "taste-01")
    files.write_json(run.request, {"pairs": ["my-taste", "stamp"]})
    assert np.array_equal(np.asarray(again), np.asarray(examples_of(run)[0].lora))
    return root / "runs" / "taste-01"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(trained, tmp_path / "runs" / "taste-01")))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "loras" / "taste-01.safetensors"


def metadata(path: Path) -> dict[str, str]:
    with safe_open(str(path), framework="pt") as file:
        return file.metadata()


def test_examples_show_the_base_and_the_result(run: RunFolder) -> None:
    examples = examples_of(run)
    assert [(one.prompt, one.seed) for one in examples] == [("red dog 0", 1000), ("red dog 1", 1001)]
    for one in examples:
        assert one.base.size == one.lora.size == (64, 64)
        assert not np.array_equal(np.asarray(one.base), np.asarray(one.lora))
    (run.folder / "examples" / "2-lora.png").unlink()
    assert examples_of(run) == []


def test_three_prompts_from_all_over_the_set() -> None:
    assert chosen(["a", "b", "a", "c", "d", "e"]) == ["a", "c", "e"]
    assert chosen(["a", "a"]) == ["a"] and chosen(["a", "b"]) == ["a", "b"] and chosen([""]) == [""]


def test_delivered_with_a_picture_and_a_description(run: RunFolder, path: Path) -> None:
    assert deliver(run, path) == []
    assert sorted(each.name for each in path.parent.iterdir()) == [
        "taste-01.json",
        "taste-01.preview.png",
        "taste-01.safetensors",
    ]
    assert tensor_hash(path.read_bytes()) == tensor_hash(run.result.read_bytes())
    assert load_file(path).keys() == load_file(run.result).keys()
    kind, _, data = metadata(path)["modelspec.thumbnail"].partition(",")
    assert kind == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (64, 64)
    with Image.open(path.with_suffix(".preview.png")) as picture:
        assert picture.height > picture.width > 2 * 384
    card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert card["preferred weight"] == 1.0 and card["activation text"] == ""
    assert card["description"].startswith("Preference LoRA for base: 6 pairs, 4 steps")
    assert card["notes"].startswith("No trigger words.")
    facts = run_facts(run)
    assert (facts["lora"], facts["set"], facts["base"], facts["steps"]) == ("taste-01", "my-taste", "base", 4)
    assert card["dspo"].items() >= facts.items()
    assert str(path.parent.parent) not in path.with_suffix(".json").read_text(encoding="utf-8")


def test_the_card_names_the_objectives_own_number(run: RunFolder) -> None:
    card = card_of(run, None)
    assert (card.title, len(card.examples), card.result) == ("taste-01", 2, None)
    known = dict(card.facts)
    assert (known["set"], known["pairs"], known["steps"], known["rank"]) == ("my-taste", "6", "4", "2")
    assert "strength" in known and "loser_drift" not in known


def test_delivering_again_changes_nothing(run: RunFolder, path: Path) -> None:
    deliver(run, path)
    before = {each: (each.read_bytes(), each.stat().st_mtime_ns) for each in path.parent.iterdir()}
    assert deliver(run, path) == []
    assert before == {each: (each.read_bytes(), each.stat().st_mtime_ns) for each in path.parent.iterdir()}
    assert undelivered(run.folder.parent, "taste", path.parent) == []
    path.unlink()
    assert undelivered(run.folder.parent, "taste", path.parent) == ["taste-01"]


def test_without_pictures_the_file_is_the_runs_own(run: RunFolder, path: Path) -> None:
    shutil.rmtree(run.folder / "examples")
    deliver(run, path)
    assert path.read_bytes() == run.result.read_bytes()
    assert not path.with_suffix(".preview.png").exists() and path.with_suffix(".json").exists()


def test_other_peoples_files_are_left_as_they_are(run: RunFolder, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"somebody's own")
    Image.new("RGB", (8, 8)).save(path.with_suffix(".preview.png"))
    path.with_suffix(".json").write_text('{"notes": "mine"}', encoding="utf-8")
    picture = path.with_suffix(".preview.png").read_bytes()
    (said,) = deliver(run, path)
    (kept,) = path.parent.glob("taste-01.replaced-*.safetensors")
    assert kept.read_bytes() == b"somebody's own" and kept.name in said
    assert tensor_hash(path.read_bytes()) == tensor_hash(run.result.read_bytes())
    assert path.with_suffix(".preview.png").read_bytes() == picture
    note_test(path, {"rate": 0.7}, "Better.")
    assert path.with_suffix(".json").read_text(encoding="utf-8") == '{"notes": "mine"}'


def test_what_an_earlier_lora_of_the_name_left_is_replaced(run: RunFolder, path: Path) -> None:
    deliver(run, path)
    picture, card = path.with_suffix(".preview.png"), path.with_suffix(".json")
    fresh = picture.read_bytes(), card.read_bytes()
    old = json.loads(card.read_text(encoding="utf-8"))
    old["dspo"] |= {"hash": "other", "test": {"rate": 1.0}}
    files.write_json(card, old)
    from PIL.PngImagePlugin import PngInfo

    about = PngInfo()
    about.add_text("dspo", "other")
    Image.new("RGB", (8, 8)).save(picture, pnginfo=about)
    deliver(run, path)
    assert (picture.read_bytes(), card.read_bytes()) == fresh


def test_a_test_result_beside_a_persons_words(run: RunFolder, path: Path) -> None:
    deliver(run, path)
    card = path.with_suffix(".json")
    note_test(path, {"rate": 0.7, "low": 0.6, "high": 0.8}, "Preferred in 70%.")
    found = json.loads(card.read_text(encoding="utf-8"))
    assert found["dspo"]["test"] == {"rate": 0.7, "low": 0.6, "high": 0.8}
    assert found["notes"].endswith("Preferred in 70%.") and found["notes"].startswith("No trigger words.")
    lora = path.read_bytes()
    note_test(path, {"rate": 0.4}, "Preferred in 40%.")
    again = json.loads(card.read_text(encoding="utf-8"))
    assert again["notes"].endswith("Preferred in 40%.") and "70%" not in again["notes"]
    files.write_json(card, {**again, "notes": "my own words", "preferred weight": 0.8})
    note_test(path, {"rate": 0.5}, "Preferred in 50%.")
    kept = json.loads(card.read_text(encoding="utf-8"))
    assert (kept["notes"], kept["preferred weight"], kept["dspo"]["test"]) == ("my own words", 0.8, {"rate": 0.5})
    assert path.read_bytes() == lora, "a run is found again by this file"
    note_test(path.with_name("gone.safetensors"), {"rate": 0.5}, "")
    assert not path.with_name("gone.json").exists()


def test_a_full_disk_costs_the_picture_and_not_the_lora(
    run: RunFolder, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = files.write_bytes

    def full(target: Path, *more: object) -> None:
        if target.suffix != ".safetensors":
            raise RunError("the disk is full")
        write(target, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(files, "write_bytes", full)
    said = deliver(run, path)
    assert path.exists() and "the preview of taste-01.safetensors could not be written" in said[0]
