"""Two sides of a blind test that differ in more than the LoRA are told, by their candidates or by the graph."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from dspo_train.exceptions import ConfigError
from dspo_train.pairs.likeness import refuse_unlike_graphs, refuse_unlike_images

SETTINGS = {"steps": 20, "cfg": 7.0, "sampler_name": "euler", "width": 512, "negative": ""}


def images(seeds: tuple[int, ...] = (7, 7, 7), prompts: str = "abc", **changes: Any) -> tuple[Any, Any, Any]:
    return tuple(prompts), seeds, {**SETTINGS, **changes}


def compare(base: tuple[Any, Any, Any], aligned: tuple[Any, Any, Any]) -> None:
    refuse_unlike_images(*zip(base, aligned, strict=True))


@pytest.mark.parametrize(
    ("aligned", "message"),
    [
        (images((7, 7, 8)), "image 3: seed 7 without the LoRA, 8 with it; draw both sides"),
        (images(prompts="abd"), "image 3: prompt 'c' without the LoRA, 'd' with it"),
        (images((7, 8, 7), prompts="abd"), "image 3: prompt 'c'"),
        (images(steps=30), "steps 20 without the LoRA, 30 with it"),
        (images(sampler_name="heun"), "sampler_name 'euler' without the LoRA, 'heun' with it"),
        (images(width=768), "width 512 without the LoRA, 768 with it"),
    ],
)
def test_the_first_difference_is_named(aligned: tuple[Any, Any, Any], message: str) -> None:
    with pytest.raises(ConfigError, match="^" + message):
        compare(images(), aligned)


def test_sides_that_differ_in_the_lora_alone() -> None:
    compare(images(), images())
    compare(images(lora_name="none"), images(lora_name="mine.safetensors", strength=0.5))


def sampler(name: str, model: str, **changes: Any) -> dict[str, Any]:
    """KSampler and decoder; images from `NAME-d`."""
    values = {"seed": 5, "steps": 20, "cfg": 7.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    wires = {"model": [model, 0], "positive": ["p", 0], "negative": ["n", 0], "latent_image": ["l", 0]}
    return {
        f"{name}-k": {"class_type": "KSampler", "inputs": {**values, **wires, **changes}},
        f"{name}-d": {"class_type": "VAEDecode", "inputs": {"samples": [f"{name}-k", 0], "vae": ["1", 2]}},
    }


def graph(with_lora: dict[str, Any] | None = None, base: str = "a-d", aligned: str = "b-d") -> dict[str, Any]:
    """Two KSamplers, `a` without a LoRA and `b` with one, whose values `with_lora` changes."""
    lora = {"model": ["1", 0], "lora_name": "mine.safetensors", "strength_model": 1.0}
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15.safetensors"}},
        "p": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "red dog"}},
        "q": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "blue cat"}},
        "n": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": ""}},
        "l": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 2}},
        "seed": {"class_type": "PrimitiveInt", "inputs": {"value": 5}},
        "other": {"class_type": "PrimitiveInt", "inputs": {"value": 6}},
        "lora": {"class_type": "LoraLoaderModelOnly", "inputs": lora},
        **sampler("a", "1"),
        **sampler("b", "lora", **(with_lora or {})),
        "t": {"class_type": "DSPOBlindTestImages", "inputs": {"base": [base, 0], "aligned": [aligned, 0]}},
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 6}, "seed 5 without the LoRA, 6 with it .in the graph: KSampler #a-k and KSampler #b-k.*to fixed$"),
        ({"seed": ["other", 0]}, "seed 5 without the LoRA, 6 with it"),
        ({"steps": 30}, "steps 20 without the LoRA, 30 with it .*give both the same$"),
        ({"cfg": 1.0}, "cfg 7.0 without the LoRA, 1.0 with it"),
        ({"scheduler": "karras"}, "scheduler 'normal' without the LoRA, 'karras' with it"),
        ({"positive": ["q", 0]}, "text 'red dog' without the LoRA, 'blue cat' with it .*CLIPTextEncode #p"),
    ],
)
def test_samplers_behind_the_sockets_are_compared(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        refuse_unlike_graphs(graph(changes), "t")


def test_graphs_that_differ_in_the_lora_alone() -> None:
    refuse_unlike_graphs(graph(), "t")
    refuse_unlike_graphs(graph({"seed": ["seed", 0]}), "t")
    refuse_unlike_graphs(graph(base="b-d", aligned="b-d"), "t")


def test_swapped_inputs_are_noticed() -> None:
    with pytest.raises(ConfigError, match=r"the LoRA stands behind `base` \(LoraLoaderModelOnly #lora\).*swap"):
        refuse_unlike_graphs(graph(base="b-d", aligned="a-d"), "t")
    off = graph(base="b-d", aligned="a-d")
    off["lora"]["inputs"]["strength_model"] = 0
    refuse_unlike_graphs(off, "t")


def test_a_lora_on_both_sides_is_no_side() -> None:
    """Only what stands behind one side alone tells which is which."""
    both = graph()
    other = {"model": ["1", 0], "lora_name": "style.safetensors", "strength_model": 1.0}
    both["style"] = {"class_type": "LoraLoaderModelOnly", "inputs": other}
    for name in ("a-k", "lora"):
        both[name]["inputs"]["model"] = ["style", 0]
    refuse_unlike_graphs(both, "t")
    swapped = copy.deepcopy(both)
    swapped["t"]["inputs"] = {"base": ["b-d", 0], "aligned": ["a-d", 0]}
    with pytest.raises(ConfigError, match="#lora"):
        refuse_unlike_graphs(swapped, "t")


def test_candidates_that_draw_with_a_lora_of_their_own() -> None:
    values = {"prompts": "a\nb", "seed": 5, "steps": 20, "model": ["1", 0]}
    nodes: dict[str, Any] = {"1": {"class_type": "CheckpointLoaderSimple", "inputs": {}}}
    for name, lora in (("a", "none"), ("b", "mine.safetensors")):
        nodes[name] = {"class_type": "DSPOCandidates", "inputs": {**values, "lora_name": lora}}
    nodes["t"] = {"class_type": "DSPOBlindTestImages", "inputs": {"base": ["a", 0], "aligned": ["b", 0]}}
    refuse_unlike_graphs(nodes, "t")
    nodes["b"]["inputs"]["seed"] = 9
    with pytest.raises(ConfigError, match="seed 5 without the LoRA, 9 with it"):
        refuse_unlike_graphs(nodes, "t")
    nodes["t"]["inputs"] = {"base": ["b", 0], "aligned": ["a", 0]}
    with pytest.raises(ConfigError, match="swap the two wires"):
        refuse_unlike_graphs(nodes, "t")


def test_the_compare_samplers_two_outputs() -> None:
    nodes: dict[str, Any] = {"7": {"class_type": "DSPOCompareSampler", "inputs": {"lora_name": "mine.safetensors"}}}
    nodes["t"] = {"class_type": "DSPOBlindTestImages", "inputs": {"base": ["7", 0], "aligned": ["7", 1]}}
    refuse_unlike_graphs(nodes, "t")
    nodes["t"]["inputs"] = {"base": ["7", 1], "aligned": ["7", 0]}
    with pytest.raises(ConfigError, match="swap the two wires"):
        refuse_unlike_graphs(nodes, "t")


@pytest.mark.parametrize("broken", [None, [], {}, {"t": 3}, {"t": {"class_type": "X", "inputs": {"base": ["t", 0]}}}])
def test_what_is_no_graph_says_nothing(broken: Any) -> None:
    refuse_unlike_graphs(broken, "t")


def test_a_circle_ends() -> None:
    turning = graph()
    turning["a-k"]["inputs"]["latent_image"] = ["a-d", 0]
    turning["b-k"]["inputs"]["latent_image"] = ["b-d", 0]
    turning["lora"]["inputs"]["model"] = ["lora", 0]
    refuse_unlike_graphs(turning, "t")
