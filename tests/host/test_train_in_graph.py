"""Training inside ComfyUI: it trains, saves, is used at once, can be cancelled and killed, and is found again."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import Kind, cached
from comfy_events import PROGRESS_TEXT, Events
from comfy_server import ComfyServer, link
from graphs import CHECKPOINT, SEED, applied_by_name, compared, put_pairs, train_graph, whole_graph, with_model
from PIL import Image
from safetensors.torch import load_file

pytestmark = pytest.mark.comfy
LONG = 400  # seconds


def pictures(server: ComfyServer, entries: list[dict[str, Any]]) -> list[np.ndarray]:
    return [np.asarray(Image.open(io.BytesIO(server.view(**entry))).convert("RGB")).astype(int) for entry in entries]


def lora_file(server: ComfyServer, name: str) -> Path:
    return server.base / "output" / "loras" / "dspo" / f"{name}.safetensors"


def run_folder(server: ComfyServer, name: str) -> Path:
    return server.base / "output" / "dspo" / "runs" / name


def steps(server: ComfyServer, name: str) -> list[int]:
    lines = (run_folder(server, name) / "reports.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["step"] for line in lines]


def same_weights(one: Path, other: Path) -> bool:
    first, second = load_file(one), load_file(other)
    return first.keys() == second.keys() and all(bool((first[k] == second[k]).all()) for k in first)


def until_step(events: Events, step: int) -> None:
    events.until(lambda e: any(f"Step {n} of" in text for text in texts(e) for n in range(step, step + 5)), LONG)


def texts(events: Events) -> list[str]:
    return [b.payload.decode() for b in events.binary if b.kind == PROGRESS_TEXT]


def test_the_whole_workflow(server: ComfyServer) -> None:
    """Trains, saves and samples; core's loader and ours make the same picture, which is not the base's."""
    before = len(server.log())
    with server.listen() as events:
        graph = whole_graph(put_pairs(server.base), "whole", steps=4, preview_every=2, preview_prompt="red dog")
        entry = server.wait(server.queue(graph, events.client_id), LONG)
        assert entry["status"]["status_str"] == "success", entry["status"]
        outputs = entry["outputs"]
        saved = events.until(lambda e: e.of("dspo.lora_saved"))
    by_core, by_us, base = (pictures(server, outputs[f"{n}-save"]["images"])[0] for n in ("by-core", "by-us", "base"))
    assert np.abs(by_core - by_us).max() == 0
    assert np.abs(by_core - base).max() > 8
    log = server.log()[before:]
    assert "not loaded" not in log
    assert "Traceback" not in log
    # What the page was told while it ran
    told = [text for text in texts(events) if text.startswith("Step ")]
    assert [text.splitlines()[0].split(" · ")[0] for text in told] == [f"Step {n} of 4" for n in range(1, 5)]
    assert re.match(r"Step 4 of 4\nPrefers winners: \d+% \(chance: 50%\)", told[-1])
    assert not any(word in text for text in told for word in ("margin", "accuracy", "e-0"))
    assert any("few" in text for text in texts(events)), "four pairs are few, and it is said"
    previews = [b for b in events.binary if b.kind in (1, 4)]
    sizes = {Image.open(io.BytesIO(b.payload)).size for b in previews}
    assert any(width > height for width, height in sizes), "base beside LoRA"
    assert len(list((run_folder(server, "whole-01") / "previews").glob("*.png"))) == 2
    # The LoRA is in core's list at once
    assert saved[0]["name"] == "dspo/whole-01.safetensors"
    known = server.get("/object_info/LoraLoader")["LoraLoader"]["input"]["required"]["lora_name"][0]
    assert saved[0]["name"] in [name.replace("\\", "/") for name in known]
    # The comparison: the same seeds as KSampler, at both strengths
    compared = pictures(server, outputs["7"]["a_images"]), pictures(server, outputs["7"]["b_images"])
    assert [len(arm) for arm in compared] == [2, 4]
    assert np.array_equal(compared[0][0], base)
    assert np.array_equal(compared[1][2], by_core)
    assert not np.array_equal(compared[0][0], compared[0][1])
    (sheet,) = pictures(server, outputs["8"]["images"])
    assert sheet.shape[1] > sheet.shape[0] * 0.8
    assert sheet.std() > 10


def test_a_lora_by_its_name_is_the_same_by_core_and_by_us(server: ComfyServer) -> None:
    server.run(train_graph(put_pairs(server.base), "named"), LONG)
    name = "dspo/named-01.safetensors"
    drawn = [
        pictures(server, server.run(applied_by_name(CHECKPOINT, name, kind))["named-save"]["images"])[0]
        for kind in ("core", "ours")
    ]
    assert np.array_equal(drawn[0], drawn[1])


def test_a_finished_run_is_found_and_not_trained_again(server: ComfyServer) -> None:
    dataset = put_pairs(server.base)
    server.run(train_graph(dataset, "again", steps=2), LONG)
    written = lora_file(server, "again-01").read_bytes()
    server.free()
    lora_file(server, "again-01").unlink()
    graph = train_graph(dataset, "again", steps=2)
    graph["1"]["inputs"]["shown"] = 3  # so that the core's own cache does not answer
    with server.listen() as events:
        server.wait(server.queue(graph, events.client_id), LONG)
    assert not [text for text in texts(events) if text.startswith("Step ")]
    assert lora_file(server, "again-01").read_bytes() == written
    assert any("Nothing to train: again-01 is finished" in text for text in texts(events))
    assert lora_file(server, "again-01").read_bytes() == written


def test_more_steps_go_on_from_the_run_before_and_it_is_said(server: ComfyServer) -> None:
    """A finished run of 2 steps, asked for 4 and, once more, for 4; then for 4 from scratch, and for 1."""
    dataset = put_pairs(server.base)
    server.run(train_graph(dataset, "more", steps=2), LONG)
    before = lora_file(server, "more-01").read_bytes()
    graph = train_graph(dataset, "more", steps=4)
    with server.listen() as events:
        server.wait(server.queue(graph, events.client_id), LONG)
    told = texts(events)
    shown = [text.splitlines()[0].split(" · ")[0] for text in told if text.startswith("Step ")]
    assert shown == ["Step 3 of 4", "Step 4 of 4"]
    said = "goes on from more-01 at step 2, with the learning rate of a run of 4 steps"
    assert said in told[-1]
    assert "set continue_from to from scratch" in told[-1]
    assert steps(server, "more-02") == [1, 2, 3, 4]
    info = json.loads((run_folder(server, "more-02") / "run.json").read_text(encoding="utf-8"))
    assert info["continued"] == {"run": "more-01", "step": 2}
    assert lora_file(server, "more-01").read_bytes() == before
    server.free()
    graph["1"]["inputs"]["shown"] = 3  # so that the core's own cache does not answer
    server.run(graph, LONG)
    assert not run_folder(server, "more-03").exists()
    server.run(train_graph(dataset, "more", steps=4, continue_from="from scratch"), LONG)
    info = json.loads((run_folder(server, "more-03") / "run.json").read_text(encoding="utf-8"))
    assert info["continued"] is None
    assert not same_weights(lora_file(server, "more-03"), lora_file(server, "more-02"))
    with server.listen() as events:
        server.wait(server.queue(train_graph(dataset, "more", steps=1), events.client_id), LONG)
    assert any("more-03 has the same settings and 4 steps" in text for text in texts(events))
    assert steps(server, "more-04") == [1]


def test_a_run_that_went_on_and_was_killed_ends_with_the_same_weights(fresh_server: Callable[..., ComfyServer]) -> None:
    server = fresh_server()
    dataset = put_pairs(server.base)
    for name in ("killed", "straight"):
        server.run(train_graph(dataset, name, steps=2), LONG)
    graph = train_graph(dataset, "killed", steps=12, save_every=50)
    with server.listen() as events:
        server.queue(graph, events.client_id)
        until_step(events, 5)
        server.kill()
    assert not (run_folder(server, "killed-02") / "checkpoints").exists(), "nothing was saved since it went on"
    server.restart()
    server.run(graph, LONG)
    assert steps(server, "killed-02") == list(range(1, 13))
    server.run(train_graph(dataset, "straight", steps=12), LONG)
    assert same_weights(lora_file(server, "killed-02"), lora_file(server, "straight-02"))


def test_cancelled_and_queued_again_it_ends_with_the_same_weights(server: ComfyServer) -> None:
    dataset = put_pairs(server.base)
    graph = train_graph(dataset, "cancelled", steps=12, training_seed=1)
    with server.listen() as events:
        prompt = server.queue(graph, events.client_id)
        until_step(events, 4)
        server.interrupt()
        entry = server.wait(prompt, LONG)
    assert not entry["status"]["completed"]
    assert entry["status"]["messages"][-1][0] == "execution_interrupted"
    reached = steps(server, "cancelled-01")
    told = [int(text.split()[1]) for text in texts(events) if text.startswith("Step ")]
    assert 4 <= reached[-1] < 12
    assert reached[-1] <= told[-1] + 1, "stopped within one step"
    assert (run_folder(server, "cancelled-01") / "checkpoints" / f"step-{reached[-1]:06d}").is_dir()
    server.run(graph, LONG)
    assert steps(server, "cancelled-01") == list(range(1, 13))
    server.run(train_graph(dataset, "straight", steps=12, training_seed=1), LONG)
    assert same_weights(lora_file(server, "cancelled-01"), lora_file(server, "straight-01"))


def test_killed_and_queued_again_it_ends_with_the_same_weights(fresh_server: Callable[..., ComfyServer]) -> None:
    server = fresh_server()
    dataset = put_pairs(server.base)
    graph = train_graph(dataset, "killed", steps=10, save_every=3)
    with server.listen() as events:
        server.queue(graph, events.client_id)
        until_step(events, 5)
        server.kill()
    server.restart()
    server.run(graph, LONG)
    assert steps(server, "killed-01") == list(range(1, 11))
    server.run(train_graph(dataset, "straight", steps=10, save_every=50), LONG)
    assert same_weights(lora_file(server, "killed-01"), lora_file(server, "straight-01"))


def test_two_prompts_run_one_after_the_other(server: ComfyServer) -> None:
    dataset = put_pairs(server.base)
    queued = [server.queue(train_graph(dataset, f"both{n}", steps=2, training_seed=n)) for n in (1, 2)]
    spans = []
    for prompt in queued:
        messages = {name: value["timestamp"] for name, value in server.wait(prompt, LONG)["status"]["messages"]}
        spans.append((messages["execution_start"], messages["execution_success"]))
    assert spans[0][1] <= spans[1][0]
    assert not same_weights(lora_file(server, "both1-01"), lora_file(server, "both2-01"))


def test_memory_is_given_back(server: ComfyServer) -> None:
    """Resident bytes after a run and after a cancelled one, against those after the first, which loads libraries."""
    dataset, after = put_pairs(server.base), []
    for n in range(3):
        graph = train_graph(dataset, f"memory{n}", steps=400 if n == 1 else 2, training_seed=n)
        with server.listen() as events:
            prompt = server.queue(graph, events.client_id)
            if n == 1:
                until_step(events, 2)
                server.interrupt()
            server.wait(prompt, LONG)
        server.free()
        server.get("/queue")
        after.append(_settled(server))
    assert after[2] - after[0] < 200e6, [round(value / 1e6) for value in after]  # the UNet alone takes 430e6


def _settled(server: ComfyServer) -> int:
    import time

    time.sleep(3)  # the server frees when it is next idle
    return server.rss()


def test_a_wired_model_is_trained_as_it_is_and_stays_as_it_is(server: ComfyServer) -> None:
    """A model with a LoRA on it is wired in: what is trained is another base, and the model draws as before."""
    dataset = put_pairs(server.base)
    server.run(train_graph(dataset, "first", steps=3), LONG)
    graph = whole_graph(dataset, "wired", steps=2)
    graph["stack"] = {
        "class_type": "LoraLoaderModelOnly",
        "inputs": {"model": ["3", 0], "lora_name": "dspo/first-01.safetensors", "strength_model": 4.0},
    }
    del graph["7"], graph["8"]
    before = server.run({k: v for k, v in graph.items() if k in ("3", "4", "5", "6") or k.startswith("base")}, LONG)
    graph["2"]["inputs"]["model"] = ["stack", 0]
    after = server.run(graph, LONG)
    shown = [
        pictures(server, outputs["base-save"]["images"])[0] for outputs in (before, after) if "base-save" in outputs
    ]
    graph["base-sample"]["inputs"]["seed"] = SEED + 1
    other = server.run(graph, LONG)
    graph["base-sample"]["inputs"]["seed"] = SEED
    shown.append(pictures(server, server.run(graph, LONG)["base-save"]["images"])[0])
    assert np.array_equal(shown[0], shown[-1])
    assert not np.array_equal(shown[0], pictures(server, other["base-save"]["images"])[0])
    info = json.loads((run_folder(server, "wired-01") / "run.json").read_text(encoding="utf-8"))
    plain = json.loads((run_folder(server, "first-01") / "run.json").read_text(encoding="utf-8"))
    assert info["base"]["unet"] != plain["base"]["unet"]
    assert info["base"]["vae"] == plain["base"]["vae"]


def put_checkpoint(server: ComfyServer, kind: Kind, dtype: torch.dtype) -> str:
    """One more checkpoint for a running server; its name in the combo."""
    name = f"{kind}-{str(dtype).removeprefix('torch.')}.safetensors"
    place = server.base / "models" / "checkpoints" / name
    if not place.exists():
        link(cached(kind, dtype), place)
    return name


@pytest.mark.parametrize(("kind", "dtype"), [("sd15", torch.float32), ("sdxl", torch.float16)])
def test_other_checkpoints_wired_in(server: ComfyServer, kind: Kind, dtype: torch.dtype) -> None:
    """SDXL's layout; and float32 trained in float32: nothing is cast, so that an inference tensor would show."""
    ckpt = put_checkpoint(server, kind, dtype)
    graph = whole_graph(put_pairs(server.base), f"other-{kind}", ckpt, steps=2, precision="fp32")
    before = len(server.log())
    outputs = server.run(graph, LONG)
    by_core, by_us, base = (pictures(server, outputs[f"{n}-save"]["images"])[0] for n in ("by-core", "by-us", "base"))
    assert np.array_equal(by_core, by_us)
    assert not np.array_equal(by_core, base)
    assert "not loaded" not in server.log()[before:]
    server.free()


