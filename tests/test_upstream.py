"""The digest of what leads to a node's sockets."""

from __future__ import annotations

import copy
from typing import Any

from dspo_train.pairs.upstream import is_linked_to, upstream_digest

GRAPH: dict[str, Any] = {
    "1": {"class_type": "Loader", "inputs": {"name": "a.safetensors"}},
    "2": {"class_type": "Draw", "inputs": {"model": ["1", 0], "vae": ["1", 2], "seed": 5}, "_meta": {"title": "Draw"}},
    "3": {"class_type": "Collect", "inputs": {"images": ["2", 0], "candidates": ["2", 1], "set": "x"}},
    "4": {"class_type": "Other", "inputs": {"model": ["1", 0]}},
}
SOCKETS = ["images", "candidates"]


def digest(**changes: Any) -> str | None:
    """Of GRAPH with inputs of the drawing node changed."""
    graph = copy.deepcopy(GRAPH)
    graph["2"]["inputs"].update(changes)
    return upstream_digest(graph, "3", SOCKETS)


def test_what_is_drawn_differently_differs() -> None:
    base = digest()
    assert base == digest() and base is not None
    others = [digest(seed=6), digest(model=["1", 1]), digest(model=["4", 0]), digest(extra=0)]
    assert len({base, *others}) == 5
    assert upstream_digest(GRAPH, "3", ["images"]) != base


def test_ids_titles_and_what_comes_after_do_not_count() -> None:
    graph = {
        "11": GRAPH["1"],
        "12": {"class_type": "Draw", "inputs": {"seed": 5, "vae": ["11", 2], "model": ["11", 0]}},
        "9": {"class_type": "Collect", "inputs": {"images": ["12", 0], "candidates": ["12", 1], "set": "y"}},
    }
    assert upstream_digest(graph, "9", SOCKETS) == digest()


def test_a_file_that_was_written_to_differs() -> None:
    graph = copy.deepcopy(GRAPH)
    graph["1"]["is_changed"] = ["(10, 1)"]
    first = upstream_digest(graph, "3", SOCKETS)
    graph["1"]["is_changed"] = ["(10, 2)"]
    assert len({digest(), first, upstream_digest(graph, "3", SOCKETS)}) == 3


def test_a_graph_that_does_not_tell() -> None:
    graph = copy.deepcopy(GRAPH)
    graph["1"]["is_changed"] = [float("nan")]
    assert upstream_digest(graph, "3", SOCKETS) is None
    assert digest(model=["gone", 0]) is None
    assert upstream_digest(GRAPH, "3", ["set"]) is None
    assert upstream_digest(GRAPH, "no-such-node", SOCKETS) is None


def test_a_straight_wire() -> None:
    assert is_linked_to(GRAPH, "3", "images", "Draw")
    assert not is_linked_to(GRAPH, "3", "images", "Loader")
    assert not is_linked_to(GRAPH, "3", "set", "Draw")
