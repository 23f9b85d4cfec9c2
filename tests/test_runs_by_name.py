"""Presets, names of runs, and what is said before a run begins."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_runs import write_pairs

from benchmarks.memory import published
from dspo_train.config import LoraSpec, TrainConfig
from dspo_train.config.naming import rendered
from dspo_train.exceptions import ConfigError, DatasetError, RunError
from dspo_train.models.families import FAMILIES
from dspo_train.objectives import OBJECTIVES, bind
from dspo_train.pairs import scan_pairs
from dspo_train.pairs.discover import find_sets, pairs_stamp, stamp
from dspo_train.runs import preflight
from dspo_train.runs.folder import RunFolder
from dspo_train.runs.graph_words import GRAPH_WORDS
from dspo_train.runs.names import claim, find_run, undelivered
from dspo_train.runs.presets import PRESETS, configure

# Presets


def test_a_preset_is_what_it_says():
    config = configure("balanced", 1024, {"steps": 400})
    assert config.objective_args == {"strength": 30.0}
    assert config.optim.lr == 1e-4
    assert config.optim.warmup == 20  # 5% of 400
    assert config.lora == LoraSpec(rank=16, alpha=16, targets="attention")
    assert config.data.resolution == 1024
    assert config.batch_size * config.accumulate == 4


def test_presets_are_ordered():
    gentle, balanced, strong = PRESETS.values()
    for name in ("objective_args.strength", "optim.lr", "lora.rank"):
        assert gentle[name] < balanced[name] < strong[name]


def test_the_nodes_tooltip_says_what_the_presets_are():
    """By the snapshot that tests/host holds the real schema to."""
    schemas = Path(__file__).parent / "host" / "schemas.json"
    train = json.loads(schemas.read_text(encoding="utf-8"))["DSPOTrainLora"]["inputs"]["required"]
    sentences = train["preset"]["tooltip"].split(". ")
    assert train["preset"]["options"] == ["Gentle", "Balanced", "Strong"]
    for sentence, (name, preset) in zip(sentences, PRESETS.items(), strict=True):
        said, _, figures = sentence.partition(": ")
        assert said.lower() == name
        numbers = [float(text) for text in re.findall(r"[0-9]+(?:e-[0-9]+)?", figures)]
        assert numbers == [preset[key] for key in ("objective_args.strength", "lora.rank", "optim.lr")]
        assert ("MLP" in figures) == (preset["lora.targets"] == "attention+mlp")


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_can_be_chosen_and_given_its_own_number(objective):
    plain = configure("gentle", 512, {"objective": objective})
    assert plain.objective_args == ({"strength": 10.0} if objective == "dspo" else {})
    bind(objective, plain.objective_args)
    own = OBJECTIVES[objective].own_number
    if own is None:
        with pytest.raises(ConfigError, match=f"objective '{objective}' has no number of its own"):
            configure("gentle", 512, {"objective": objective}, 0.5)
        return
    told = configure("gentle", 512, {"objective": objective}, 0.5)
    assert told.objective_args == {own: 0.5}
    bind(objective, told.objective_args)


def test_a_number_out_of_its_range_is_told_by_its_name_in_the_graph():
    with pytest.raises(ConfigError) as caught:
        configure("gentle", 512, {"objective": "dspo_e"}, 5.0)
    told = rendered(str(caught.value), GRAPH_WORDS)
    assert told == "objective_value must be between 0 and 0.999, got 5.0"


def test_changes_go_before_the_preset():
    changes = {"optim.lr": 3e-4, "lora.rank": 4, "lora.targets": "attention", "data.resolution": 64, "seed": 7}
    config = configure("strong", 512, changes)
    assert (config.optim.lr, config.lora.rank, config.lora.targets) == (3e-4, 4, "attention")
    assert (config.data.resolution, config.data.bucket_step, config.seed) == (64, 64, 7)
    assert config.lora.alpha == 4


def test_a_short_run_has_a_warm_up_that_ends():
    assert configure("gentle", 512, {"steps": 1}).optim.warmup == 0


# Names


def run(parent, name, request):
    return find_run(parent, name, request) or claim(parent, name, request, parent / "loras")


def test_the_same_request_finds_its_run_and_another_makes_a_new_one(tmp_path):
    first = run(tmp_path, "cats", {"steps": 4, "size": (1, 2)})
    assert first.folder.name == "cats-01"
    assert run(tmp_path, "cats", {"size": [1, 2], "steps": 4}).folder == first.folder
    assert run(tmp_path, "cats", {"steps": 5, "size": [1, 2]}).folder.name == "cats-02"
    assert run(tmp_path, "dogs", {"steps": 4, "size": [1, 2]}).folder.name == "dogs-01"
    assert run(tmp_path, "cats", {"steps": 4, "size": [1, 2]}).folder == first.folder


def test_a_run_is_found_though_a_setting_was_added_since(tmp_path):
    """Written without `data.flip` and `keep`: they were at what are the defaults now."""
    settings = TrainConfig(steps=7).to_dict()
    older = {key: value for key, value in settings.items() if key not in ("keep", "save_every")}
    older["data"] = {key: value for key, value in settings["data"].items() if key != "flip"}
    first = run(tmp_path, "cats", {"settings": older})
    now = {key: value for key, value in settings.items() if key != "save_every"}
    assert run(tmp_path, "cats", {"settings": now}).folder == first.folder
    now["data"]["flip"] = True
    assert run(tmp_path, "cats", {"settings": now}).folder.name == "cats-02"


def test_a_run_goes_on_though_a_setting_was_added_since(tmp_path):
    folder, settings = RunFolder(tmp_path / "run"), TrainConfig().to_dict()
    older = {**settings, "data": {key: value for key, value in settings["data"].items() if key != "flip"}}
    folder.start({"config": older}, None)
    folder.check({"config": settings})
    with pytest.raises(RunError, match=r"config\.data\.flip was false, now true"):
        folder.check({"config": {**settings, "data": {**settings["data"], "flip": True}}})


def test_a_removed_run_does_not_give_its_number_to_an_older_name(tmp_path):
    run(tmp_path, "cats", {"n": 1})
    second = run(tmp_path, "cats", {"n": 2})
    shutil.rmtree(tmp_path / "cats-01")
    assert run(tmp_path, "cats", {"n": 3}).folder.name == "cats-03"
    assert run(tmp_path, "cats", {"n": 2}).folder == second.folder


def test_the_number_of_a_lora_whose_run_is_gone_is_not_given_again(tmp_path):
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras" / "cats-04.safetensors").write_bytes(b"trained before")
    assert run(tmp_path, "cats", {}).folder.name == "cats-05"


def test_a_finished_run_whose_lora_was_removed_or_changed_is_told(tmp_path):
    folder = run(tmp_path, "cats", {})
    assert undelivered(tmp_path, "cats", tmp_path / "loras") == []  # nothing is finished
    folder.result.write_bytes(b"LoRA")
    assert undelivered(tmp_path, "cats", tmp_path / "loras") == ["cats-01"]
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras" / folder.result.name).write_bytes(b"LoRA")
    assert undelivered(tmp_path, "cats", tmp_path / "loras") == []
    (tmp_path / "loras" / folder.result.name).write_bytes(b"LoR")
    assert undelivered(tmp_path, "cats", tmp_path / "loras") == ["cats-01"]


def test_a_torn_request_is_no_match_and_is_left_alone(tmp_path):
    first = run(tmp_path, "cats", {"n": 1})
    first.request.write_text('{"n": ', encoding="utf-8")
    assert run(tmp_path, "cats", {"n": 1}).folder.name == "cats-02"
    assert first.request.read_text(encoding="utf-8") == '{"n": '


def test_names_with_special_characters_are_no_patterns(tmp_path):
    assert run(tmp_path, "a+(b)", {}).folder.name == "a+(b)-01"
    assert run(tmp_path, "a+(b)", {}).folder.name == "a+(b)-01"
    with pytest.raises(ConfigError, match="the LoRA's name"):
        run(tmp_path, "../a", {})


# Finding sets


def test_sets_are_found_at_any_reasonable_depth(tmp_path):
    write_pairs(tmp_path / "flat", 1)
    write_pairs(tmp_path / "deep" / "er", 1)
    for side in ("chosen", "rejected"):
        (tmp_path / "sides" / side).mkdir(parents=True)
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "metadata.jsonl").write_text("", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    write_pairs(tmp_path / ".hidden", 1)
    write_pairs(tmp_path / "a" / "b" / "c" / "too-deep", 1)
    assert find_sets(tmp_path) == ["deep/er", "flat", "sides", "table"]
    assert find_sets(tmp_path / "not-there") == []


def test_a_linked_folder_is_not_entered(tmp_path):
    write_pairs(tmp_path / "outside", 1)
    (tmp_path / "root").mkdir()
    try:
        (tmp_path / "root" / "link").symlink_to(tmp_path / "outside", target_is_directory=True)
    except OSError:
        pytest.skip("this system does not let us make links")
    assert find_sets(tmp_path / "root") == []


def test_the_stamp_changes_with_the_files_and_not_with_our_cache(tmp_path):
    folder = write_pairs(tmp_path / "set", 2)
    before = stamp(folder)
    assert stamp(folder) == before
    (folder / ".dspo_cache").mkdir()
    (folder / ".dspo_cache" / "x").write_text("x", encoding="utf-8")
    assert stamp(folder) == before
    caption = folder / "pair0.txt"
    os.utime(caption, ns=(1, 1))
    touched = stamp(folder)
    assert touched != before
    caption.unlink()
    assert stamp(folder) not in (before, touched)


def test_what_is_trained_has_a_stamp_that_strays_do_not_change(tmp_path):
    folder = write_pairs(tmp_path / "set", 3)
    before = pairs_stamp(scan_pairs(folder))
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / "notes.md").write_text("x", encoding="utf-8")
    os.utime(folder / "pair0.txt", ns=(1, 1))
    assert pairs_stamp(scan_pairs(folder)) == before
    (folder / "pair0.txt").write_text("another prompt", encoding="utf-8")
    told = pairs_stamp(scan_pairs(folder))
    os.utime(folder / "pair1_w.png", ns=(1, 1))
    assert len({before, told, pairs_stamp(scan_pairs(folder))}) == 3


# Before a run


def test_few_pairs_and_many_rounds_are_said(tmp_path):
    scan = scan_pairs(write_pairs(tmp_path, 6))
    config = configure("balanced", 512, {"steps": 400})
    few, often = preflight.check_pairs(scan, config)
    assert few.startswith("6 pairs are few")
    assert "267 times" in often  # 400 steps of 4 pairs over 6
    assert "lower `steps` to 150" in often  # 150 steps of 4 pairs: each 100 times
    assert preflight.check_pairs(scan, configure("balanced", 512, {"steps": 1}))[1:] == []


def test_pairs_that_are_not_trained_on_are_not_counted(tmp_path):
    """Ten pairs of two prompts: half of them held out, or one of each prompt."""
    scan = scan_pairs(write_pairs(tmp_path, 10))
    for options, left in (({"held_out.share": 0.5}, 5), ({"data.one_per_prompt": True}, 2)):
        few, often = preflight.check_pairs(scan, configure("balanced", 512, {"steps": 400, **options}))
        assert few.startswith(f"{left} pairs are few")
        assert f"{1600 // left} times" in often


def test_a_pass_holds_no_pair_twice(tmp_path):
    scan = scan_pairs(write_pairs(tmp_path, 10))
    for options, most in (({}, 10), ({"held_out.share": 0.5}, 5), ({"data.one_per_prompt": True}, 2)):
        config = configure("balanced", 512, {"batch_size": 256, **options})
        assert preflight.at_most_the_pairs(config, scan).batch_size == most
    assert preflight.at_most_the_pairs(configure("balanced", 512, {"batch_size": 3}), scan).batch_size == 3


def test_pairs_without_captions_are_explained(tmp_path):
    folder = write_pairs(tmp_path, 3)
    (folder / "pair0.txt").unlink()
    notes = preflight.check_pairs(scan_pairs(folder), configure("balanced", 512, {"steps": 1}))
    assert "1 pair left out for want of a caption (pair0_w.png)" in notes
    for text in folder.glob("*.txt"):
        text.unlink()
    with pytest.raises(DatasetError, match="none of its 3 pairs has a caption"):
        preflight.check_pairs(scan_pairs(folder), configure("balanced", 512, {"steps": 1}))
    allowed = scan_pairs(folder, allow_empty_captions=True)
    assert len(allowed.usable()) == 3


def test_a_full_disk_is_known_before(tmp_path, monkeypatch):
    scan = scan_pairs(write_pairs(tmp_path / "set", 6))
    config = replace(configure("balanced", 512, {"steps": 10, "data.resolution": 512}), keep_checkpoints=2)
    usage = namedtuple("usage", "total used free")
    setup = preflight.setup_of(published(FAMILIES["sd15"]), config)
    images = 12 * (512 * 512 / 64 * 8 * 4 + 77 * 768 * 4)  # 8 float32 for each 64 pixels, and the caption
    adapter = 4 * 16 * 199296  # rank 16 on SD 1.5's attention, float32
    need = images + 3 * 4 * adapter + 256 * 2**20
    for free, enough in ((need + 1, True), (need - 1, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda folder, free=free: usage(0, 0, free))
        if enough:
            preflight.check_disk(tmp_path / "run", tmp_path / "cache" / "x", scan, config, setup)
        else:
            with pytest.raises(RunError, match=r"has 0\.4 GB free, but this run may write up to 0\.4 GB"):
                preflight.check_disk(tmp_path / "run", tmp_path / "cache" / "x", scan, config, setup)
