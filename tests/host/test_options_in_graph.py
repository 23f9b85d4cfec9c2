"""What a training may do besides its preset, and other sets than pairs, chosen in the graph of a real ComfyUI."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from comfy_events import PROGRESS_TEXT, Events
from comfy_server import ComfyServer
from graphs import put_opinions, put_pairs, train_graph, with_options
from pages import Page, put_set
from safetensors import safe_open

pytestmark = pytest.mark.comfy
LONG = 400  # seconds


def run_folder(server: ComfyServer, name: str) -> Path:
    return server.base / "output" / "dspo" / "runs" / name


def reports(server: ComfyServer, name: str) -> list[dict[str, Any]]:
    lines = (run_folder(server, name) / "reports.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def settings(server: ComfyServer, name: str) -> dict[str, Any]:
    return json.loads((run_folder(server, name) / "run.json").read_text(encoding="utf-8"))["config"]


def told(events: Events) -> list[str]:
    return [b.payload.decode() for b in events.binary if b.kind == PROGRESS_TEXT]


def failure(server: ComfyServer, graph: dict[str, Any]) -> dict[str, Any]:
    status = server.wait(server.queue(graph), LONG)["status"]
    (error,) = [value for name, value in status["messages"] if name == "execution_error"]
    return error


def test_held_out_pairs_the_best_step_and_an_average(server: ComfyServer) -> None:
    """Four pairs of two prompts: half of them are measured every two steps, which the page hears of too."""
    chosen = {"held_out_share": 0.5, "held_out_every": 2, "keep": "best", "ema": 0.5, "labels": "swapped"}
    graph = with_options(train_graph(put_pairs(server.base), "options", steps=4), **chosen)
    with server.listen() as events:
        entry = server.wait(server.queue(graph, events.client_id), LONG)
        events.until(lambda e: e.of("dspo.lora_saved"))
    assert entry["status"]["status_str"] == "success", entry["status"]
    found = settings(server, "options-01")
    assert (found["keep"], found["ema"], found["labels"]) == ("best", 0.5, "swapped")
    assert (found["held_out"]["share"], found["held_out"]["every"]) == (0.5, 2)
    assert [report["step"] for report in reports(server, "options-01") if "held_out_accuracy" in report] == [2, 4]
    assert list(run_folder(server, "options-01").glob("best/step-*.safetensors"))
    heard = {event["step"]: event for event in events.of("dspo.run")}
    assert [step for step, event in heard.items() if "held_out_accuracy" in event] == [2, 4]
    assert ["held-out winners" in text for text in told(events) if text.startswith("Step ")] == [False] + [True] * 3
    with safe_open(server.base / "output" / "loras" / "dspo" / "options-01.safetensors", framework="pt") as file:
        assert file.metadata()["dspo.labels"] == "swapped"


@pytest.mark.parametrize("checkpointing", ["off", "on"])
def test_a_training_on_the_wired_models_own_steps(server: ComfyServer, checkpointing: str) -> None:
    """Ranked by the taste that the pairs show, which is kept with the run; what it takes is told."""
    name = f"steps-{checkpointing}"
    plain = train_graph(put_pairs(server.base), name, steps=2, gradient_checkpointing=checkpointing)
    graph = with_options(plain, stepwise="tailorpo_g")
    with server.listen() as events:
        entry = server.wait(server.queue(graph, events.client_id), LONG)
        events.until(lambda e: e.of("dspo.lora_saved"))
    assert entry["status"]["status_str"] == "success", entry["status"]
    assert settings(server, f"{name}-01")["stepwise"]["method"] == "tailorpo_g"
    assert all({"reward", "watched", "ranked"} <= set(report) for report in reports(server, f"{name}-01"))
    assert any(report["grad_norm"] > 0 for report in reports(server, f"{name}-01"))
    assert (run_folder(server, f"{name}-01") / "beginning" / "taste.safetensors").is_file()
    assert any("passes of the network" in text for text in told(events))


def test_an_early_stop_is_an_end(server: ComfyServer) -> None:
    """An objective that moves nothing: the first measurement stays the best one."""
    chosen = {"held_out_share": 0.5, "held_out_every": 1, "held_out_patience": 2}
    graph = with_options(train_graph(put_pairs(server.base), "stopped", steps=40, objective="dspo_ref"), **chosen)
    with server.listen() as events:
        server.wait(server.queue(graph, events.client_id), LONG)
        events.until(lambda e: e.of("dspo.lora_saved"))
    last = reports(server, "stopped-01")[-1]
    assert (last["step"], last["stopped"]) == (3, True)
    assert any("Stopped early" in text for text in told(events))
    (listed,) = [run for run in Page(server).get("runs").json["runs"] if run["run"] == "stopped-01"]
    assert (listed["state"], listed["early"], listed["step"]) == ("finished", True, 3)
    graph["1"]["inputs"]["shown"] = 3  # so that the core's own cache does not answer
    with server.listen() as events:
        server.wait(server.queue(graph, events.client_id), LONG)
    assert not [text for text in told(events) if text.startswith("Step ")], "it is found, not trained on"


@pytest.mark.parametrize(
    ("chosen", "more", "node", "words"),
    [
        ({"keep": "best"}, {}, "DSPOTrainingOptions", "keep best needs pairs to measure on; set held_out_share"),
        ({"held_out_patience": 2}, {}, "DSPOTrainingOptions", "held_out_patience needs pairs to measure on"),
        ({"stepwise_pool": 4}, {}, "DSPOTrainingOptions", "stepwise_pool needs a method; set stepwise, for example"),
        ({"safeguard": 0.5}, {"objective": "sft"}, "DSPOTrainLora", "safeguard needs an objective that trains on"),
        ({"sharpness": "auto"}, {"objective": "dspo_e"}, "DSPOTrainLora", "sharpness needs an objective"),
    ],
)
def test_what_does_not_go_together_is_said_before_anything_is_loaded(
    server: ComfyServer, chosen: dict[str, Any], more: dict[str, Any], node: str, words: str
) -> None:
    graph = with_options(train_graph(put_pairs(server.base), "clash", steps=1, **more), **chosen)
    error = failure(server, graph)
    assert error["node_type"] == node
    assert words in error["exception_message"]
    assert not run_folder(server, "clash-01").exists()


def test_a_moving_reference_refines_nothing(server: ComfyServer) -> None:
    dataset = put_pairs(server.base)
    server.run(train_graph(dataset, "begin", steps=1), LONG)
    graph = train_graph(dataset, "moving", steps=1, refine_lora="dspo/begin-01.safetensors")
    error = failure(server, with_options(graph, moving_reference=0.9))
    assert "moving_reference starts from the base model and cannot refine a LoRA" in error["exception_message"]
    assert not run_folder(server, "moving-01").exists()


def test_an_objective_that_changes_nothing_says_so(server: ComfyServer) -> None:
    before = len(server.log())
    with server.listen() as events:
        graph = train_graph(put_pairs(server.base), "nothing", steps=2, objective="dspo_ref")
        server.wait(server.queue(graph, events.client_id), LONG)
        events.until(lambda e: e.of("dspo.lora_saved"))
    steps = [text for text in told(events) if text.startswith("Step ")]
    assert len(steps) == 2 and all("Note: objective 'dspo_ref' has no loss" in text for text in steps)
    assert server.log()[before:].count("objective 'dspo_ref' has no loss") == 1


def test_liked_and_disliked_pictures(server: ComfyServer) -> None:
    """Read, shown and trained like pairs, with an objective that needs none; previews by the first caption."""
    dataset = put_opinions(server.base)
    listed = server.get("/object_info/DSPOPreferenceSet")["DSPOPreferenceSet"]["input"]["required"]["dataset"]
    names = listed[1]["options"] if isinstance(listed[0], str) else listed[0]
    assert dataset in names and f"{dataset}/liked" not in names
    graph = train_graph(dataset, "kto", steps=3, objective="diffusion_kto", preview_every=3)
    graph["report"] = {"class_type": "PreviewAny", "inputs": {"source": ["1", 1]}}
    graph["sheet"] = {"class_type": "PreviewImage", "inputs": {"images": ["1", 2]}}
    with server.listen() as events:
        entry = server.wait(server.queue(graph, events.client_id), LONG)
        events.until(lambda e: e.of("dspo.lora_saved"))
    assert entry["status"]["status_str"] == "success", entry["status"]
    assert "5 liked, 3 disliked" in str(entry["outputs"]["report"])
    assert entry["outputs"]["sheet"]["images"]
    assert [report["step"] for report in reports(server, "kto-01")] == [1, 2, 3]
    assert (run_folder(server, "kto-01") / "previews" / "step-000003.png").is_file()
    assert any("of 8 images" in text for text in told(events))
    assert any("3 disliked images are few" in text for text in told(events))
    again = train_graph(dataset, "kto", steps=3, objective="diffusion_kto")
    again["1"]["inputs"]["shown"] = 3
    with server.listen() as events:
        server.wait(server.queue(again, events.client_id), LONG)
    assert not [text for text in told(events) if text.startswith("Step ")], "it is found, not trained again"


def test_liked_and_disliked_pictures_with_an_objective_for_pairs(server: ComfyServer) -> None:
    dataset = put_opinions(server.base)
    error = failure(server, train_graph(dataset, "unpaired"))
    assert "use one of diffusion_kto, sft" in error["exception_message"]
    graph = train_graph(dataset, "unpaired", objective="diffusion_kto")
    error = failure(server, with_options(graph, held_out_share=0.2))
    assert "held_out_share needs pairs" in error["exception_message"]
    assert not run_folder(server, "unpaired-01").exists()


def test_a_collected_set_is_read_as_opinions(server: ComfyServer) -> None:
    """Of three candidates the last is marked bad: two are liked, one is not, and diffusion_kto trains on them."""
    store = put_set(server.base / "input" / "voted", groups=1, pictures=3)
    (group,) = store.groups()
    store.judge(group.id, bad=group.names[2:])
    graph = train_graph("voted", "opinions", steps=1, objective="diffusion_kto")
    graph["1"]["inputs"]["read_as"] = "opinions"
    graph["report"] = {"class_type": "PreviewAny", "inputs": {"source": ["1", 1]}}
    report = "".join(server.run(graph, LONG)["report"]["text"])
    assert "2 liked" in report and "1 disliked" in report, report
    graph["1"]["inputs"]["dataset"] = put_pairs(server.base)
    assert "is not a set collected here" in failure(server, graph)["exception_message"]
