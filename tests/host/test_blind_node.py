"""Blind tests in a real ComfyUI: what a test shows, when its images are handed on, and what is no test."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import cached
from comfy_server import ComfyServer, Core, link, prepare, running
from graphs import CHECKPOINT, STRENGTH, Graph, put_pairs, train_graph, with_model
from pages import Page
from PIL import Image
from safetensors.torch import load_file, save_file
from test_collecting import SAMPLING, drawn, refused, saved
from test_negative_lora import write_lora
from test_train_in_graph import texts

from dspo_train.evaluate.blind import facts_of
from dspo_train.lora.lineage import Lineage, NamedFile, file_metadata, lineage_in, refined_from
from dspo_train.preferences import PreferenceStore

pytestmark = pytest.mark.comfy
WIRES = {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2]}
LONG = 900  # seconds
PROMPTS = "red dog\nblue cat"


@pytest.fixture(scope="module")
def server(core: Core, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """One with LoRAs named by what they are."""
    base = tmp_path_factory.mktemp("blind")
    prepare(base)
    link(cached("sd15"), base / "models" / "checkpoints" / CHECKPOINT)
    folder = base / "models" / "loras"
    write_lora(folder / "liked.safetensors", cached("sd15"), 1)
    write_lora(folder / "sdxl.safetensors", cached("sdxl"), 2)
    tensors = load_file(folder / "liked.safetensors")
    save_file(
        {
            k.replace("lora_unet_", "lora_te_text_model_encoder_layers_0_self_attn_q_proj_"): v
            for k, v in tensors.items()
        },
        str(folder / "text.safetensors"),
    )
    save_file(
        {k: torch.zeros_like(v) if ".lora_up." in k else v for k, v in tensors.items()},
        str(folder / "zero.safetensors"),
    )
    with running(core, base) as started:
        yield started


def blind(name: str, /, lora: Any = "liked", **changes: Any) -> Graph:
    """Checkpoint ("1") -> Blind Test ("4"), its images saved by "base" and "with"."""
    values = {
        "prompts": PROMPTS,
        "negative": "blurred",
        "images_per_prompt": 2,
        "seed": 1000,
        "width": 64,
        "height": 64,
    }
    test = {**WIRES, **values, **SAMPLING, "strength": 1.0, "name": name, "lora_name": f"{lora}.safetensors", **changes}
    graph: Graph = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": CHECKPOINT}},
        "4": {"class_type": "DSPOBlindTest", "inputs": test},
    }
    for n, side in enumerate(("base", "with"), 1):
        inputs = {"images": ["4", n], "filename_prefix": f"test/{side}"}
        graph[side] = {"class_type": "SaveImage", "inputs": inputs}
    sheet = {
        "base": ["4", 1],
        "aligned": ["4", 2],
        "prompts": ["4", 3],
        "strengths": "1",
        "title": "",
        "theme": "light",
    }
    graph["sheet"] = {"class_type": "DSPOABGrid", "inputs": {**sheet, "filename_prefix": "test/sheet"}}
    return graph


def folder_of(server: ComfyServer, name: str) -> Path:
    return server.base / "output" / "dspo" / "blind" / name


def arms(folder: Path) -> dict[str, np.ndarray]:
    """The stored images of each side, (N, 64, 64, 3), in the order of the groups."""
    found: dict[str, list[np.ndarray]] = {"base": [], "lora": []}
    for group in PreferenceStore(folder).groups():
        for picture in group.images:
            with Image.open(folder / picture.image) as image:
                found[picture.arm or ""].append(np.asarray(image).astype(int))
    return {arm: np.stack(pictures) for arm, pictures in found.items()}


def answer_all(folder: Path) -> None:
    store = PreferenceStore(folder)
    while questions := store.next():
        store.vote(questions[0].pair, "tie")


def candidates(lora: str | None) -> Graph:
    """The same images by DSPO Candidates, with the LoRA by core's own loader."""
    graph = drawn(PROMPTS, seed=1000)
    if lora:
        inputs = {"model": ["1", 0], "lora_name": f"{lora}.safetensors", "strength_model": 1.0}
        graph["lora"] = {"class_type": "LoraLoaderModelOnly", "inputs": inputs}
        graph["2"]["inputs"]["model"] = ["lora", 0]
    return graph


