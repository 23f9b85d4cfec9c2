"""Under which file's name a model was loaded, read from the graph: the objects on the wires do not say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

_FILES = ("unet_name", "ckpt_name", "model_name", "gguf_name", "model_path")  # the widgets of loaders
_LORA = re.compile(r"(?i)lora(?:_name)?(?:_?\d+)?")  # the widgets of LoRA loaders
_SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin")
_ON = ("model", "unet", "model1", "base_model")  # the inputs through which a node hands a model on


def loaded_name(prompt: Mapping[str, Any], node_id: str, socket: str) -> str:
    """The file's name without folder and suffix, of the loader that the socket's wire leads back to; empty if unknown.

    Args:
        prompt: nodes by their ids, as queued.
    """
    for inputs in _along(prompt, node_id, socket):
        if found := next((inputs[name] for name in _FILES if isinstance(inputs.get(name), str)), ""):
            return stem_of(found)
    return ""


def loaded_loras(prompt: Mapping[str, Any], node_id: str, socket: str) -> list[str]:
    """The LoRAs that the nodes along the socket's wire load by name, as ComfyUI lists them, the nearest first.

    LoRAs that come in over a wire have no name in the graph.
    """
    return list(dict.fromkeys(name for inputs in _along(prompt, node_id, socket) for name in _loras(inputs)))


def loras_on(prompt: Mapping[str, Any], node_id: str, socket: str) -> list[str]:
    """The LoRAs that loaders along the socket's wire apply, by their names in ComfyUI's list; the first one first."""
    named = [inputs.get("lora_name") for inputs in _along(prompt, node_id, socket)]
    return [name for name in reversed(named) if isinstance(name, str) and name not in ("", "none")]


def stem_of(name: str) -> str:
    """A file's name in one of ComfyUI's lists, without folder and suffix."""
    return PurePath(name.replace("\\", "/")).stem


def _along(prompt: Mapping[str, Any], node_id: str, socket: str) -> Iterator[Mapping[str, Any]]:
    """The inputs of each node that the socket's wire leads back through, the nearest first; a circle ends."""
    node, names = prompt.get(str(node_id), {}), (socket,)
    for _ in range(len(prompt)):
        wire = _wire(node, names)
        if wire is None:
            return
        node, names = prompt.get(str(wire[0]), {}), _ON
        yield node.get("inputs", {})


def _loras(inputs: Mapping[str, Any]) -> Iterator[str]:
    """Names in a loader's inputs: `lora_name`, `lora_01`, or a mapping with `lora` and `on`."""
    if any(isinstance(inputs.get(name), list) for name in ("pairs", "lora")):  # a trainer; or a wire, which wins
        return
    strengths = [inputs[name] for name in ("strength", "strength_model") if name in inputs]
    if strengths and all(value == 0 for value in strengths):
        return
    for key, value in inputs.items():
        if isinstance(value, Mapping):
            value = value.get("lora") if value.get("on", True) else None
        if _LORA.fullmatch(key) and isinstance(value, str) and value.lower().endswith(_SUFFIXES):
            yield value


def _wire(node: Mapping[str, Any], names: tuple[str, ...]) -> list[Any] | None:
    wires = (node.get("inputs", {}).get(name) for name in names)
    return next((wire for wire in wires if isinstance(wire, list) and len(wire) == 2), None)
