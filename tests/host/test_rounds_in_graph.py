"""A hundred clicks and one button: the run goes on in rounds, ends where it should, and is better when judged blind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from comfy_server import ComfyServer
from pages import Page
from PIL import Image
from test_one_workflow import SET, liking, node_of, ran, the_loop

from dspo_train.evaluate.shapes import captions
from dspo_train.preferences import PreferenceStore

pytestmark = [pytest.mark.comfy, pytest.mark.slow]

PROMPTS = captions()[::2]  # 24 groups, one click each


def best_of(folder: Path, images: list[str]) -> str:
    return max(images, key=lambda image: liking((folder / image).read_bytes()))


def in_panel(server: ComfyServer) -> tuple[str, dict[str, Any], str | None]:
    """What the panel is told of the run: its state, its round, and the LoRA to go on with."""
    (row,) = Page(server).get("runs").json["runs"]
    return row["state"], row["round"], row["lora"]


def round_of(**changes: Any) -> dict[str, Any]:
    return {"number": 1, "asked": None, "going": False, "set": None, "open": 0, **changes}


def test_three_rounds_on_the_playground_win_blind(fresh_server: Callable[..., ComfyServer]) -> None:
    server = fresh_server()
    graph = the_loop(server, CollectPairs_train_after=24, TrainLora_rounds=3, TrainLora_steps=60)
    graph[node_of(graph, "DSPOCandidates")]["inputs"]["prompts"] = "\n".join(PROMPTS)
    graph[node_of(graph, "DSPOTrainLora")]["inputs"]["preview_every"] = 0
    ran(server, graph)
    folder = server.base / "input" / SET
    store = PreferenceStore(folder)
    for group in store.groups():
        store.judge(group.id, [best_of(folder, list(group.names))])
    assert len(store.groups()) == 24

    outputs, executed = ran(server, graph)
    assert "DSPOTrainLora" in executed
    loras = sorted(path.name for path in (server.base / "output" / "loras" / "dspo").glob("*.safetensors"))
    run = server.base / "output" / "dspo" / "runs" / "my-shapes-01"
    end = json.loads((run / "rounds" / "end.json").read_text())
    kept = "my-shapes-01.safetensors" if end["round"] == 1 else f"my-shapes-01-r{end['round']}.safetensors"
    assert kept in loras and end["asked"] == 3 and end["round"] > 1, end
    assert in_panel(server) == ("finished", round_of(number=end["round"], asked=3), f"dspo/{kept}")
    drawn = json.loads((run / "rounds" / "2" / "drawn" / "drawn.json").read_text())
    assert set(drawn["prompts"]) == set(PROMPTS)
    with Image.open(next((run / "rounds" / "2" / "drawn").glob("*.png"))) as image:
        assert image.size == (64, 64)

    (test,) = outputs["DSPOBlindTest"]["dspo_blind"]
    blind = PreferenceStore(server.base / "output" / "dspo" / "blind" / test)
    wins = 0
    for group in blind.groups():
        arms = {image.arm: liking((blind.folder / image.image).read_bytes()) for image in group.images}
        wins += arms["lora"] > arms["base"]
    assert wins >= 0.9 * len(blind.groups()), f"{wins} of {len(blind.groups())}; {end}"

    marked = (run / "rounds" / "2" / "pairs" / "metadata.jsonl").stat().st_mtime_ns
    server.free()
    ran(server, graph)  # a finished course is found, and not gone through again
    assert (run / "rounds" / "2" / "pairs" / "metadata.jsonl").stat().st_mtime_ns == marked
    assert sorted(path.name for path in (server.base / "output" / "loras" / "dspo").glob("*.safetensors")) == loras


def test_fresh_clicks_are_asked_in_the_panel_and_waited_for(fresh_server: Callable[..., ComfyServer]) -> None:
    server = fresh_server()
    graph = the_loop(
        server, CollectPairs_train_after=6, TrainLora_rounds=2, TrainLora_steps=4, TrainLora_fresh_clicks=2
    )
    del graph[node_of(graph, "DSPOBlindTest")]
    train = graph[node_of(graph, "DSPOTrainLora")]["inputs"] | {"preview_every": 0}
    graph[node_of(graph, "DSPOTrainLora")]["inputs"] = train
    ran(server, graph)
    folder = server.base / "input" / SET
    store = PreferenceStore(folder)
    for group in store.groups():
        store.judge(group.id, [best_of(folder, list(group.names))])

    outputs, _ = ran(server, graph)
    wanted = "clicks wanted on new images: vote on my-shapes-01-fresh in the panel, then run again."
    assert outputs["DSPOTrainLora"]["text"] == [f"2 {wanted}"]
    asked = PreferenceStore(server.base / "input" / "my-shapes-01-fresh")
    assert asked.progress().open == 2 and len({group.prompt for group in asked.groups()}) == 2
    assert in_panel(server) == ("stopped", round_of(set=asked.folder.name, open=2), "dspo/my-shapes-01.safetensors")
    first = asked.groups()[0]
    asked.judge(first.id, [best_of(asked.folder, list(first.names))])
    outputs, _ = ran(server, graph)
    assert outputs["DSPOTrainLora"]["text"] == [f"1 {wanted}".replace("clicks", "click")]
    (left,) = asked.next(2)
    asked.vote(left.pair, "tie")  # is an answer too

    outputs, executed = ran(server, graph)
    assert "DSPOTrainLora" in executed and "text" not in outputs.get("DSPOTrainLora", {})
    rounds = server.base / "output" / "dspo" / "runs" / "my-shapes-01" / "rounds"
    answers = json.loads((rounds / "2" / "answers.json").read_text())["answers"]
    assert len(answers) == 2 and json.loads((rounds / "end.json").read_text())["asked"] == 2
    loras = server.base / "output" / "loras" / "dspo"
    assert "my-shapes-01.safetensors" in {path.name for path in loras.glob("*.safetensors")}
    kept = json.loads((rounds / "end.json").read_text())["round"]
    name = "my-shapes-01" if kept == 1 else f"my-shapes-01-r{kept}"
    assert in_panel(server) == ("finished", round_of(number=kept, asked=2), f"dspo/{name}.safetensors")