def test_both_sides_are_what_candidates_draw(server: ComfyServer) -> None:
    with server.listen() as events:
        outputs = server.run(blind("sides"), client_id=events.client_id)
        (told,) = events.until(lambda e: e.of("dspo.blind"))
    assert told == {"set": "sides-01", "open": 4, "node": "4"}
    assert outputs["4"]["text"] == ["Blind test sides-01: 4 pairs to judge in the DSPO panel."]
    folder = folder_of(server, "sides-01")
    groups = PreferenceStore(folder).groups()
    assert [group.prompt for group in groups] == ["red dog", "red dog", "blue cat", "blue cat"]
    assert [[picture.seed for picture in group.images] for group in groups] == [[1000] * 2, [1001] * 2] * 2
    assert {tuple(sorted(group.settings)) for group in groups} == {
        ("cfg", "height", "names", "negative", "sampler_name", "scheduler", "steps", "strength", "width")
    }
    assert groups[0].settings["names"] == {"base": "base", "lora": "liked"}
    assert facts_of(folder)["lora"] == "liked.safetensors" and facts_of(folder)["strength"] == 1
    stored = arms(folder)
    for arm, lora in (("base", None), ("lora", "liked")):
        pictures = saved(server, server.run(candidates(lora)))
        assert np.abs(stored[arm] - pictures).max() <= 2
    assert (np.abs(stored["base"] - stored["lora"]).max(axis=(1, 2, 3)) > 20).all()


def test_images_wait_for_the_votes_and_nothing_is_drawn_twice(server: ComfyServer) -> None:
    graph = blind("waits")
    first = server.run(graph)
    assert first.keys() == {"4"}, "what is wired behind the images waits without an error"
    folder = folder_of(server, "waits-01")
    store = PreferenceStore(folder)
    store.vote(store.next()[0].pair, "tie")
    server.free()
    assert server.run(graph).keys() <= {"4"}
    answer_all(folder)
    with server.listen() as events:
        outputs = server.run(graph, client_id=events.client_id)
        events.until(lambda e: e.of("dspo.blind"))
        assert not [it for it in events.of("progress") if it["node"] == "4"], "no step of the sampler"
    assert outputs.keys() == {"4", "base", "with", "sheet"}
    assert "all pairs are answered" in outputs["4"]["text"][0]
    stored = arms(folder)
    assert (saved(server, outputs, "base") == stored["base"]).all()
    assert (saved(server, outputs, "with") == stored["lora"]).all()
    assert [path.name for path in folder.parent.glob("waits-*")] == ["waits-01"]


def test_a_change_makes_another_test_and_a_deleted_one_is_made_again(server: ComfyServer) -> None:
    parent = folder_of(server, "")
    server.run(blind("change"))
    for number, changes in enumerate(({"seed": 7}, {"strength": 0.5}, {"prompts": "a house"}, {"cfg": 2.0}), 2):
        outputs = server.run(blind("change", **changes))
        assert outputs["4"]["dspo_blind"] == [f"change-{number:02d}"]
    assert server.run(blind("change"))["4"]["dspo_blind"] == ["change-01"]
    shutil.rmtree(parent / "change-01")
    assert server.run(blind("change"))["4"]["dspo_blind"] == ["change-06"]
    assert PreferenceStore(parent / "change-06").progress().total == 4


