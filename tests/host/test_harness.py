"""The harness itself: a core workflow on the random SD1.5 checkpoint, and what later tests lean on."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comfy_events import PREVIEW_WITH_METADATA, PROGRESS_TEXT, Binary, decoded
from comfy_server import PACK, PACK_NAME, ComfyServer, prepare
from PIL import Image

comfy = pytest.mark.comfy
COMPLAINTS = ("unet missing", "unet unexpected", "clip missing", "Missing VAE keys")


def workflow(seed: int, steps: int = 2, prompt: str = "a red dog") -> dict[str, Any]:
    """Text to image with core nodes, 64 x 64 pixels."""
    sampling = {
        "seed": seed,
        "steps": steps,
        "cfg": 4.0,
        "sampler_name": "euler",
        "scheduler": "normal",
        "denoise": 1.0,
    }
    wires = {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]}
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15.safetensors"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": prompt}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": ""}},
        "4": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "5": {"class_type": "KSampler", "inputs": {**sampling, **wires}},
        "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
        "7": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": f"seed{seed}"}},
    }


def draw(server: ComfyServer, **settings: Any) -> np.ndarray:
    (saved,) = server.run(workflow(**settings))["7"]["images"]
    return np.asarray(Image.open(io.BytesIO(server.view(**saved))))


def test_binary_messages_are_taken_apart() -> None:
    """Four bytes of kind, then by kind: a format; a node id with its length; metadata with its length."""
    assert decoded(b"\0\0\0\1" + b"\0\0\0\2" + b"png") == Binary(1, b"png", {})
    assert decoded(b"\0\0\0\3" + b"\0\0\0\2" + b"17" + b"step 3") == Binary(PROGRESS_TEXT, b"step 3", {"node": "17"})
    about = b'{"node_id": "5"}'
    with_metadata = b"\0\0\0\4" + len(about).to_bytes(4, "big") + about + b"jpeg"
    assert decoded(with_metadata) == Binary(PREVIEW_WITH_METADATA, b"jpeg", {"node_id": "5"})


def test_pack_is_copied_where_links_are_not_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("a required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    prepare(tmp_path)
    copied = tmp_path / "custom_nodes" / PACK_NAME / "dspo_train" / "exceptions.py"
    assert copied.read_bytes() == (PACK / "dspo_train" / "exceptions.py").read_bytes()
    assert not copied.is_symlink()


@comfy
def test_pictures_follow_seed_and_prompt_and_outlive_a_kill(server: ComfyServer) -> None:
    first = draw(server, seed=1)
    assert first.shape == (64, 64, 3)
    assert first.std(axis=(0, 1)).min() > 1.0, "each channel varies over the picture"
    assert not np.array_equal(draw(server, seed=2), first)
    assert not np.array_equal(draw(server, seed=1, prompt="a blue cat"), first)
    server.kill()
    assert not server.answers()
    server.restart()
    assert np.array_equal(draw(server, seed=1), first)


@comfy
def test_checkpoint_loads_without_a_complaint(server: ComfyServer) -> None:
    before = len(server.log())  # other tests' models have complaints of their own
    server.restart()  # so that the model is not one that is loaded already
    draw(server, seed=3)
    log = server.log()[before:]
    assert "model_type EPS" in log
    assert [line for line in log.splitlines() for words in COMPLAINTS if words in line] == []


@comfy
def test_interrupt_stops_a_long_sampling(server: ComfyServer) -> None:
    with server.listen() as events:
        prompt_id = server.queue(workflow(seed=4, steps=9000), events.client_id)
        waiting = server.queue(workflow(seed=5, steps=9000), events.client_id)
        events.until(lambda e: [p for p in e.of("progress") if p["value"] >= 2])
        server.clear_queue()
        server.interrupt()
        entry = server.wait(prompt_id)
        (interrupted,) = events.until(lambda e: e.of("execution_interrupted"))
    assert (interrupted["prompt_id"], interrupted["node_id"]) == (prompt_id, "5")
    assert not entry["status"]["completed"]
    reached = max(p["value"] for p in events.of("progress"))
    assert reached < 9000
    assert server.get("/queue") == {"queue_running": [], "queue_pending": []}
    assert server.get(f"/history/{waiting}") == {}


@comfy
def test_refused_workflow_names_the_node(server: ComfyServer) -> None:
    wrong = workflow(seed=6)
    wrong["5"]["inputs"]["steps"] = -1
    with pytest.raises(AssertionError, match=r'node_errors.*"5".*value_smaller_than_min'):
        server.queue(wrong)


@comfy
def test_uploaded_picture_is_served_again(server: ComfyServer) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (3, 2), (255, 0, 0)).save(picture, "PNG")
    placed = server.upload_image(picture.getvalue(), "red.png", "some folder")
    assert placed == {"name": "red.png", "subfolder": "some folder", "type": "input"}
    assert server.view("red.png", "some folder", "input") == picture.getvalue()


@comfy
def test_server_that_cannot_start_shows_its_log(fresh_server: Callable[..., ComfyServer]) -> None:
    with pytest.raises(RuntimeError, match=r"exit status 2.*\n(.*\n)*.*unrecognized arguments: --no-such-flag"):
        fresh_server("--no-such-flag")


@comfy
def test_fresh_servers_have_their_own_port_folder_and_previews(
    server: ComfyServer, fresh_server: Callable[..., ComfyServer]
) -> None:
    own = fresh_server("--preview-method", "latent2rgb")
    assert own.port != server.port
    assert own.base != server.base
    with own.listen() as events:
        own.run(workflow(seed=7), client_id=events.client_id)
        preview = events.until(lambda e: [b for b in e.binary if b.kind == PREVIEW_WITH_METADATA])[0]
    assert preview.about["node_id"] == "5"
    assert Image.open(io.BytesIO(preview.payload)).format == "JPEG"
    assert own.rss() > 100 * 2**20
    assert not list(server.base.glob("output/seed7*"))
