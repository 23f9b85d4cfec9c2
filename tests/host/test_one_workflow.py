"""One workflow is the loop: it draws, waits for votes, trains, tests, and goes another round."""

from __future__ import annotations

import io
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsers import node_program
from comfy_server import PACK, PACK_NAME, ComfyServer
from graphs import Graph
from pages import Page, Place, ask, click
from PIL import Image
from test_examples import EXAMPLES, load, to_api

from dspo_train.preferences import PreferenceStore
from dspo_train.scorers.toys import large_and_dark, look

pytestmark = pytest.mark.comfy

PLAYGROUND = EXAMPLES / "0 The loop on the playground.json"
SCRIPT = PACK / "tests" / "browser" / "one_workflow.mjs"
LONG = 1200  # seconds
SET, SECOND = "my-shapes", "my-shapes-2"
ENOUGH = 24


def the_loop(server: ComfyServer, **changes: Any) -> Graph:
    """The playground's workflow with half of its prompts; `changes` to widgets, as NODE_WIDGET=value."""
    graph = to_api(load(PLAYGROUND), server.get("/object_info"))
    candidates = graph[node_of(graph, "DSPOCandidates")]["inputs"]
    candidates["prompts"] = "\n".join(candidates["prompts"].splitlines()[:6])
    for name, value in changes.items():
        kind, _, widget = name.partition("_")
        inputs = graph[node_of(graph, f"DSPO{kind}")]["inputs"]
        assert widget in inputs
        inputs[widget] = value
    return graph


def node_of(graph: Graph, kind: str) -> str:
    (found,) = [key for key, node in graph.items() if node["class_type"] == kind]
    return found


def ran(server: ComfyServer, graph: Graph) -> tuple[dict[str, Any], set[str]]:
    """The outputs by the nodes' types, and the types of all that was executed."""
    with server.listen() as events:
        outputs = server.run(graph, LONG, client_id=events.client_id)
        events.until(lambda e: e.of("execution_success"))
        executed = {graph[it["node"]]["class_type"] for it in events.of("executing") if it["node"]}
    by_type = {graph[node]["class_type"]: output for node, output in outputs.items()}
    return by_type, executed


def vote(page: Page, place: Place, count: int) -> None:
    """Answer so many questions as the known taste does: larger shapes, darker backgrounds."""
    for _ in range(count):
        (question,) = ask(page, place, 1)
        sides = [question["left"], question["right"]]
        taste = {name: liking(page.get("image", **place, image=name).body) for name in sides}
        answer = click(page, place, question, winner=max(sides, key=taste.__getitem__))
        assert answer.json["status"] == "recorded"


def liking(data: bytes) -> float:
    return large_and_dark(look(Image.open(io.BytesIO(data)).convert("RGB")))


def mean_liking(store: PreferenceStore) -> float:
    files = [store.folder / image.image for group in store.groups() for image in group.images]
    return sum(liking(file.read_bytes()) for file in files) / len(files)


def test_one_workflow_is_the_loop(fresh_server: Callable[..., ComfyServer]) -> None:
    server = fresh_server()
    page, place = Page(server), {"place": "sets", "set": SET}
    loras = server.base / "output" / "loras" / "dspo"

    outputs, executed = ran(server, the_loop(server))
    assert "DSPOTrainLora" not in outputs and "DSPOBlindTest" not in outputs and not loras.exists()
    assert outputs["DSPOCollectPairs"]["text"][0].splitlines() == [
        "36 new pairs in my-shapes; 36 waiting for your vote.",
        "0 of about 24 votes: press Vote now, then run again to train.",
    ]
    assert "DSPOCandidates" in executed

    vote(page, place, 3)
    outputs, executed = ran(server, the_loop(server))
    assert "3 of about 24 votes" in outputs["DSPOCollectPairs"]["text"][0]
    assert "DSPOCandidates" not in executed and not loras.exists()

    vote(page, place, ENOUGH - 3)
    server.restart()  # nothing is cached, and yet nothing is drawn again
    outputs, executed = ran(server, the_loop(server))
    assert "DSPOCandidates" not in executed
    assert len(outputs["DSPOCollectPairs"]["images"]) == 24
    assert "24 votes: enough to train." in outputs["DSPOCollectPairs"]["text"][0]
    assert [path.name for path in loras.glob("*.safetensors")] == ["my-shapes-01.safetensors"]
    (test,) = outputs["DSPOBlindTest"]["dspo_blind"]
    assert PreferenceStore(server.base / "output" / "dspo" / "blind" / test).progress().open == 16

    lora = "dspo/my-shapes-01.safetensors"
    next_round = {"Candidates_round": 2, "Candidates_lora_name": lora, "CollectPairs_set": SECOND}
    graph = the_loop(server, **next_round, TrainLora_refine_lora=lora)
    outputs, executed = ran(server, graph)
    assert "DSPOCandidates" in executed and "DSPOTrainLora" not in outputs
    first, second = (PreferenceStore(server.base / "input" / name) for name in (SET, SECOND))
    assert [[image.seed for image in group.images] for group in first.groups()] == [[1, 2, 3, 4]] * 6
    assert [[image.seed for image in group.images] for group in second.groups()] == [[5, 6, 7, 8]] * 6
    assert {group.settings.get("lora") for group in second.groups()} == {lora}
    assert mean_liking(second) > mean_liking(first) + 0.3

    vote(page, {"place": "sets", "set": SECOND}, ENOUGH)
    outputs, _ = ran(server, graph)
    assert sorted(path.name for path in loras.glob("my-shapes-0?.safetensors")) == [
        "my-shapes-01.safetensors",
        "my-shapes-02.safetensors",
    ]
    request = json.loads((server.base / "output" / "dspo" / "runs" / "my-shapes-02" / "request.json").read_text())
    assert request["refine"][0] == "my-shapes-01.safetensors" and request["pairs"][0] == SECOND


