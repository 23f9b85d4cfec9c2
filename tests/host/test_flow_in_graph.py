"""The nodes on a flow model, over HTTP: candidates, training, Cancel, a quantised base, comparing, a blind test."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from comfy_server import ComfyServer, Core
from graphs import SEED, Graph, put_pairs, train_graph
from test_train_in_graph import LONG, lora_file, pictures, run_folder, same_weights, steps, texts, until_step

pytestmark = pytest.mark.comfy
FAMILIES = ("flux", "flux2", "anima")  # latents of 16 channels, of 128 at a sixteenth, and of videos
SAMPLING = {"steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}


@pytest.fixture(autouse=True)
def _flow(core: Core) -> None:
    if not core.trains_flow():
        pytest.skip("this core has no differentiable kernels for flow models")


def on_family(graph: Graph, family: str, stored: str = "") -> Graph:
    """The graph with the family's objects in place of the checkpoint's."""
    return graph | {"3": {"class_type": "TestTinyFamily", "inputs": {"family": family, "stored": stored}}}


def drawing(node: str, model: list[Any]) -> Graph:
    wires = {"model": model, "clip": ["3", 1], "vae": ["3", 2], "negative": "", "batch_size": 0}
    values = {"prompts": "red dog\na very small blue cat", "seeds_per_prompt": 2, "seed": SEED}
    inputs = {**wires, **values, "width": 128, "height": 64, **SAMPLING}
    save = {"images": [node, 0], "filename_prefix": f"flow/{node}"}
    return {
        node: {"class_type": "DSPOCandidates", "inputs": inputs},
        f"{node}-save": {"class_type": "SaveImage", "inputs": save},
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_from_candidates_to_a_blind_test(server: ComfyServer, family: str) -> None:
    """Trained with previews, drawn without the LoRA and with it, compared from the same noise, and put to a test."""
    name = f"loop-{family}"
    training = train_graph(put_pairs(server.base), name, steps=2, preview_every=1, preview_prompt="red dog")
    graph = on_family(training, family)
    graph["apply"] = {"class_type": "DSPOApplyLora", "inputs": {"model": ["3", 0], "lora": ["2", 0], "strength": 10.0}}
    graph |= drawing("base", ["3", 0]) | drawing("with", ["apply", 0])
    texts_of = {"4": "red dog", "5": ""}
    for node, text in texts_of.items():
        graph[node] = {"class_type": "CLIPTextEncode", "inputs": {"clip": ["3", 1], "text": text}}
    graph["6"] = {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}}
    wires = {"model": ["3", 0], "vae": ["3", 2], "positive": ["4", 0], "negative": ["5", 0], "latent_image": ["6", 0]}
    values = {"denoise": 1.0, "first_seed": SEED, "pictures": 1, "strengths": "30"}
    compare = {**wires, **SAMPLING, **values, "lora": ["2", 0]}
    graph["7"] = {"class_type": "DSPOCompareSampler", "inputs": compare}
    test = {"base": ["base", 0], "aligned": ["with", 0], "prompts": ["base", 2], "name": name, "lora_name": ""}
    graph["8"] = {"class_type": "DSPOBlindTestImages", "inputs": test}
    before = len(server.log())
    outputs = server.run(graph, LONG)
    assert "not loaded" not in server.log()[before:]
    base, aligned = (pictures(server, outputs[f"{node}-save"]["images"]) for node in ("base", "with"))
    assert [image.shape for image in base] == [(64, 128, 3)] * 4
    assert all(np.abs(one - other).max() > 0 for one, other in zip(base, aligned, strict=True))
    assert not np.array_equal(base[0], base[2]), "another prompt, another image"
    arms = [pictures(server, outputs["7"][arm]) for arm in ("a_images", "b_images")]
    assert [arm[0].shape for arm in arms] == [(64, 64, 3)] * 2
    assert not np.array_equal(arms[0][0], arms[1][0])
    assert len(list((run_folder(server, f"{name}-01") / "previews").glob("*.png"))) == 2
    info = json.loads((run_folder(server, f"{name}-01") / "run.json").read_text(encoding="utf-8"))
    assert info["base"]["prediction"] == "flow"
    server.free()


def test_cancelled_and_queued_again_it_ends_with_the_same_weights(server: ComfyServer) -> None:
    graph = on_family(train_graph(put_pairs(server.base), "flow-cancelled", steps=8, training_seed=1), "flux")
    with server.listen() as events:
        prompt = server.queue(graph, events.client_id)
        until_step(events, 3)
        server.interrupt()
        entry = server.wait(prompt, LONG)
    assert entry["status"]["messages"][-1][0] == "execution_interrupted"
    assert steps(server, "flow-cancelled-01")[-1] < 8
    server.run(graph, LONG)
    assert steps(server, "flow-cancelled-01") == list(range(1, 9))
    straight = on_family(train_graph(put_pairs(server.base), "flow-straight", steps=8, training_seed=1), "flux")
    server.run(straight, LONG)
    assert same_weights(lora_file(server, "flow-cancelled-01"), lora_file(server, "flow-straight-01"))


def test_killed_and_queued_again_it_ends_with_the_same_weights(fresh_server: Callable[..., ComfyServer]) -> None:
    server = fresh_server()
    graph = on_family(train_graph(put_pairs(server.base), "killed", steps=8, save_every=2), "flux")
    with server.listen() as events:
        server.queue(graph, events.client_id)
        until_step(events, 5)
        server.kill()
    server.restart()
    server.run(graph, LONG)
    assert steps(server, "killed-01") == list(range(1, 9))
    server.run(on_family(train_graph(put_pairs(server.base), "whole", steps=8, save_every=50), "flux"), LONG)
    assert same_weights(lora_file(server, "killed-01"), lora_file(server, "whole-01"))


def test_a_quantised_base_is_another_run_and_found_again(server: ComfyServer) -> None:
    dataset = put_pairs(server.base)
    plain, stored = (on_family(train_graph(dataset, "stored", steps=2), "flux", kind) for kind in ("", "fp8_scaled"))
    server.run(plain, LONG)
    server.run(stored, LONG)
    assert not same_weights(lora_file(server, "stored-01"), lora_file(server, "stored-02"))
    server.free()
    stored["1"]["inputs"]["shown"] = 3  # so that the core's own cache does not answer
    with server.listen() as events:
        server.wait(server.queue(stored, events.client_id), LONG)
    assert not [text for text in texts(events) if text.startswith("Step ")], "a finished run is not trained again"


def test_a_second_round_starts_from_the_first_ones_lora(server: ComfyServer) -> None:
    """It becomes the frozen reference, every layer of it, and the new LoRA contains it."""
    dataset = put_pairs(server.base)
    server.run(on_family(train_graph(dataset, "flow-first", steps=2), "flux"), LONG)
    first = "dspo/flow-first-01.safetensors"
    before = len(server.log())
    server.run(on_family(train_graph(dataset, "flow-second", steps=2, refine_lora=first), "flux"), LONG)
    assert "not used for refinement" not in server.log()[before:]
    reference = run_folder(server, "flow-second-01") / "beginning" / "reference.safetensors"
    assert same_weights(reference, lora_file(server, "flow-first-01"))
    assert not same_weights(lora_file(server, "flow-second-01"), lora_file(server, "flow-first-01"))
