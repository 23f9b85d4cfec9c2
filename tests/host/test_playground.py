"""The embedded model in ComfyUI's classes: it draws as the library's does, and learns a taste from votes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from comfy_server import ComfyServer, Core
from graphs import Graph
from pages import Page, Place, ask, click
from PIL import Image
from test_inside import inside

from dspo_train.scorers.toys import large_and_dark, look

pytestmark = pytest.mark.comfy

CLOSE = 1e-4
SET = "by-the-known-taste"
PROMPTS = (
    *("a red circle", "a blue star", "a green heart", "a purple square"),
    *("a yellow triangle", "a teal cross", "a pink circle", "a red star"),
)
SHOWN = "a pink star"  # none of the prompts that are voted on
SAMPLING = {"steps": 16, "cfg": 2.0, "sampler_name": "dpmpp_2m", "scheduler": "simple"}
TRAINING = {
    "preset": "Strong",
    "steps": 60,
    "preview_prompt": "",
    "preview_every": 0,
    "pairs_at_once": 8,
    "accumulate": 1,
}
SEEDS, BETTER = 16, 14  # by chance, as many are better once in 500 times
LONG = 400  # seconds


def test_prompts_are_encoded_as_by_the_library(core: Core) -> None:
    seen = inside(core, "playground_text")
    assert seen["tokens"] == 16
    assert seen["difference"] < CLOSE < seen["spread"]


def test_images_are_encoded_and_decoded_as_by_the_library(core: Core) -> None:
    seen = inside(core, "playground_latents")
    assert seen["encoded"] < CLOSE and seen["decoded"] < CLOSE
    assert seen["spread"] > 0.1 and seen["lost"] < 0.05


def test_the_same_noise_is_predicted(core: Core) -> None:
    seen = inside(core, "playground_predictions")
    assert max(seen[name] for name in ("sigmas", "raw", "denoised", "as_flow")) < CLOSE
    assert seen["v_prediction"]


def test_every_layer_of_a_lora_is_patched(core: Core) -> None:
    seen = inside(core, "playground_lora")
    assert seen["patched"] == seen["patched_flow"] == seen["layers"] > 0
    assert seen["difference"] < CLOSE < 0.01 < seen["effect"]


def test_stock_nodes_draw_what_is_asked_for(core: Core) -> None:
    seen = inside(core, "playground_drawn")
    assert seen["images"] == 16
    assert seen["stock"] >= 15 / 16


def test_the_flow_model_is_trained_as_one(core: Core) -> None:
    if not core.trains_flow():
        pytest.skip("this core has no differentiable kernels for flow models")
    seen = inside(core, "playground_flow")
    assert seen["family"] == ["Playground", 64]
    assert seen["process"] == ["flow", 3.0]
    assert seen["sigmas"] == pytest.approx([3 / 1002, 0.75, 1.0])
    assert seen["another run"]


def test_stock_nodes_draw_what_is_asked_for_with_the_flow_model(core: Core) -> None:
    seen = inside(core, "playground_flow_drawn")
    assert seen["images"] == 48
    assert seen["right"] >= 46 / 48


def playground(model: str = "") -> Graph:
    """A graph from before there was a choice leaves the model out."""
    return {"1": {"class_type": "DSPOPlayground", "inputs": {"model": model} if model else {}}}


def collected(model: str = "") -> Graph:
    """Three images of each prompt, all pairs of them: 24 questions."""
    wires = {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2]}
    values = {"prompts": "\n".join(PROMPTS), "negative": "", "seeds_per_prompt": 3, "seed": 1, "batch_size": 0}
    size = {"width": 64, "height": 64}
    gathered = {"images": ["2", 0], "candidates": ["2", 1], "set": SET + model, "schedule": "all"}
    return {
        **playground(model),
        "2": {"class_type": "DSPOCandidates", "inputs": {**wires, **values, **size, **SAMPLING}},
        "3": {"class_type": "DSPOCollectPairs", "inputs": gathered},
    }


def trained_and_compared(model: str, learning_rate: float) -> Graph:
    wires = {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2]}
    compare = {
        **{"model": ["1", 0], "vae": ["1", 2], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["8", 0]},
        **{"lora": ["5", 0], "first_seed": 1000, "pictures": SEEDS, "strengths": "1.0", "denoise": 1.0, **SAMPLING},
    }
    training = {**wires, "pairs": ["4", 0], "name": f"by-votes{model}", "learning_rate": learning_rate}
    return {
        **playground(model),
        "4": {
            "class_type": "DSPOPreferenceSet",
            "inputs": {"dataset": SET + model, "shown": 4, "allow_empty_captions": False},
        },
        "5": {"class_type": "DSPOTrainLora", "inputs": {**training, **TRAINING}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": SHOWN}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": ""}},
        "8": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "9": {"class_type": "DSPOCompareSampler", "inputs": compare},
    }


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def votes(page: Page, place: Place) -> Iterator[int]:
    """Answer every question as the known taste does: larger shapes, darker backgrounds."""
    while questions := ask(page, place, 1):
        (question,) = questions
        sides = [question["left"], question["right"]]
        taste = {name: large_and_dark(look(opened(page.get("image", **place, image=name).body))) for name in sides}
        answer = click(page, place, question, winner=max(sides, key=taste.__getitem__))
        assert answer.json["status"] == "recorded"
        yield answer.json["progress"]["open"]


@pytest.mark.parametrize(("model", "learning_rate"), [("", 0.001), ("shapes-flow", 0.0005)])
def test_a_taste_shown_by_votes_is_learned(server: ComfyServer, core: Core, model: str, learning_rate: float) -> None:
    """From candidates to the comparison, over HTTP alone; the comparison's prompt and seeds are new.

    At the first one's learning rate the flow model goes on to +6, where no image shows the prompt any more.
    """
    if model == "shapes-flow" and not core.trains_flow():
        pytest.skip("this core has no differentiable kernels for flow models")
    server.run(collected(model), LONG)
    assert list(votes(Page(server), {"place": "sets", "set": SET + model})) == list(range(23, -1, -1))
    outputs: dict[str, Any] = server.run(trained_and_compared(model, learning_rate), LONG)
    base, aligned = (
        [look(opened(server.view(**picture))) for picture in outputs["9"][key]] for key in ("a_images", "b_images")
    )
    without, having = ([large_and_dark(reading) for reading in readings] for readings in (base, aligned))
    assert len(without) == len(having) == SEEDS
    assert sum(new > old for old, new in zip(without, having, strict=True)) >= BETTER
    assert sum(having) / SEEDS > sum(without) / SEEDS + 0.5
    assert sum(reading.fits(SHOWN) for reading in aligned) >= BETTER, "the prompt is still followed"
