"""The positive prompt of a ComfyUI graph in API form: {id: {"class_type": ..., "inputs": {...}}}.

Inputs are values or links [id, output]. From the sampler that makes the first latent, `positive` (or `guider`) is
followed upstream through conditioning nodes to a text encoder, and from there through string nodes to the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

_TEXT = ("text", "text_g", "text_l", "t5xxl", "clip_l", "clip_g", "prompt", "positive", "positive_prompt")
_STRING = ("value", "string", "text", "prompt", "input", "any", "text_0", "text1", "source", "anything")
_CONDITIONING = (
    "positive",
    "conditioning",
    "conditioning_to",
    "conditioning_from",
    "conditioning_1",
    "conditioning_2",
    "guider",
    "cond",
)
_MAX_SAMPLERS = 64
_MAX_NODES = 4096  # a workflow of hundreds is large
_MAX_DEPTH = 64
_MAX_STEPS = 5000  # a crafted graph of a few nodes has exponentially many paths

GraphNode = Mapping[str, Any]


def positive_prompt(graph: Any) -> str:
    """The text that the image was made from.

    Returns an empty string where the graph holds none, or several samplers start with different texts: then the
    graph does not say which of them made this image.
    """
    nodes = nodes_of(graph)
    texts = {text for key in first_samplers(nodes) if (text := _Trace(nodes).from_sampler(key))}
    return texts.pop() if len(texts) == 1 else ""


def prompt_upstream(graph: Any, node: str, socket: str) -> str:
    """The text that the images on one of a node's sockets were made from; empty as for `positive_prompt`.

    Only the nodes that lead to the socket are read: a graph may draw other images too.
    """
    return positive_prompt(graph_upstream(graph, node, socket))


def graph_upstream(graph: Any, node: str, socket: str) -> dict[str, GraphNode]:
    """The nodes that lead to one of a node's sockets; none where nothing is wired to it."""
    nodes = nodes_of(graph)
    first = linked(nodes, nodes[node]["inputs"].get(socket)) if node in nodes else None
    return {} if first is None else {key: nodes[key] for key in behind(nodes, first)}


def nodes_of(graph: Any) -> dict[str, GraphNode]:
    """The well-formed nodes of a graph by their ids; none of what is no graph, or too large for one."""
    if not isinstance(graph, Mapping) or len(graph) > _MAX_NODES:
        return {}
    return {str(key): node for key, node in graph.items() if _is_node(node)}


def first_samplers(nodes: Mapping[str, GraphNode]) -> list[str]:
    """The ids of the samplers that make the first latent of an image; none where there are too many to tell.

    A second pass or refiner has another sampler upstream; its prompt may be about a detail.
    """
    samplers = {key: None for key, node in nodes.items() if _is_sampler(node)}
    if len(samplers) > _MAX_SAMPLERS:
        return []
    return [key for key in samplers if not any(up in samplers and up != key for up in behind(nodes, key))]


class _Trace:
    """One walk upstream, from a sampler to its text."""

    def __init__(self, nodes: Mapping[str, GraphNode]) -> None:
        self._nodes = nodes
        self._open: set[str] = set()
        self._steps = 0

    def from_sampler(self, key: str) -> str:
        inputs = self._nodes[key]["inputs"]
        value = inputs.get("positive", inputs.get("guider"))
        return value.strip() if isinstance(value, str) else self._enter(value, self._conditioning)

    def _enter(self, value: Any, read: Callable[[Mapping[str, Any]], str]) -> str:
        """Read the node behind a link, unless the walk is already inside it."""
        key = linked(self._nodes, value)
        if key is None or key in self._open or self._steps >= _MAX_STEPS or len(self._open) >= _MAX_DEPTH:
            return ""
        self._steps += 1
        self._open.add(key)
        try:
            return read(self._nodes[key]["inputs"])
        finally:
            self._open.discard(key)

    def _conditioning(self, inputs: Mapping[str, Any]) -> str:
        for name in _TEXT:
            # A link called `positive` carries conditioning (ControlNet); only loaders have a text there.
            if name in inputs and (name != "positive" or isinstance(inputs[name], str)):
                text = self._text(inputs[name])
                if text:
                    return text
        links = [inputs[name] for name in _CONDITIONING if name in inputs] or self._sole_link(inputs)
        parts = [self._enter(link, self._conditioning) for link in links]
        return ", ".join(dict.fromkeys(filter(None, parts)))

    def _text(self, value: Any) -> str:
        return value.strip() if isinstance(value, str) else self._enter(value, self._string)

    def _string(self, inputs: Mapping[str, Any]) -> str:
        if "string_a" in inputs and "string_b" in inputs:
            ends = [self._text(inputs[name]) for name in ("string_a", "string_b")]
            return str(inputs.get("delimiter", "")).join(ends).strip()
        values = [inputs[name] for name in _STRING if name in inputs] or self._sole_link(inputs)
        return next((text for value in values if (text := self._text(value))), "")

    def _sole_link(self, inputs: Mapping[str, Any]) -> list[Any]:
        """The only link of a node whose inputs have no meaningful name, such as a reroute's."""
        links = [value for value in inputs.values() if linked(self._nodes, value) is not None]
        return links if len(links) == 1 else []


def _is_node(node: Any) -> bool:
    if not isinstance(node, Mapping):
        return False
    return isinstance(node.get("inputs"), Mapping) and isinstance(node.get("class_type"), str)


def _is_sampler(node: GraphNode) -> bool:
    inputs = node["inputs"]
    makes_latent = "latent_image" in inputs or "sampler" in node["class_type"].lower()
    return makes_latent and ("positive" in inputs or "guider" in inputs)


def behind(nodes: Mapping[str, GraphNode], start: str) -> Iterator[str]:
    """The ids of `start` and of every node that it depends on."""
    seen, todo = {start}, [start]
    yield start
    while todo:
        for value in nodes[todo.pop()]["inputs"].values():
            key = linked(nodes, value)
            if key is not None and key not in seen:
                seen.add(key)
                todo.append(key)
                yield key


def linked(nodes: Mapping[str, GraphNode], value: Any) -> str | None:
    """The id of the node that an input is wired to; None of a plain value."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], (str, int)) and str(value[0]) in nodes:
        return str(value[0])
    return None