def test_changed_values_draw_again_and_a_forgotten_wire_is_named(server: ComfyServer) -> None:
    """Half of the graph: what is collected is known by what leads to it."""
    graph = the_loop(server, CollectPairs_set="other-values", Candidates_prompts="a red circle\na blue star")
    for kind in ("DSPOTrainLora", "DSPOBlindTest"):
        del graph[node_of(graph, kind)]
    assert "DSPOCandidates" in ran(server, graph)[1]
    server.free()
    assert "DSPOCandidates" not in ran(server, with_votes_changed(server, graph))[1]
    graph[node_of(graph, "DSPOCandidates")]["inputs"]["seed"] = 77
    outputs, executed = ran(server, graph)
    assert "DSPOCandidates" in executed and "12 new pairs" in outputs["DSPOCollectPairs"]["text"][0]
    del graph[node_of(graph, "DSPOCollectPairs")]["inputs"]["candidates"]
    status = server.wait(server.queue(graph))["status"]
    errors = [data["exception_message"] for kind, data in status["messages"] if kind == "execution_error"]
    assert len(errors) == 1 and "wire `candidates` of DSPO Candidates into this node" in errors[0]


def with_votes_changed(server: ComfyServer, graph: Graph) -> Graph:
    vote(Page(server), {"place": "sets", "set": "other-values"}, 1)
    return graph


def test_a_set_without_votes_says_how_to_vote(server: ComfyServer) -> None:
    graph = the_loop(server, CollectPairs_set="unvoted", Candidates_prompts="a red circle")
    for kind in ("DSPOTrainLora", "DSPOBlindTest"):
        del graph[node_of(graph, kind)]
    server.run(graph, LONG)
    choose = {"dataset": "unvoted", "shown": 2, "allow_empty_captions": False}
    graph = {"1": {"class_type": "DSPOPreferenceSet", "inputs": choose}}
    graph["2"] = {"class_type": "PreviewImage", "inputs": {"images": ["1", 2]}}
    status = server.wait(server.queue(graph))["status"]
    (error,) = [data["exception_message"] for kind, data in status["messages"] if kind == "execution_error"]
    assert error.startswith("Vote first: open the DSPO panel") and "6 pairs wait" in error


@pytest.mark.browser
def test_the_page_leads_through_the_loop(fresh_server: Callable[..., ComfyServer]) -> None:
    node = node_program(SCRIPT)
    server = fresh_server()
    done = subprocess.run(
        [node, str(SCRIPT), server.url, PACK_NAME],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=LONG,
        env=os.environ,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told.pop("problems") == []
    assert told == {
        "first set": "my-shapes",
        "other tab kept": True,
        "label at first": "Vote now · 0 of about 24 votes",
        "label after a vote": "Vote now · 1 of about 24 votes",
        "steps": ["train"],
        "notice": True,
        "test steps": ["next"],
        "second set": "my-shapes-2",
        "second round": [2, "dspo/my-shapes-01.safetensors", "my-shapes-2", "dspo/my-shapes-01.safetensors"],
    }
    assert Path(server.base / "input" / "my-shapes-2" / "preferences.jsonl").is_file()
