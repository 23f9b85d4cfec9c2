"""What a LoRA file says of its parents, and which LoRAs do not go together."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file

from dspo_train.lora.header import tensor_hash, tensors_size, with_metadata
from dspo_train.lora.lineage import Lineage, NamedFile, conflicts, file_metadata, lineage_in, refined_from

FIRST, SECOND, OTHER = NamedFile("taste-01", "aa"), NamedFile("taste-02", "bb"), NamedFile("style")
REFINED = Lineage((FIRST,))


def test_metadata_and_back() -> None:
    made = Lineage((SECOND, FIRST), ("style", "größe"))
    assert lineage_in(made.metadata()) == made
    assert Lineage().metadata() == {"dspo.contains": "", "dspo.trained_with": ""}
    assert lineage_in({"dspo.contains": "{", "dspo.trained_with": "3"}) == Lineage()


def test_a_third_round_names_both_before_it(tmp_path: Path) -> None:
    tensors = {"lora_unet_x.lora_up.weight": torch.ones(2, 2)}
    first = tmp_path / "taste-01.safetensors"
    save_file(tensors, str(first))
    second = tmp_path / "taste-02.safetensors"
    of_second = refined_from(first, "taste-01")
    save_file({key: 2 * value for key, value in tensors.items()}, str(second), metadata=of_second.metadata())
    third = refined_from(second, "taste-02", wired=["style"])
    assert [one.name for one in third.contains] == ["taste-02", "taste-01"] and third.parent == "taste-02"
    assert third.contains[1].hash == tensor_hash(first.read_bytes())
    assert third.trained_with == ("style",)
    assert refined_from(tmp_path / "gone.safetensors", "gone").contains == (NamedFile("gone"),)


@pytest.mark.parametrize(
    ("lora", "made", "loaded", "words"),
    [
        (
            SECOND,
            REFINED,
            {FIRST: Lineage()},
            "taste-02 contains taste-01 already, and taste-01 is loaded too: take it out",
        ),
        (SECOND, REFINED, {NamedFile("renamed", "aa"): Lineage()}, "taste-02 contains renamed already"),
        (FIRST, Lineage(), {SECOND: REFINED}, "taste-02, which is loaded too, contains taste-01 already"),
        (FIRST, Lineage(), {FIRST: Lineage()}, "taste-01 is loaded twice"),
        (FIRST, Lineage((), ("style",)), {}, "taste-01 was trained on a model with style, which is not loaded here"),
    ],
)
def test_what_does_not_go_together(lora: NamedFile, made: Lineage, loaded: Any, words: str) -> None:
    (said,) = conflicts(lora, made, loaded)
    assert said.startswith(words)


def test_what_goes_together() -> None:
    assert conflicts(SECOND, REFINED, {OTHER: Lineage()}) == []
    assert conflicts(SECOND, REFINED, {NamedFile("taste-01", "cc"): Lineage()}) == []  # the same name, other tensors
    assert conflicts(FIRST, Lineage((), ("Style",)), {OTHER: Lineage()}) == []


def test_metadata_is_added_and_the_tensors_stay(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(5.0), "b": torch.ones(3, dtype=torch.float16)}
    data = save(tensors, {"dspo.pairs": "3"})
    more = with_metadata(data, {"modelspec.thumbnail": "data:x", "dspo.note": "schön"})
    path = tmp_path / "x.safetensors"
    path.write_bytes(more)
    with safe_open(str(path), framework="pt") as file:
        assert file.metadata() == {"dspo.pairs": "3", "modelspec.thumbnail": "data:x", "dspo.note": "schön"}
    assert all(torch.equal(value, tensors[key]) for key, value in load_file(str(path)).items())
    assert tensor_hash(more) == tensor_hash(data) and len(more) > len(data)
    assert tensors_size(path) == 5 * 4 + 3 * 2
    assert (len(more) - tensors_size(path)) % 8 == 0
    path.write_bytes(more[:-4])
    assert tensors_size(path) == 5 * 4 + 3 * 2 - 4
    path.write_bytes(b"no LoRA")
    assert file_metadata(path) == {} and tensors_size(path) < 0


PATH = Path(__file__).resolve().parents[1] / "nodes" / "loaded_name.py"  # `nodes` is ComfyUI's name, not a package here
SPEC = importlib.util.spec_from_file_location("loaded_name_of_loras", PATH)
assert SPEC is not None and SPEC.loader is not None
GRAPH: Any = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(GRAPH)


def test_loras_along_the_wire() -> None:
    power = {"model": ["1", 0], "lora_1": {"on": True, "lora": "p/one.safetensors", "strength": 1}}
    power["lora_2"] = {"on": False, "lora": "off.safetensors", "strength": 1}
    prompt = {
        "1": {"inputs": {"ckpt_name": "sd15.safetensors"}},
        "2": {"inputs": power},
        "3": {"inputs": {"model": ["2", 0], "lora_name": "two.safetensors", "strength_model": 0.5}},
        "4": {"inputs": {"model": ["3", 0], "lora_name": "zero.safetensors", "strength_model": 0}},
        "5": {"inputs": {"model": ["4", 0], "lora": ["9", 0], "lora_name": "unused.safetensors", "strength": 1.0}},
        "6": {"inputs": {"model": ["5", 0], "lora_name": "none"}},
        "9": {"inputs": {"model": ["3", 0], "pairs": ["8", 0], "refine_lora": "parent.safetensors"}},
    }
    assert GRAPH.loaded_loras(prompt, "6", "model") == ["two.safetensors", "p/one.safetensors"]
    assert GRAPH.loaded_loras(prompt, "2", "model") == []
    assert GRAPH.loaded_loras({"2": {"inputs": {"model": ["2", 0]}}}, "2", "model") == []