def test_a_killed_test_is_completed(server: ComfyServer) -> None:
    """Without the mark that all images are in it, a test is drawn again and keeps its votes."""
    server.run(blind("killed"))
    folder = folder_of(server, "killed-01")
    store = PreferenceStore(folder)
    store.vote(store.next()[0].pair, "tie")
    lines = (folder / "preferences.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    groups = [n for n, line in enumerate(lines) if '"kind": "group"' in line or '"kind":"group"' in line]
    kept = [line for n, line in enumerate(lines) if n not in groups[2:]]
    (folder / "preferences.jsonl").write_text("".join(kept), encoding="utf-8")
    mark = facts_of(folder)
    (folder / "test.json").write_text(json.dumps({"images": mark["images"]}), encoding="utf-8")
    server.kill()
    server.restart()
    assert server.run(blind("killed"))["4"]["dspo_blind"] == ["killed-01"]
    progress = PreferenceStore(folder).progress()
    assert progress.total == 4 and facts_of(folder)["request"] == mark["request"]


@pytest.mark.parametrize(
    ("lora", "changes", "message"),
    [
        ("sdxl", {}, "DSPO Blind Test: the LoRA 'sdxl.safetensors' fits no layer of the model"),
        ("text", {}, "changes only the text encoder"),
        ("zero", {}, "are identical"),
        ("liked", {"lora_name": "none"}, "no LoRA is given; wire one into `lora`, or choose one in `lora_name`"),
        ("liked", {"strength": 0.0}, "a LoRA of strength 0 changes nothing"),
        ("liked", {"prompts": "# none"}, "no prompts in it"),
        ("liked", {"name": "../unmade"}, "not accepted"),
    ],
)
def test_what_is_no_test(lora: str, changes: dict[str, Any], message: str, server: ComfyServer) -> None:
    assert message in refused(server, blind("unmade", lora, **changes))
    assert not list((server.base / "output").rglob("*unmade*"))


@pytest.mark.parametrize("lora", ["sdxl", "text"])
@pytest.mark.parametrize("node", ["DSPOApplyLora", "DSPOCompareSampler"])
def test_a_lora_that_patches_nothing_is_an_error(node: str, lora: str, server: ComfyServer) -> None:
    """ComfyUI itself draws without it, and without a word."""
    graph = with_model({})
    named = {"model": ["3", 0], "lora_name": f"{lora}.safetensors"}
    if node == "DSPOApplyLora":
        sampler = {"model": ["9", 0], "positive": ["4", 0], "negative": ["5", 0], "latent_image": ["6", 0], "seed": 1}
        graph["9"] = {"class_type": node, "inputs": {**named, "strength": 1.0}}
        graph["10"] = {"class_type": "KSampler", "inputs": {**sampler, **SAMPLING, "denoise": 1.0}}
        graph["11"] = {"class_type": "SaveLatent", "inputs": {"samples": ["10", 0], "filename_prefix": "test/foreign"}}
    else:
        wires = {"vae": ["3", 2], "positive": ["4", 0], "negative": ["5", 0], "latent_image": ["6", 0]}
        values = {"first_seed": 1, "pictures": 1, "strengths": "1", "denoise": 1.0}
        graph["9"] = {"class_type": node, "inputs": {**named, **wires, **values, **SAMPLING}}
    words = {"sdxl": "fits no layer of the model", "text": "changes only the text encoder"}[lora]
    assert words in refused(server, graph)


def two_candidates(name: str, wired: bool, **changes: Any) -> Graph:
    """Two Candidates, without the LoRA ("2") and with it ("5", with other values) -> Blind Test from Images ("4")."""
    graph = candidates(None)
    lora = {"model": ["1", 0], "lora_name": "liked.safetensors", "strength": 1.0}
    graph["lora"] = {"class_type": "DSPOApplyLora", "inputs": lora}
    graph["5"] = {"class_type": "DSPOCandidates", "inputs": {**graph["2"]["inputs"], "model": ["lora", 0], **changes}}
    test = {"base": ["2", 0], "aligned": ["5", 0], "prompts": "", "name": name}
    wires = {"base_candidates": ["2", 1], "aligned_candidates": ["5", 1]} if wired else {"prompts": ["2", 2]}
    graph["4"] = {"class_type": "DSPOBlindTestImages", "inputs": {**test, **wires}}
    return graph


@pytest.mark.parametrize(
    ("wired", "changes", "message"),
    [
        (True, {"seed": 1001}, "image 1: seed 1000 without the LoRA, 1001 with it"),
        (False, {"seed": 1001}, "seed 1000 without the LoRA, 1001 with it (in the graph: DSPOCandidates #2 and"),
        (True, {"prompts": "red dog\ngreen bird"}, "image 3: prompt 'blue cat' without the LoRA, 'green bird' with it"),
        (True, {"cfg": 1.0}, "cfg 3.0 without the LoRA, 1.0 with it"),
        (False, {"width": 128}, "the images are 64 x 64 without the LoRA, 128 x 64 with it"),
    ],
)
def test_unlike_sides_are_refused(wired: bool, changes: dict[str, Any], message: str, server: ComfyServer) -> None:
    assert message in refused(server, two_candidates("unlike", wired, **changes))
    assert not list((server.base / "output").rglob("*unlike*"))


def test_candidates_tell_prompts_and_seeds(server: ComfyServer) -> None:
    assert server.run(two_candidates("alike", True))["4"]["dspo_blind"] == ["alike-01"]
    groups = PreferenceStore(folder_of(server, "alike-01")).groups()
    assert [group.prompt for group in groups] == ["red dog", "red dog", "blue cat", "blue cat"]
    assert [[picture.seed for picture in group.images] for group in groups] == [[1000] * 2, [1001] * 2] * 2
    swapped = two_candidates("swapped", False)
    swapped["4"]["inputs"] |= {"base": ["5", 0], "aligned": ["2", 0]}
    assert "the LoRA stands behind `base` (DSPOApplyLora #lora) and not behind `aligned`" in refused(server, swapped)


def noted(server: ComfyServer, graph: Graph) -> str:
    before = len(server.log())
    server.run(graph)
    return server.log()[before:]


def test_loras_that_do_not_go_together_are_told(server: ComfyServer) -> None:
    """By names in the graph, from core's loader and ours, and by what the files say."""
    folder = server.base / "models" / "loras"
    tensors = load_file(folder / "liked.safetensors")
    made = refined_from(folder / "liked.safetensors", "liked", wired=["style"])
    save_file({k: 2 * v for k, v in tensors.items()}, str(folder / "second.safetensors"), metadata=made.metadata())
    graph = with_model({})
    first = {"model": ["3", 0], "lora_name": "liked.safetensors", "strength_model": 1.0}
    second = {"model": ["first", 0], "lora_name": "second.safetensors", "strength": 1.0}
    graph["first"] = {"class_type": "LoraLoaderModelOnly", "inputs": first}
    graph["second"] = {"class_type": "DSPOApplyLora", "inputs": second}
    wires = {"model": ["second", 0], "positive": ["4", 0], "negative": ["5", 0], "latent_image": ["6", 0], "seed": 1}
    graph["10"] = {"class_type": "KSampler", "inputs": {**wires, **SAMPLING, "denoise": 1.0}}
    graph["11"] = {"class_type": "SaveLatent", "inputs": {"samples": ["10", 0], "filename_prefix": "test/lineage"}}
    words = noted(server, graph)
    assert "second contains liked already, and liked is loaded too" in words
    assert "second was trained on a model with style, which is not loaded here" in words
    again = {"model": ["3", 0], "lora_name": "second.safetensors", "strength": 1.0}
    graph["first"] = {"class_type": "DSPOApplyLora", "inputs": again}
    graph["second"]["inputs"]["lora_name"] = "liked.safetensors"
    assert "second, which is loaded too, contains liked already" in noted(server, graph)
    graph["first"]["inputs"]["strength"] = 0.0
    assert "contains" not in noted(server, graph)


def trained(name: str, **settings: Any) -> Graph:
    """Train LoRA ("2") on the checkpoint ("3")."""
    return train_graph("tiny", name, steps=2, preview_every=2, preview_prompt="red dog", **settings)


def test_what_lies_beside_a_trained_lora_and_what_a_test_adds(server: ComfyServer) -> None:
    """A preview that ComfyUI itself serves, a thumbnail in the header, a description, the test's result, and a card."""
    put_pairs(server.base)
    graph = trained("kept")
    test = blind("kept", strength=STRENGTH)["4"]
    test["inputs"] |= {"model": ["3", 0], "clip": ["3", 1], "vae": ["3", 2], "lora": ["2", 0], "lora_name": "none"}
    graph["4"] = test
    outputs = server.run(graph, LONG)
    assert outputs["4"]["dspo_blind"] == ["kept-01"]
    folder = server.base / "output" / "loras" / "dspo"
    names = {f"kept-01.{suffix}" for suffix in ("safetensors", "preview.png", "json")}
    assert {path.name for path in folder.glob("kept-01*")} == names
    header = server.get("/view_metadata/loras?filename=dspo/kept-01.safetensors")
    assert header["modelspec.thumbnail"].startswith("data:image/jpeg;base64,")
    examples = server.base / "output" / "dspo" / "runs" / "kept-01" / "examples"
    assert len(list(examples.glob("*-base.png"))) == len(list(examples.glob("*-lora.png"))) == 2
    page = Page(server)
    tested = folder_of(server, "kept-01")
    assert facts_of(tested)["lora"] == "dspo/kept-01.safetensors"
    (untested, kind) = card_of(page, "kept-01")
    assert kind == "image/png" and untested.width == 1220
    store = PreferenceStore(tested)
    while questions := store.next():
        arms_of = {picture.image: picture.arm for group in store.groups() for picture in group.images}
        winner = next(each for each in (questions[0].left, questions[0].right) if arms_of[each] == "lora")
        store.vote(questions[0].pair, "win", winner)
    described = json.loads((folder / "kept-01.json").read_text(encoding="utf-8"))
    assert "test" not in described["dspo"]
    told = page.get("result", place="blind", set="kept-01").json
    described = json.loads((folder / "kept-01.json").read_text(encoding="utf-8"))
    assert described["dspo"]["test"]["win_rate"] == told["win_rate"] == 1.0
    assert described["dspo"]["test"]["low"] == told["low"] and described["dspo"]["set"] == "tiny"
    assert described["notes"].endswith(told["text"])
    assert card_of(page, "kept-01")[0].height > untested.height
    assert page.get("card", run="nothing").status == 404
    before = (folder / "kept-01.safetensors").read_bytes()
    server.free()
    with server.listen() as events:
        server.wait(server.queue(graph, events.client_id), LONG)
        assert not [text for text in texts(events) if text.startswith("Step ")], "found, and not trained again"
    assert (folder / "kept-01.safetensors").read_bytes() == before


def card_of(page: Page, run: str) -> tuple[Image.Image, str]:
    answer = page.get("card", run=run, theme="dark")
    assert answer.status == 200
    return Image.open(io.BytesIO(answer.body)), answer.kind


def test_a_run_names_what_it_refines_and_what_was_wired(server: ComfyServer) -> None:
    put_pairs(server.base)
    server.run(trained("parent"), LONG)
    graph = trained("child", refine_lora="dspo/parent-01.safetensors")
    style = {"model": ["3", 0], "lora_name": "liked.safetensors", "strength": 0.5}
    graph["style"] = {"class_type": "DSPOApplyLora", "inputs": style}
    graph["2"]["inputs"]["model"] = ["style", 0]
    server.run(graph, LONG)
    folder = server.base / "output" / "loras" / "dspo"
    made = lineage_in(file_metadata(folder / "child-01.safetensors"))
    parent = file_metadata(folder / "parent-01.safetensors")
    assert made == Lineage((NamedFile("parent-01", parent["sshs_model_hash"]),), ("liked",))
    assert lineage_in(parent) == Lineage()
    described = json.loads((folder / "child-01.json").read_text(encoding="utf-8"))
    assert described["dspo"]["parent"] == "parent-01"
    assert "Refined from parent-01, which it contains. Trained on a model with liked" in described["description"]
