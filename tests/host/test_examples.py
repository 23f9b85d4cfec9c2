"""The workflows that come with the pack: they run as shipped, and the page opens them."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from browsers import node_program
from comfy_server import PACK, PACK_NAME, ComfyServer, link
from PIL import Image

from dspo_train.scorers.toys import large_and_dark, look

EXAMPLES = PACK / "example_workflows"
WORKFLOWS = sorted(EXAMPLES.glob("*.json"))
BLUEPRINTS = sorted((PACK / "subgraphs").glob("*.json"))
BUTTONS = {"vote_now", "vote_blind"}  # widgets that the page adds
PLAYGROUND, LOOP, TRAIN, STRENGTHS, GRID = WORKFLOWS
CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"  # the one that ComfyUI's own first workflow offers to download
NOTES = {"Note", "MarkdownNote"}  # of the page only
SEEDS = {"seed", "noise_seed"}  # the page puts a widget of its own after these
BROWSER_SCRIPT = PACK / "tests" / "browser" / "templates.mjs"
LONG = 400  # seconds
SMALL = {  # for a processor; the shipped values are for a GPU
    "EmptyLatentImage": {"width": 64, "height": 64},
    "DSPOTrainLora": {"steps": 3, "resolution": 64, "preview_every": 0, "accumulate": 1, "rounds": 1},
    "DSPOCompareSampler": {"steps": 2},
    "DSPOBlindTest": {"steps": 2, "width": 64, "height": 64, "images_per_prompt": 1},
    "DSPOCandidates": {"steps": 2, "width": 64, "height": 64, "seeds_per_prompt": 2},
    "KSampler": {"steps": 2},
}


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def to_api(workflow: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """A workflow of the page -> API format; `known` is /object_info."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: link for link in workflow["links"]}  # [id, from node, from slot, to node, to slot, type]
    api = {}
    for node in nodes.values():
        if node["type"] in NOTES | {"PrimitiveNode"}:
            continue
        info = known[node["type"]]["input"]
        inputs = _widgets(node, {**info.get("required", {}), **info.get("optional", {})})
        for slot in node["inputs"]:
            if slot["link"] is not None:
                _, source, output, *_ = links[slot["link"]]
                inputs[slot["name"]] = _wire(nodes[source], output)
        api[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return api


def _widgets(node: dict[str, Any], specs: dict[str, Any]) -> dict[str, Any]:
    """The values of a node's widgets by name; the file holds them in the schema's order.

    Newer cores give nodes of theirs more widgets, behind the old ones: like the page, take the defaults.
    """
    values = iter(node.get("widgets_values", []))
    found = {}
    for name, (kind, *options) in specs.items():
        if isinstance(kind, list) or kind in ("COMBO", "INT", "FLOAT", "STRING", "BOOLEAN"):
            added = () if node["type"].startswith("DSPO") else (dict(*options).get("default"),)
            found[name] = next(values, *added)
            if name in SEEDS:  # the page gives every input of that name such a widget
                assert next(values) == "fixed", f"{node['type']}: what happens to {name} after a run"
    assert list(values) == [], f"{node['type']} has as many values as widgets"
    return found


def _wire(source: dict[str, Any], output: int) -> Any:
    return source["widgets_values"][0] if source["type"] == "PrimitiveNode" else [str(source["id"]), output]


def small(graph: dict[str, Any]) -> dict[str, Any]:
    for node in graph.values():
        changes = SMALL.get(node["class_type"], {})
        assert changes.keys() <= node["inputs"].keys()
        node["inputs"].update(changes)
    return graph


def run(server: ComfyServer, path: Path) -> dict[str, list[Any]]:
    """The outputs by the nodes' types, once the workflow has succeeded; with small values, if it needs a checkpoint."""
    graph = to_api(load(path), server.get("/object_info"))
    if any(node["class_type"] == "CheckpointLoaderSimple" for node in graph.values()):
        place = server.base / "models" / "checkpoints"
        if not (place / CHECKPOINT).exists():
            link((place / "sd15.safetensors").resolve(), place / CHECKPOINT)
        small(graph)
    server.free()  # the pairs are those of another example: what is cached has no outputs
    outputs = server.run(graph, LONG)
    found: dict[str, list[Any]] = {}
    for node, output in outputs.items():
        found.setdefault(graph[node]["class_type"], []).append(output)
    return found


def size(server: ComfyServer, picture: dict[str, Any]) -> tuple[int, int]:
    return Image.open(io.BytesIO(server.view(**picture))).size


def taste(server: ComfyServer, pictures: list[dict[str, Any]]) -> float:
    """Mean of the taste behind the example pairs."""
    images = [Image.open(io.BytesIO(server.view(**picture))).convert("RGB") for picture in pictures]
    return sum(large_and_dark(look(image)) for image in images) / len(images)


@pytest.mark.comfy
def test_the_grid_shows_a_taste_that_was_learned(server: ComfyServer) -> None:
    """As shipped: four seeds without the LoRA and at three strengths."""
    outputs = run(server, GRID)
    (compared,) = outputs["DSPOCompareSampler"]
    base, aligned = compared["a_images"], compared["b_images"]
    assert (len(base), len(aligned)) == (4, 12)
    assert taste(server, aligned[4:8]) > taste(server, base) + 0.5
    (sheet,) = outputs["DSPOABGrid"]
    assert min(size(server, sheet["images"][0])) > 500


@pytest.mark.comfy
def test_the_loop_collects_and_waits(server: ComfyServer) -> None:
    """Two seeds of each prompt are two images in the set; see test_one_workflow.py for the rest of the loop."""
    outputs = run(server, LOOP)
    (values,) = [node["widgets_values"] for node in load(LOOP)["nodes"] if node["type"] == "DSPOCandidates"]
    count = len(values[0].splitlines())
    assert count >= 12
    assert len(list((server.base / "input" / "my-taste" / "images").iterdir())) == 2 * count
    assert not {"DSPOTrainLora", "DSPOBlindTest"} & outputs.keys()


@pytest.mark.comfy
def test_a_folder_is_trained_and_tested(server: ComfyServer) -> None:
    outputs = run(server, TRAIN)
    assert {"DSPOPreferenceSet", "DSPOTrainLora"} <= outputs.keys()
    (tested,) = outputs["DSPOBlindTest"]
    assert tested["dspo_blind"] == ["from-folder-01"]
    assert list((server.base / "output" / "loras" / "dspo").glob("from-folder-*.safetensors"))


@pytest.mark.comfy
def test_strengths_are_compared_on_one_sheet(server: ComfyServer) -> None:
    """The template names a LoRA of the loop's; any of this checkpoint will do."""
    trained = server.base / "output" / "loras" / "dspo"
    if not (trained / "my-taste-01.safetensors").exists():
        run(server, TRAIN)
        shutil.copy(trained / "from-folder-01.safetensors", trained / "my-taste-01.safetensors")
    outputs = run(server, STRENGTHS)
    assert [len(each["b_images"]) for each in outputs["DSPOCompareSampler"]] == [9]
    assert len(outputs["DSPOABGrid"]) == 1


@pytest.mark.comfy
def test_the_template_browser_lists_and_serves_them(server: ComfyServer) -> None:
    assert sorted(server.get("/workflow_templates")[PACK_NAME]) == [path.stem for path in WORKFLOWS]
    for path in WORKFLOWS:
        folder = f"/api/workflow_templates/{PACK_NAME}/"
        assert server.get(folder + quote(path.name)) == load(path)
        thumbnail = Image.open(io.BytesIO(server.fetch(folder + quote(path.stem) + ".jpg")))
        assert 500 <= thumbnail.width <= 800


@pytest.mark.comfy
def test_blueprints_are_offered_and_fit_the_nodes(server: ComfyServer) -> None:
    entries = server.get("/global_subgraphs")
    ours = {it["name"]: key for key, it in entries.items() if it["info"]["node_pack"] == f"custom_nodes.{PACK_NAME}"}
    assert sorted(ours) == [path.stem for path in BLUEPRINTS] == ["DSPO Draw and collect", "DSPO Train and test"]
    known = server.get("/object_info")
    for path in BLUEPRINTS:
        blueprint = load(path)
        assert json.loads(server.get(f"/global_subgraphs/{ours[path.stem]}")["data"]) == blueprint
        ((outer,), (inner,)) = blueprint["nodes"], blueprint["definitions"]["subgraphs"]
        widgets = {}
        for node in inner["nodes"]:
            info = known[node["type"]]["input"]
            widgets[str(node["id"])] = _widgets(node, {**info.get("required", {}), **info.get("optional", {})}).keys()
        assert outer["type"] == inner["id"]
        for node, widget in outer["properties"]["proxyWidgets"]:
            assert widget in widgets[node] | BUTTONS


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_node_lies_in_the_files_view(path: Path) -> None:
    """In a window of 1440 x 900, of which the page takes 56 pixels at the left and 96 at the top; at a legible size."""
    workflow = load(path)
    view = workflow["extra"]["ds"]
    assert view["scale"] >= 0.75
    for node in workflow["nodes"]:
        (x, y), (width, height), (left, top) = node["pos"], node["size"], view["offset"]
        assert (x + left) * view["scale"] >= 56 and (y - 30 + top) * view["scale"] >= 96, node["type"]
        assert (x + width + left) * view["scale"] <= 1440, node["type"]
        assert (y + height + top) * view["scale"] <= 860, node["type"]


@pytest.mark.browser
@pytest.mark.comfy
def test_the_page_opens_each_from_the_template_browser(fresh_server: Callable[..., ComfyServer]) -> None:
    node = node_program(BROWSER_SCRIPT)
    server = fresh_server()
    place = server.base / "models" / "checkpoints"
    link((place / "sd15.safetensors").resolve(), place / CHECKPOINT)
    done = subprocess.run(
        [node, str(BROWSER_SCRIPT), server.url, PACK_NAME, str(EXAMPLES)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=LONG,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    opened = json.loads(done.stdout.splitlines()[-1])
    assert opened["problems"] == []
    for path in WORKFLOWS:
        shown = opened["templates"][path.stem]
        assert shown["nodes"] == len(load(path)["nodes"])
        assert shown["thumbnails"] == len(WORKFLOWS)
        assert shown["dialogs"] == []
        assert shown["undefined"] == []
        assert shown["changed"] == []
        assert shown["covered"] == [], "at the sizes that the page gives them"
