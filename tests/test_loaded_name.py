"""The name of a wired model, read from the graph."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

PATH = Path(__file__).resolve().parents[1] / "nodes" / "loaded_name.py"  # `nodes` is ComfyUI's name, not a package here
SPEC = importlib.util.spec_from_file_location("loaded_name", PATH)
assert SPEC is not None and SPEC.loader is not None
MODULE: Any = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(MODULE)

LOADER = {"inputs": {"unet_name": "flux/z_image_bf16.safetensors", "weight_dtype": "default"}}
CHECKPOINT = {"inputs": {"ckpt_name": "sdxl\\\\juggernaut.v9.safetensors"}}
LORA = {"inputs": {"model": ["1", 0], "lora_name": "style.safetensors", "strength_model": 1.0}}
SAMPLING = {"inputs": {"model": ["2", 0], "shift": 3.0}}


def trained(model: Any) -> dict[str, Any]:
    return {"inputs": {"model": model, "clip": ["1", 1], "name": "my-taste"}}


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ({"1": LOADER, "9": trained(["1", 0])}, "z_image_bf16"),
        ({"1": CHECKPOINT, "9": trained(["1", 0])}, "juggernaut.v9"),
        ({"1": LOADER, "2": LORA, "3": SAMPLING, "9": trained(["3", 0])}, "z_image_bf16"),
        ({"1": {"inputs": {}}, "9": trained(["1", 0])}, ""),  # the playground
        ({"2": {"inputs": {"model": ["3", 0]}}, "3": {"inputs": {"model": ["2", 0]}}, "9": trained(["2", 0])}, ""),
        ({"9": trained(["gone", 0])}, ""),
        ({}, ""),
    ],
)
def test_the_wire_is_followed_to_the_loader(prompt: dict[str, Any], name: str) -> None:
    assert MODULE.loaded_name(prompt, "9", "model") == name


OURS = {"inputs": {"model": ["2", 0], "lora_name": "dspo/my-taste-01.safetensors", "strength": 1.0}}
NONE = {"inputs": {"model": ["3", 0], "lora_name": "none"}}


@pytest.mark.parametrize(
    ("prompt", "names"),
    [
        ({"1": LOADER, "9": trained(["1", 0])}, []),
        ({"1": LOADER, "2": LORA, "9": trained(["2", 0])}, ["style.safetensors"]),
        (
            {"1": LOADER, "2": LORA, "3": OURS, "4": NONE, "9": trained(["4", 0])},
            ["style.safetensors", "dspo/my-taste-01.safetensors"],
        ),
        ({"2": {"inputs": {"model": ["2", 0], "lora_name": "a"}}, "9": trained(["2", 0])}, ["a", "a"]),  # a circle ends
        ({}, []),
    ],
)
def test_the_loras_on_the_wire(prompt: dict[str, Any], names: list[str]) -> None:
    assert MODULE.loras_on(prompt, "9", "model") == names
