"""What determines the images on a node's sockets, in a ComfyUI graph in API form."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..files import digest

_CHANGED = "is_changed"  # where core keeps what a node says about its files

_Place = Callable[[Any], "list[Any] | None"]


def upstream_digest(graph: Mapping[str, Any], node: str, sockets: Sequence[str]) -> str | None:
    """The same for two graphs whose nodes upstream of the sockets have the same classes, values and links.

    Ids, titles and positions do not count. None where a graph does not tell: a socket has no link, a node is
    missing, or one of them asks to be run every time.
    """
    places: dict[str, int] = {}
    todo: list[str] = []

    def place(link: Any) -> list[Any] | None:
        source, output = str(link[0]), link[1]
        if source not in graph:
            return None
        if source not in places:
            places[source] = len(places)
            todo.append(source)
        return ["link", places[source], output]

    values = _inputs(graph, node)
    rows: list[Any] = [place(values[name]) if _is_link(values.get(name)) else None for name in sockets]
    while todo and None not in rows:
        rows.append(_row(graph, todo.pop(0), place))
    if None in rows:
        return None
    return digest("upstream", json.dumps(rows, sort_keys=True, default=repr))


def is_linked_to(graph: Mapping[str, Any], node: str, socket: str, class_type: str) -> bool:
    """Does the socket's wire come straight from a node of that class?"""
    link = _inputs(graph, node).get(socket)
    source = graph.get(str(link[0])) if isinstance(link, list) and _is_link(link) else None
    return isinstance(source, Mapping) and source.get("class_type") == class_type


def _row(graph: Mapping[str, Any], node: str, place: _Place) -> list[Any] | None:
    changed = graph[node].get(_CHANGED)
    if _changes_always(changed):
        return None
    inputs = [
        [name, place(value) if _is_link(value) else ["value", value]]
        for name, value in sorted(_inputs(graph, node).items())
    ]
    if any(value is None for _, value in inputs):
        return None
    return [graph[node].get("class_type"), changed, inputs]


def _inputs(graph: Mapping[str, Any], node: str) -> Mapping[str, Any]:
    found = graph.get(node)
    inputs = found.get("inputs") if isinstance(found, Mapping) else None
    return inputs if isinstance(inputs, Mapping) else {}


def _is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int)


def _changes_always(changed: Any) -> bool:
    several = changed if isinstance(changed, (list, tuple)) else [changed]
    return any(isinstance(each, float) and math.isnan(each) for each in several)
