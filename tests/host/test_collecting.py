"""Candidates, Collect Pairs and Blind Test in a real ComfyUI."""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comfy_server import ComfyServer
from graphs import CHECKPOINT, Graph
from PIL import Image

from dspo_train.pairs import prompt_from_image, scan_pairs
from dspo_train.preferences import PreferenceStore

pytestmark = pytest.mark.comfy

SAMPLING = {"steps": 2, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal"}


def drawn(prompts: str = "red dog\nblue cat", count: int = 2, **changes: Any) -> Graph:
    """Checkpoint ("1") -> Candidates ("2"), saved by "saved"."""
    wires = {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2]}
    values = {"prompts": prompts, "negative": "blurred", "seeds_per_prompt": count, "seed": 5, "batch_size": 0}
    inputs = {**wires, **values, "width": 64, "height": 64, **SAMPLING, **changes}
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": CHECKPOINT}},
        "2": {"class_type": "DSPOCandidates", "inputs": inputs},
        "saved": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "test/candidates"}},
    }


def collected(set: str, **changes: Any) -> Graph:
    """Candidates -> Collect Pairs ("3")."""
    inputs = {"images": ["2", 0], "candidates": ["2", 1], "set": set, "schedule": "all", **changes}
    return {**drawn(), "3": {"class_type": "DSPOCollectPairs", "inputs": inputs}}


def sampled(seed: int, prompt: str = "red dog", count: int = 1, **changes: Any) -> Graph:
    """Core's own nodes; pictures from "d"."""
    sampling = {**SAMPLING, "denoise": 1.0, "seed": seed, **changes}
    wires = {"model": ["1", 0], "positive": ["p", 0], "negative": ["n", 0], "latent_image": ["l", 0]}
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": CHECKPOINT}},
        "p": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": prompt}},
        "n": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "blurred"}},
        "l": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": count}},
        "k": {"class_type": "KSampler", "inputs": {**wires, **sampling}},
        "d": {"class_type": "VAEDecode", "inputs": {"samples": ["k", 0], "vae": ["1", 2]}},
    }


def plain_collected(set: str, count: int = 3, **changes: Any) -> Graph:
    """Core's nodes -> Collect Pairs ("3")."""
    inputs = {"images": ["d", 0], "set": set, "schedule": "all", **changes}
    return {**sampled(3, count=count), "3": {"class_type": "DSPOCollectPairs", "inputs": inputs}}


def saved(server: ComfyServer, outputs: Any, node: str = "saved") -> np.ndarray:
    """(N, 64, 64, 3)"""
    files = outputs[node]["images"]
    data = [server.view(it["filename"], it["subfolder"], it["type"]) for it in files]
    return np.stack([np.asarray(Image.open(io.BytesIO(each))).astype(int) for each in data])


def refused(server: ComfyServer, graph: Graph) -> str:
    """The message that the page shows."""
    status = server.wait(server.queue(graph))["status"]
    assert status["status_str"] == "error"
    return next(data["exception_message"] for kind, data in status["messages"] if kind == "execution_error")


def store_of(server: ComfyServer, name: str) -> PreferenceStore:
    return PreferenceStore(server.base / "input" / name)


@pytest.mark.parametrize(
    ("sampler", "batch", "tolerance"), [("euler", 1, 1), ("euler", 2, 2), ("euler", 0, 2), ("euler_ancestral", 0, 1)]
)
def test_a_candidate_is_ksamplers_picture(sampler: str, batch: int, tolerance: int, server: ComfyServer) -> None:
    """Tolerance in levels of 255: sums are taken in another order in a batch, which the decoder always gets."""
    ours = saved(server, server.run(drawn(batch_size=batch, sampler_name=sampler)))
    graph = sampled(6, "blue cat", sampler_name=sampler)
    graph["saved"] = {"class_type": "SaveImage", "inputs": {"images": ["d", 0], "filename_prefix": "test/core"}}
    (core,) = saved(server, server.run(graph))
    assert len(ours) == 4
    assert np.abs(ours[3] - core).max() <= tolerance  # the second prompt's second seed
    assert np.abs(ours[2] - core).max() > 20


def test_prompts_come_from_a_file(server: ComfyServer) -> None:
    (server.base / "input" / "list.txt").write_text("# two\r\nred dog\r\n\r\nblue cat\r\n", encoding="utf-8")
    by_file = saved(server, server.run(drawn("unused", prompts_file="list.txt")))
    assert (by_file == saved(server, server.run(drawn()))).all()
    assert "no prompt" in refused(server, drawn("# nothing"))


def test_progress_counts_all_steps_and_cancel_works_between_them(server: ComfyServer) -> None:
    graph = collected("cancelled")
    graph["2"]["inputs"] |= {"steps": 200, "batch_size": 1}
    with server.listen() as events:
        name = server.queue(graph, client_id=events.client_id)
        seen = events.until(lambda e: [it for it in e.of("progress") if it["value"] >= 2])
        assert seen[0]["max"] == 4 * 200
        begun = time.monotonic()
        server.interrupt()
        status = server.wait(name)["status"]
    assert status["status_str"] == "error" and time.monotonic() - begun < 30
    assert not (server.base / "input" / "cancelled").exists()