def test_refining_starts_from_the_chosen_lora(server: ComfyServer) -> None:
    dataset = put_pairs(server.base)
    server.run(train_graph(dataset, "start", steps=2), LONG)
    server.run(train_graph(dataset, "refined", steps=2, refine_lora="dspo/start-01.safetensors"), LONG)
    folder = run_folder(server, "refined-01")
    info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert info["refine"]["name"] == "start-01"
    assert same_weights(folder / "beginning" / "reference.safetensors", lora_file(server, "start-01"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../up"}, "the LoRA's name"),
        ({"steps": 3, "resolution": 4096, "pairs_at_once": 256, "targets": "attention+mlp"}, "out of memory"),
        ({"objective": "diffusion_dpo", "objective_value": 1e7, "learning_rate": 1.0, "steps": 40}, "finite"),
    ],
)
def test_what_will_not_work_is_said_in_words(server: ComfyServer, changes: dict[str, Any], message: str) -> None:
    graph = train_graph(put_pairs(server.base), "wrong", **changes) if "name" not in changes else None
    graph = graph or train_graph(put_pairs(server.base), **changes)
    entry = server.wait(server.queue(graph), LONG)
    (error,) = [value for name, value in entry["status"]["messages"] if name == "execution_error"]
    assert message in error["exception_message"]


