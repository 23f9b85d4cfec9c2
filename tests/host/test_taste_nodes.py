"""DSPO Taste and DSPO Score Images in a real ComfyUI, on the playground, with a taste that is known."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comfy_server import ComfyServer
from graphs import Graph
from PIL import Image
from test_collecting import refused
from test_playground import PROMPTS, SAMPLING, playground

from dspo_train.preferences import PreferenceStore
from dspo_train.scorers.toys import large_and_dark, look
from dspo_train.taste.kept import kept_features
from dspo_train.taste.model import load_taste

pytestmark = pytest.mark.comfy

WIRES = {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2]}
SET = "taste-of-shapes"
FRESH = ("a pink star", "a orange circle", "a teal square", "a green triangle")  # none of those that are voted on
SEEDS = 6
LONG = 400  # seconds


def drawn(node: str, prompts: tuple[str, ...], count: int, seed: int, **changes: Any) -> Graph:
    values = {"prompts": "\n".join(prompts), "negative": "", "seeds_per_prompt": count, "seed": seed, "batch_size": 0}
    inputs = {**WIRES, **values, "width": 64, "height": 64, **SAMPLING, **changes}
    return {**playground(), node: {"class_type": "DSPOCandidates", "inputs": inputs}}


def collected(prompts: tuple[str, ...] = PROMPTS, set: str = SET, seed: int = 1, **changes: Any) -> Graph:
    inputs = {"images": ["2", 0], "candidates": ["2", 1], "set": set, "schedule": "all", **changes}
    return {**drawn("2", prompts, 3, seed), "3": {"class_type": "DSPOCollectPairs", "inputs": inputs}}


def learned(set: str = SET, name: str = "shapes") -> Graph:
    """Preference Set ("4") -> Taste ("5"), whose report "report" shows."""
    read = {"dataset": set, "shown": 4, "allow_empty_captions": False}
    return {
        **playground(),
        "4": {"class_type": "DSPOPreferenceSet", "inputs": read},
        "5": {"class_type": "DSPOTaste", "inputs": {**WIRES, "pairs": ["4", 0], "name": name}},
        "report": {"class_type": "PreviewAny", "inputs": {"source": ["5", 1]}},
    }


def scored(node: str, images: list[Any], **inputs: Any) -> Graph:
    """Score Images, its sorted images saved by `NODE-save`, its scores shown by `NODE-scores`."""
    values = {"images": images, **WIRES, "best": 2, "among": "each prompt", **inputs}
    return {
        node: {"class_type": "DSPOScoreImages", "inputs": values},
        f"{node}-save": {"class_type": "SaveImage", "inputs": {"images": [node, 0], "filename_prefix": "test/sorted"}},
        f"{node}-best": {"class_type": "SaveImage", "inputs": {"images": [node, 1], "filename_prefix": "test/best"}},
        f"{node}-scores": {"class_type": "PreviewAny", "inputs": {"source": [node, 2]}},
    }


def store_of(server: ComfyServer, set: str = SET) -> PreferenceStore:
    return PreferenceStore(server.base / "input" / set)


def vote(store: PreferenceStore, most: int = 1000) -> int:
    """Answer as the known taste does: larger shapes, darker backgrounds."""
    questions = store.next(most)
    for question in questions:
        sides = (question.left, question.right)
        store.vote(question.pair, "win", max(sides, key=lambda name: taste_of(store.folder / name)))
    return len(questions)


def taste_of(image: Path | bytes) -> float:
    opened = Image.open(image if isinstance(image, Path) else io.BytesIO(image))
    return large_and_dark(look(opened.convert("RGB")))


def tastes(server: ComfyServer, outputs: Any, node: str) -> list[float]:
    """Of the images that a node saved, by the known taste."""
    return [taste_of(server.view(**file)) for file in outputs[node]["images"]]


def numbers(outputs: Any, node: str) -> list[float]:
    return [float(line) for line in outputs[node]["text"][0].splitlines()]


def in_order(values: list[float]) -> list[bool]:
    """Of all pairs of one prompt's images, those that stand in the order of the known taste."""
    groups = [values[start : start + SEEDS] for start in range(0, len(values), SEEDS)]
    return [a > b for group in groups for i, a in enumerate(group) for b in group[i + 1 :]]


@pytest.fixture(scope="module")
def voted(server: ComfyServer) -> PreferenceStore:
    """A set of 8 prompts with 3 images each, and all 24 answers."""
    server.run(collected(), LONG)
    store = store_of(server)
    assert vote(store) == 24
    return store


def test_a_set_keeps_how_the_model_sees_its_images(server: ComfyServer, voted: PreferenceStore) -> None:
    (rows,) = kept_features(voted.folder).values()
    assert rows.keys() == {stored.image for group in voted.groups() for stored in group.images}
    assert len({row.tobytes() for row in rows.values()}) == 24


