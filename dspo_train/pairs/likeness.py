"""Do the two sides of a blind test differ in the LoRA alone? By what drew them, or by the ComfyUI graph that did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..exceptions import ConfigError
from .comfy_graph import behind, linked, nodes_of

_OF_THE_LORA = ("lora", "lora_name", "strength", "round")  # settings in which the sides may differ
_COMPARED = (
    "seed",
    "noise_seed",
    "first_seed",
    "steps",
    "cfg",
    "guidance",
    "sampler_name",
    "scheduler",
    "denoise",
    "start_at_step",
    "end_at_step",
    "width",
    "height",
    "seeds_per_prompt",
    "prompts",
    "prompts_file",
    "negative",
    "text",
    "text_g",
    "text_l",
    "t5xxl",
    "clip_l",
    "clip_g",
    "prompt",
    "positive_prompt",
    "negative_prompt",
)
_THROUGH = ("model", "unet", "clip", "negative")  # the inputs through which a LoRA's loader hands something on
_PLAIN = (str, int, float, bool)
_MAX_PAIRS = 2000  # of nodes, in a crafted graph

_Node = Mapping[str, Any]
_Graph = Mapping[str, _Node]


def refuse_unlike_images(
    prompts: tuple[Sequence[str], Sequence[str]],
    seeds: tuple[Sequence[int], Sequence[int]],
    settings: tuple[Mapping[str, Any], Mapping[str, Any]],
) -> None:
    """
    Args:
        prompts, seeds, settings: without the LoRA and with it; prompts and seeds image by image.

    Raises:
        ConfigError: they differ; the message names the first difference.
    """
    for n, (one, other) in enumerate(zip(*prompts, strict=True), 1):
        if one != other:
            raise _unlike(f"image {n}: prompt {_short(one)}", _short(other))
    for n, (one, other) in enumerate(zip(*seeds, strict=True), 1):
        if one != other:
            raise _unlike(f"image {n}: seed {one}", str(other))
    for name in sorted({*settings[0], *settings[1]} - set(_OF_THE_LORA)):
        one, other = (given.get(name) for given in settings)
        if one != other:
            raise _unlike(f"{name} {_short(one)}", _short(other))


def refuse_unlike_graphs(graph: Any, node: str, base: str = "base", aligned: str = "aligned") -> None:
    """Compare what stands behind two sockets of a node, as far as both sides are made of the same kinds of node.

    Args:
        graph: in API form, {id: {"class_type", "inputs"}}.

    Raises:
        ConfigError: the LoRA stands behind `base` alone, or seeds, settings or prompts differ.
    """
    nodes: _Graph = nodes_of(graph)
    inputs = nodes.get(str(node), {}).get("inputs", {})
    first, second = (_link(nodes, inputs.get(socket)) for socket in (base, aligned))
    if first is None or second is None:
        return
    if (key := _swapped(nodes, first, second)) is not None:
        raise ConfigError(
            f"the LoRA stands behind `{base}` ({_title(nodes, key)}) and not behind `{aligned}`; swap the two wires"
        )
    for name, one, other, keys in _differences(nodes, first, second):
        where = f"{_title(nodes, keys[0])} and {_title(nodes, keys[1])}"
        advice = " and set the control below it to fixed" if "seed" in name and name != "seeds_per_prompt" else ""
        raise ConfigError(
            f"the two sides differ in more than the LoRA: {name} {_short(one)} without the LoRA, {_short(other)} with "
            f"it (in the graph: {where}); give both the same{advice}"
        )


def _swapped(nodes: _Graph, first: tuple[str, int], second: tuple[str, int]) -> str | None:
    """The node of a LoRA that stands behind the first link alone, where none stands behind the second alone."""
    if first[0] == second[0]:
        return first[0] if nodes[first[0]]["class_type"] == "DSPOCompareSampler" and first[1] > second[1] else None
    one, other = ({key for key in behind(nodes, link[0]) if _is_lora(nodes[key])} for link in (first, second))
    return sorted(one - other)[0] if one - other and not other - one else None


def _unlike(one: str, other: str) -> ConfigError:
    return ConfigError(
        f"{one} without the LoRA, {other} with it; draw both sides with the same prompts, seeds and settings"
    )


def _differences(
    nodes: _Graph, first: tuple[str, int], second: tuple[str, int]
) -> Iterator[tuple[str, Any, Any, tuple[str, str]]]:
    """Walks both sides upstream together; loaders of LoRAs are stepped over."""
    todo, seen = [(first, second)], set()
    while todo and len(seen) < _MAX_PAIRS:
        one, other = (_past_loras(nodes, link) for link in todo.pop(0))
        if one is None or other is None or one == other or (one, other) in seen:
            continue
        seen.add((one, other))
        left, right = (nodes[key]["inputs"] for key in (one, other))
        for name in _COMPARED:
            a, b = (_value(nodes, inputs.get(name)) for inputs in (left, right))
            if isinstance(a, _PLAIN) and isinstance(b, _PLAIN) and a != b:
                yield name, a, b, (one, other)
        for name in left.keys() & right.keys():
            links = _link(nodes, left[name]), _link(nodes, right[name])
            if links[0] is not None and links[1] is not None:
                todo.append((links[0], links[1]))


def _past_loras(nodes: _Graph, link: tuple[str, int]) -> str | None:
    """The node behind a link and the loaders of LoRAs that it leads to."""
    key, output = link
    for _ in range(len(nodes)):
        if not _is_lora(nodes[key]) or _draws(nodes[key]):
            return key
        inputs = nodes[key]["inputs"]
        names = ("clip", *_THROUGH) if output == 1 else _THROUGH
        further = next((found for name in names if (found := _link(nodes, inputs.get(name)))), None)
        if further is None:
            return None
        key, output = further
    return None


def _is_lora(node: _Node) -> bool:
    """Does it load a LoRA onto what passes through it, or draw with one?"""
    inputs, kind = node["inputs"], node["class_type"].lower()
    if "train" in kind or not any(isinstance(inputs.get(name), list) for name in _THROUGH):
        return False
    strengths = [inputs[name] for name in ("strength", "strength_model", "strength_clip") if name in inputs]
    if strengths and all(value == 0 for value in strengths):
        return False
    if "lora_name" in inputs or "lora" in inputs:
        return "lora" in inputs or inputs["lora_name"] not in ("", "none", "None")
    return "lora" in kind


def _draws(node: _Node) -> bool:
    return "steps" in node["inputs"] or "latent_image" in node["inputs"]


def _value(nodes: _Graph, value: Any) -> Any:
    """As written in the widget, or in the node of one value that is wired to it."""
    link = _link(nodes, value)
    if link is None:
        return value
    inputs = nodes[link[0]]["inputs"]
    plain = [each for each in inputs.values() if isinstance(each, _PLAIN)]
    return inputs.get("value", plain[0] if len(plain) == len(inputs) == 1 else None)


def _link(nodes: _Graph, value: Any) -> tuple[str, int] | None:
    """The node that an input is wired to, and which of its outputs."""
    key = linked(nodes, value)
    return (key, value[1]) if key is not None and isinstance(value[1], int) else None


def _title(nodes: _Graph, key: str) -> str:
    """As the page shows it: its title and its number."""
    meta = nodes[key].get("_meta")
    title = meta.get("title") if isinstance(meta, Mapping) else None
    return f"{(title if isinstance(title, str) else nodes[key]['class_type'])[:40]} #{key}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else str(value)
    return ascii(text if len(text) <= 40 else text[:37] + "...") if isinstance(value, str) else text