def test_what_was_tidied_away_comes_back(server: ComfyServer) -> None:
    """The LoRA and the curve are deleted and the same workflow is queued: the core's cache must not answer for them."""
    graph = train_graph(put_pairs(server.base), "tidy", steps=2)
    server.run(graph, LONG)
    server.run(graph, LONG)  # from here on the core would answer from its cache
    written = lora_file(server, "tidy-01").read_bytes()
    lora_file(server, "tidy-01").unlink()
    (run_folder(server, "tidy-01") / "curve.png").unlink()
    with server.listen() as events:
        entry = server.wait(server.queue(graph, events.client_id), LONG)
    assert entry["status"]["status_str"] == "success", entry["status"]
    assert not [text for text in texts(events) if text.startswith("Step ")]
    assert lora_file(server, "tidy-01").read_bytes() == written
    assert Image.open(run_folder(server, "tidy-01") / "curve.png").size == (1200, 900)


def test_a_lora_that_a_run_did_not_make_is_kept(server: ComfyServer) -> None:
    graph = train_graph(put_pairs(server.base), "kept", steps=2)
    server.run(graph, LONG)
    written = lora_file(server, "kept-01").read_bytes()
    lora_file(server, "kept-01").write_bytes(b"somebody's own")
    server.run(graph, LONG)
    assert lora_file(server, "kept-01").read_bytes() == written
    (other,) = lora_file(server, "kept-01").parent.glob("kept-01.replaced-*.safetensors")
    assert other.read_bytes() == b"somebody's own"