def test_fresh_images_are_sorted_by_the_taste_that_votes_showed(server: ComfyServer, voted: PreferenceStore) -> None:
    """New prompts and seeds: of 60 pairs, 30 stand right by chance, and 41 or more once in 300 times."""
    graph = learned() | drawn("6", FRESH, SEEDS, 900)
    graph |= scored("7", ["6", 0], taste=["5", 0], candidates=["6", 1])
    graph |= scored("8", ["6", 0], taste=["5", 0], prompts="\n".join(FRESH))
    outputs = server.run(graph, LONG)
    right = in_order(tastes(server, outputs, "7-save"))
    assert len(right) == len(FRESH) * SEEDS * (SEEDS - 1) // 2
    assert sum(right) > 0.68 * len(right)
    scores = np.array(numbers(outputs, "7-scores")).reshape(len(FRESH), SEEDS)
    assert (np.diff(scores) <= 0).all(), "the best image of each prompt comes first"
    best, every = tastes(server, outputs, "7-best"), tastes(server, outputs, "7-save")
    assert best == [value for start in range(0, len(every), SEEDS) for value in every[start : start + 2]]
    assert np.mean(best) > np.mean(every)
    assert numbers(outputs, "8-scores") == pytest.approx(scores.ravel(), abs=0.05), "as computed from the images"
    saved = load_taste(server.base / "output" / "dspo" / "tastes" / "shapes.safetensors")
    assert saved.assessment.pairs == 24 and saved.assessment.prompts == 8
    assert saved.assessment.text in outputs["report"]["text"][0] and saved.assessment.text in outputs["5"]["text"][0]


def test_more_votes_teach_it_again_and_only_new_images_are_looked_at(server: ComfyServer) -> None:
    set, name = "taste-grows", "grows"
    server.run(collected(PROMPTS[:4], set), LONG)
    store = store_of(server, set)
    assert vote(store, 6) == 6
    file = server.base / "output" / "dspo" / "tastes" / f"{name}.safetensors"
    server.run(learned(set, name), LONG)
    before, seen = load_taste(file), sorted((store.folder / ".dspo_taste").iterdir())
    server.run(learned(set, name), LONG)
    assert load_taste(file).assessment.text == before.assessment.text
    assert vote(store) == 6
    server.run(learned(set, name), LONG)
    assert (before.assessment.pairs, load_taste(file).assessment.pairs) == (6, 12)
    assert sorted((store.folder / ".dspo_taste").iterdir()) == seen
    file.unlink()
    server.run(learned(set, name), LONG)
    assert load_taste(file).assessment.pairs == 12


def test_a_set_without_features_is_looked_at_whole(server: ComfyServer) -> None:
    """As one collected before there were any, or from images of other nodes."""
    set = "taste-late"
    server.run(collected(PROMPTS[:4], set), LONG)
    store = store_of(server, set)
    ((identity, rows),) = kept_features(store.folder).items()
    for file in (store.folder / ".dspo_taste").iterdir():
        file.unlink()
    assert vote(store, 4) == 4
    server.run(learned(set, "late"), LONG)
    ((again, found),) = kept_features(store.folder).items()
    assert again == identity and found.keys() == rows.keys()
    far = max(np.abs(np.float32(rows[a]) - np.float32(rows[b])).max() for a in rows for b in rows)
    assert all(np.abs(np.float32(found[name]) - np.float32(row)).max() < 0.01 * far for name, row in rows.items())


def test_a_saved_taste_is_chosen_by_its_name(server: ComfyServer, voted: PreferenceStore) -> None:
    server.run(learned(name="by-name"), LONG)
    listed = server.get("/object_info/DSPOScoreImages")["DSPOScoreImages"]["input"]["optional"]["taste_name"]
    assert "by-name" in str(listed)
    graph = drawn("6", FRESH, SEEDS, 900) | scored("7", ["6", 0], taste_name="by-name", candidates=["6", 1], best=0)
    right = in_order(tastes(server, server.run(graph, LONG), "7-best"))
    assert sum(right) > 0.68 * len(right)


def test_the_best_of_all_images_together(server: ComfyServer, voted: PreferenceStore) -> None:
    graph = learned() | drawn("6", FRESH, SEEDS, 900)
    graph |= scored("7", ["6", 0], taste=["5", 0], candidates=["6", 1], best=5, among="all images")
    outputs = server.run(graph, LONG)
    scores = numbers(outputs, "7-scores")
    assert scores == sorted(scores, reverse=True) and len(scores) == len(FRESH) * SEEDS
    assert len(outputs["7-best"]["images"]) == len(outputs["7"]["images"]) == 5


def test_the_best_are_collected_with_their_prompts_and_features(server: ComfyServer, voted: PreferenceStore) -> None:
    graph = learned() | drawn("6", FRESH[:2], SEEDS, 950)
    graph |= scored("7", ["6", 0], taste=["5", 0], candidates=["6", 1], best=3)
    inputs = {"images": ["7", 1], "candidates": ["7", 3], "set": "taste-best", "schedule": "all"}
    graph["9"] = {"class_type": "DSPOCollectPairs", "inputs": inputs}
    server.run(graph, LONG)
    store = store_of(server, "taste-best")
    assert [(group.prompt, len(group.images)) for group in store.groups()] == [(prompt, 3) for prompt in FRESH[:2]]
    (rows,) = kept_features(store.folder).values()
    assert len(rows) == 6


def test_another_model_than_the_tastes_is_refused(server: ComfyServer, voted: PreferenceStore) -> None:
    graph = learned() | drawn("6", FRESH[:1], 2, 900)
    graph |= scored("7", ["6", 0], taste=["5", 0], candidates=["6", 1])
    graph |= {"9": playground("shapes-flow")["1"]}
    graph["6"]["inputs"] |= {"model": ["9", 0], "cfg": 2.0, "sampler_name": "euler"}
    graph["7"]["inputs"] |= {"model": ["9", 0]}
    words = refused(server, graph)
    assert "features" in words and len(words.splitlines()) == 1
    none = drawn("6", FRESH[:1], 2, 900) | scored("7", ["6", 0], candidates=["6", 1])
    assert "no taste is given" in refused(server, none)
