"""What a ComfyUI graph in API form says of how an image was drawn: prompt, seed, sampler settings, model.

Values stand in the sampler or, for SamplerCustom, in the nodes behind its `noise`, `guider`, `sampler` and `sigmas`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .comfy_graph import GraphNode, first_samplers, graph_upstream, linked, nodes_of, positive_prompt

LONGEST_VALUE = 200
"""Characters of a setting; a longer one is left out."""

_PARTS = ("noise", "guider", "sampler", "sigmas")
_SETTINGS = {
    "steps": ("steps",),
    "cfg": ("cfg", "cfg_scale", "guidance"),
    "sampler": ("sampler_name",),
    "scheduler": ("scheduler",),
    "denoise": ("denoise",),
}
_SEEDS = ("noise_seed", "seed")
_MODELS = ("ckpt_name", "unet_name", "model_name")
_NUMBERS = ("value", "seed", "noise_seed", "int", "number", "float")
_MAX_DEPTH = 16
_LARGEST_SEED = 2**64 - 1

RecipeValue = int | float | str


@dataclass(frozen=True)
class Recipe:
    """How an image was drawn. The prompt is empty, the seed None and a setting left out where it is not known.

    Attributes:
        settings: plain values by name: `steps`, `cfg`, `sampler`, `scheduler`, `denoise`, `model`.
    """

    prompt: str = ""
    seed: int | None = None
    settings: Mapping[str, RecipeValue] = field(default_factory=dict)


def recipe_of_graph(graph: Any) -> Recipe:
    """What several samplers do not agree on is left out; see `positive_prompt`."""
    nodes = nodes_of(graph)
    found = [dict(_values(nodes, key)) for key in first_samplers(nodes)]
    if not found:
        return Recipe()
    agreed = {name: value for name, value in found[0].items() if all(each.get(name) == value for each in found)}
    seed = agreed.pop("seed", None)
    return Recipe(positive_prompt(nodes), seed_of(seed), agreed)


def recipe_upstream(graph: Any, node: str, socket: str) -> Recipe:
    """As `recipe_of_graph`, of the images on one of a node's sockets alone."""
    return recipe_of_graph(graph_upstream(graph, node, socket))


def seed_of(value: Any) -> int | None:
    """A seed that a sampler can take, or None."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value <= _LARGEST_SEED else None


def plain_of(value: Any) -> RecipeValue | None:
    """A finite number or a short text without surrounding space, or None."""
    if isinstance(value, str):
        return value.strip() if 0 < len(value.strip()) <= LONGEST_VALUE else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e15:
        return None
    return value if math.isfinite(value) else None


def _values(nodes: Mapping[str, GraphNode], sampler: str) -> Iterator[tuple[str, Any]]:
    parts = [nodes[key]["inputs"] for key in _sampler_parts(nodes, sampler)]
    for name, words in _SETTINGS.items():
        value = _first(nodes, parts, words)
        if (plain := plain_of(value)) is not None:
            yield name, plain
    if (seed := seed_of(_first(nodes, parts, _SEEDS))) is not None:
        yield "seed", seed
    if (model := _model(nodes, sampler)) is not None:
        yield "model", model


def _sampler_parts(nodes: Mapping[str, GraphNode], sampler: str) -> list[str]:
    """The sampler and the nodes that hold a part of its settings, nearest first."""
    found = {sampler: None}
    for key in (todo := [sampler]):
        inputs = nodes[key]["inputs"]
        for part in _PARTS:
            other = linked(nodes, inputs.get(part))
            if other is not None and other not in found and len(found) < _MAX_DEPTH:
                found[other] = None
                todo.append(other)
    return list(found)


def _first(nodes: Mapping[str, GraphNode], parts: list[Mapping[str, Any]], words: tuple[str, ...]) -> Any:
    for inputs in parts:
        for word in words:
            if word in inputs and (value := _plain_behind(nodes, inputs[word])) is not None:
                return value
    return None


def _plain_behind(nodes: Mapping[str, GraphNode], value: Any) -> Any:
    """The value itself, or of the number node that it is wired to."""
    for _ in range(_MAX_DEPTH):
        if (key := linked(nodes, value)) is None:
            return value if isinstance(value, (int, float, str)) else None
        inputs = nodes[key]["inputs"]
        value = next((inputs[name] for name in _NUMBERS if name in inputs), None)
    return None


def _model(nodes: Mapping[str, GraphNode], sampler: str) -> RecipeValue | None:
    """The file at the end of the wire `model`, past LoRAs and patches."""
    key: str | None = sampler
    for _ in range(4 * _MAX_DEPTH):
        inputs = nodes[key]["inputs"] if key is not None else {}
        name = next((inputs[word] for word in _MODELS if isinstance(inputs.get(word), str)), None)
        if name is not None:
            return plain_of(name)
        key = linked(nodes, inputs.get("model")) or linked(nodes, inputs.get("guider"))
        if key is None:
            return None
    return None