def test_one_picture_a_seed_whatever_the_latent_is_part_of(server: ComfyServer) -> None:
    server.run(train_graph(put_pairs(server.base), "latent", steps=1), LONG)
    graph = with_model({}) | compared("dspo/latent-01.safetensors")
    graph["6"]["inputs"]["batch_size"] = 4
    graph["part"] = {
        "class_type": "LatentFromBatch",
        "inputs": {"samples": ["6", 0], "batch_index": 1, "length": 2},
    }
    whole = server.run(graph, LONG)
    graph["7"]["inputs"]["latent_image"] = ["part", 0]
    part = server.run(graph, LONG)
    assert [len(part["7"][arm]) for arm in ("a_images", "b_images")] == [2, 4]
    for arm in ("a_images", "b_images"):
        for one, other in zip(pictures(server, whole["7"][arm]), pictures(server, part["7"][arm]), strict=True):
            assert np.array_equal(one, other)


def test_a_folder_without_pairs_hides_no_set_of_its_name(server: ComfyServer) -> None:
    (server.base / "input" / "shapes-large-and-dark").mkdir()
    graph = train_graph("shapes-large-and-dark", "unused")
    del graph["2"]
    graph["report"] = {"class_type": "PreviewAny", "inputs": {"source": ["1", 1]}}
    assert "24 usable" in str(server.run(graph, LONG)["report"])