def test_candidates_become_one_group_for_each_prompt(server: ComfyServer) -> None:
    with server.listen() as events:
        outputs = server.run(collected("by-prompt"), client_id=events.client_id)
        (told,) = events.until(lambda e: e.of("dspo.collected"))
    assert told == {"place": "sets", "set": "by-prompt", "added": 2, "open": 2, "votes": 0, "train_after": 50}
    groups = store_of(server, "by-prompt").groups()
    assert [group.prompt for group in groups] == ["red dog", "blue cat"]
    assert [[picture.seed for picture in group.images] for group in groups] == [[5, 6], [5, 6]]
    assert groups[0].settings["sampler_name"] == "euler" and groups[0].settings["negative"] == "blurred"
    assert saved(server, outputs, "3").shape == (4, 64, 64, 3)
    assert "2 new pairs in by-prompt" in outputs["3"]["text"][0]


def test_the_same_pictures_again_are_the_same_questions(server: ComfyServer) -> None:
    server.run(collected("again"))
    before = (server.base / "input" / "again" / "preferences.jsonl").read_bytes()
    moved = collected("again")
    moved["unrelated"] = {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}}  # changes the files' metadata
    server.free()
    outputs = server.run(moved)
    assert "0 new pairs" in outputs["3"]["text"][0]
    assert (server.base / "input" / "again" / "preferences.jsonl").read_bytes() == before
    moved["3"]["inputs"]["schedule"] = "neighbours"
    assert "0 new pairs" in server.run(moved)["3"]["text"][0], "two images are one pair under any schedule"
    assert len(list((server.base / "input" / "again" / "images").iterdir())) == 4


def test_a_deleted_set_is_collected_again(server: ComfyServer) -> None:
    file = server.base / "input" / "deleted" / "preferences.jsonl"
    for _ in range(2):
        server.run(collected("deleted"))
        before = file.read_bytes()
        server.run(collected("deleted"))
        assert file.read_bytes() == before and store_of(server, "deleted").progress().total == 2
        shutil.rmtree(file.parent)


def test_a_deleted_blind_test_is_made_again(server: ComfyServer) -> None:
    folder = server.base / "output" / "dspo" / "blind" / "deleted-01"
    for _ in range(2):
        assert server.run(blind("deleted"))["4"]["dspo_blind"] == ["deleted-01"]
        assert PreferenceStore(folder).progress().total == 4
        shutil.rmtree(folder)


def test_a_batch_of_core_finds_its_prompt_in_the_graph(server: ComfyServer) -> None:
    graph = plain_collected("traced")
    other = sampled(9, "something else", count=1)  # another picture in the same graph
    graph |= {f"x{key}": value for key, value in other.items() if key in "pk"}
    graph["xk"]["inputs"]["positive"] = ["xp", 0]
    graph["xd"] = {"class_type": "PreviewImage", "inputs": {"images": ["xv", 0]}}
    graph["xv"] = {"class_type": "VAEDecode", "inputs": {"samples": ["xk", 0], "vae": ["1", 2]}}
    server.run(graph)
    (group,) = store_of(server, "traced").groups()
    assert (group.prompt, len(group.images)) == ("red dog", 3)
    file = server.base / "input" / "traced" / group.images[0].image
    assert prompt_from_image(file) == ""  # two samplers, so the whole graph does not say; ours does
    assert "DSPOCollectPairs" in Image.open(file).info["prompt"]


def test_widgets_go_before_the_graph(server: ComfyServer) -> None:
    server.run(plain_collected("widgets", prompt=" a fox ", seeds="7, 8, 9"))
    (group,) = store_of(server, "widgets").groups()
    assert group.prompt == "a fox"
    assert [picture.seed for picture in group.images] == [7, 8, 9]
    assert "seeds" in refused(server, plain_collected("widgets", seeds="7, 8"))


def test_what_is_collected_and_judged_is_a_pair_folder(server: ComfyServer) -> None:
    server.run(plain_collected("judged"))
    store = store_of(server, "judged")
    for question in store.next(9):
        store.vote(question.pair, "win", question.left)
    assert [pair.prompt for pair in scan_pairs(store.folder).usable() and scan_pairs(store.folder).pairs] == [
        "red dog"
    ] * 3


def test_the_same_picture_twice_is_left_out_and_said(server: ComfyServer) -> None:
    graph = plain_collected("twice", count=2)
    graph["b"] = {"class_type": "ImageBatch", "inputs": {"image1": ["d", 0], "image2": ["d", 0]}}
    graph["3"]["inputs"] |= {"images": ["b", 0], "prompt": "red dog"}
    outputs = server.run(graph)
    assert "2 omitted" in outputs["3"]["text"][0]
    assert len(store_of(server, "twice").groups()[0].images) == 2


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (plain_collected("nothing-1", count=1), "two or more"),
        (plain_collected("../nothing"), "not accepted"),
        (plain_collected("/nothing"), "not accepted"),
        (plain_collected(".nothing"), "hidden"),
        (plain_collected("a/b/c/nothing"), "more than 3 parts"),
        (plain_collected("shapes-large-and-dark"), "something other"),
        (plain_collected("nothing-2", candidates=["2", 1]) | {"2": drawn()["2"]}, "wire both from the same node"),
    ],
)
def test_what_cannot_be_collected(graph: Graph, message: str, server: ComfyServer) -> None:
    before = {path.name for path in (server.base / "input").iterdir()}
    assert message in refused(server, graph)
    assert {path.name for path in (server.base / "input").iterdir()} == before


def test_a_picture_without_a_prompt_is_refused(server: ComfyServer) -> None:
    graph: Graph = {
        "e": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 2, "color": 0}},
        "3": {
            "class_type": "DSPOCollectPairs",
            "inputs": {"images": ["e", 0], "set": "no-prompt", "schedule": "all"},
        },
    }
    message = refused(server, graph)
    assert "wire `candidates` from DSPO Candidates or, if they are all of one prompt, write it into" in message
    graph["3"]["inputs"]["prompt"] = "black"
    assert "identical images" in refused(server, graph)
    graph["e"]["inputs"]["batch_size"] = 65
    assert "at most 64" in refused(server, graph)
    assert not (server.base / "input" / "no-prompt").exists()


def test_workflows_stay_out_of_the_files_where_the_user_says_so(fresh_server: Callable[..., ComfyServer]) -> None:
    own = fresh_server("--disable-metadata")
    own.run(collected("bare"))
    for group in store_of(own, "bare").groups():
        for picture in group.images:
            assert not Image.open(own.base / "input" / "bare" / picture.image).info


def blind(name: str, aligned: list[Any] | None = None, **changes: Any) -> Graph:
    """Candidates against their negatives -> Blind Test ("4")."""
    inputs = {"base": ["2", 0], "aligned": aligned or ["i", 0], "prompts": ["2", 2], "name": name, **changes}
    inverted = {"class_type": "ImageInvert", "inputs": {"image": ["2", 0]}}
    return {**drawn(), "i": inverted, "4": {"class_type": "DSPOBlindTestImages", "inputs": inputs}}


def test_a_blind_test_is_made_once(server: ComfyServer) -> None:
    with server.listen() as events:
        outputs = server.run(blind("taste", lora_name="dspo/taste-01.safetensors"), client_id=events.client_id)
        (told,) = events.until(lambda e: e.of("dspo.blind"))
    assert outputs["4"]["dspo_blind"] == ["taste-01"]
    assert told == {"set": "taste-01", "open": 4, "node": "4"}
    folder = server.base / "output" / "dspo" / "blind"
    store = PreferenceStore(folder / "taste-01")
    assert [group.prompt for group in store.groups()] == ["red dog", "red dog", "blue cat", "blue cat"]
    assert all({picture.arm for picture in group.images} == {"base", "lora"} for group in store.groups())
    store.vote(store.next()[0].pair, "tie")
    server.free()
    lora_name = "dspo/taste-01.safetensors"
    assert server.run(blind("taste", lora_name=lora_name))["4"]["dspo_blind"] == ["taste-01"]
    assert store.progress().answered == 1 and store.progress().total == 4
    changed = blind("taste", lora_name=lora_name)
    changed["2"]["inputs"]["seed"] = 50
    assert server.run(changed)["4"]["dspo_blind"] == ["taste-02"]
    assert server.run(blind("taste"))["4"]["dspo_blind"] == ["taste-03"]  # as for another LoRA
    assert sorted(path.name for path in folder.glob("taste-*")) == ["taste-01", "taste-02", "taste-03"]


def test_one_prompt_for_all_and_the_graphs_own(server: ComfyServer) -> None:
    server.run(blind("one", prompts="# notes\r\n\r\n a fox \n# more"))
    groups = PreferenceStore(server.base / "output" / "dspo" / "blind" / "one-01").groups()
    assert {group.prompt for group in groups} == {"a fox"}
    graph = sampled(3, count=2)
    graph["i"] = {"class_type": "ImageInvert", "inputs": {"image": ["d", 0]}}
    inputs = {"base": ["d", 0], "aligned": ["i", 0], "prompts": "", "name": "graph"}
    server.run({**graph, "4": {"class_type": "DSPOBlindTestImages", "inputs": inputs}})
    groups = PreferenceStore(server.base / "output" / "dspo" / "blind" / "graph-01").groups()
    assert [group.prompt for group in groups] == ["red dog"] * 2


def test_blind_tests_that_cannot_be(server: ComfyServer) -> None:
    several = blind("unmade", aligned=["b", 0])
    several["b"] = {"class_type": "ImageBatch", "inputs": {"image1": ["i", 0], "image2": ["i", 0]}}
    assert "one strength only" in refused(server, several)
    assert "are identical" in refused(server, blind("unmade", aligned=["2", 0]))
    assert "do not fit" in refused(server, blind("unmade", prompts="a\nb\nc"))
    for name in ("../unmade", "a/unmade", "", "CON"):
        assert "not accepted" in refused(server, blind(name))
    assert not list(Path(server.base / "output").rglob("*unmade*"))
