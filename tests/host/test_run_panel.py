"""Runs in the panel of a real page: what each card says and offers, and a run that is stopped, killed and resumed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import node_program, report_of
from comfy_server import PACK, ComfyServer, Core, link, prepare, running
from filelock import FileLock
from graphs import CHECKPOINT, put_pairs, train_graph
from pages import Page, put_run, put_set
from PIL import Image
from test_playground import playground

from dspo_train.drawing.grids import ab_grid

pytestmark = [pytest.mark.comfy, pytest.mark.browser]

SCRIPT = PACK / "tests" / "web" / "browser" / "runs.mjs"
LONG = 600  # seconds
STEPS = 100


@pytest.fixture
def own(core: Core, tmp_path: Path) -> Iterator[ComfyServer]:
    """A server for the page alone: it stores the page's settings."""
    node_program(SCRIPT, axe=True)
    from checkpoints import cached

    prepare(tmp_path)
    link(cached("sd15"), tmp_path / "models" / "checkpoints" / CHECKPOINT)
    with running(core, tmp_path) as started:
        yield started


def played(server: ComfyServer, part: str) -> dict[str, Any]:
    """What runs.mjs found; fails with what went wrong."""
    report = report_of(SCRIPT, LONG, URL_=server.url, PART=part, BASE=str(server.base))
    assert {name: said for name, said in report["checks"].items() if said != "ok"} == {}
    assert len(report["checks"]) >= {"cards": 30, "live": 13}[part]
    return report["found"]


def put(base: Path, name: str, state: str, steps: int = 60, done: int = 25, **status: str) -> Path:
    """A run in a state, with checkpoints at every tenth step, and names."""
    folder = put_run(base, name, steps, done, accuracy=0.784)
    if done:
        (folder / "checkpoints" / f"step-{done - done % 10:06d}").mkdir(parents=True)
    said = {"state": state, "reason": "", "since": "2026-11-30T08:00:00Z", "process": "another", **status}
    (folder / "status.json").write_text(json.dumps(said), encoding="utf-8")
    names = {"set": "cats", "preset": "Balanced", "base": "dreamshaper_8", "parent": "dspo/older-03.safetensors"}
    (folder / "about.json").write_text(json.dumps(names), encoding="utf-8")
    (folder / "previews" / "step-000050.png").unlink()
    return folder


def draw_previews(folder: Path, *steps: int) -> None:
    for step in steps:
        pair = [Image.new("RGB", (256, 256), "#456"), Image.new("RGB", (256, 256), (40, 90 + step, 60))]
        grid = ab_grid(["a red dog in the rain"], ["base", f"LoRA, step {step}"], [pair])
        grid.save(folder / "previews" / f"step-{step:06d}.png")


def fill(base: Path) -> None:
    """One run in each state, and a blind test of the finished one."""
    put(base, "broken-01", "running")
    put(base, "diverged-01", "failed", reason="step 26: the gradient is not finite (nan). Lower learning_rate")
    draw_previews(put(base, "halted-01", "stopped"), 10)
    done = put(base, "my-taste-02", "finished", done=60)
    draw_previews(done, 20, 40, 60)
    loras = base / "output" / "loras" / "dspo"
    loras.mkdir(parents=True)
    (loras / "my-taste-02.safetensors").write_bytes(b"x")
    put(base, "gone-01", "finished", done=60)
    put_set(base / "output" / "dspo" / "blind" / "of-taste-02", groups=2, arms=True, lora="my-taste-02")
    draw_previews(put(base, "training-01", "running"), 20)


def test_what_cards_say_and_offer(own: ComfyServer) -> None:
    """`training-01` trains in another process, as its lock shows; `broken-01` says so too, and nobody holds its."""
    fill(own.base)
    with FileLock(own.base / "output" / "dspo" / "runs" / "training-01" / ".alive"):
        found = played(own, "cards")
    learned = "The model now prefers your winners in 78% of the training pairs (50% is chance)"
    assert found["states"] == {
        "training-01": "Training: step 25 of 60, less than a minute left",
        "broken-01": "Crashed at step 25: Resume goes on from step 20",
        "diverged-01": "Failed at step 26: the gradient is not finite (nan). Lower learning_rate",
        "halted-01": "Stopped at step 25 of 60",
        "my-taste-02": "Finished: my-taste-02 · 60 steps · dspo",
        "gone-01": "Finished, but its LoRA file is not in ComfyUI's list: Resume puts it back",
    }
    assert set(found["learned"].values()) == {learned}
    resumes = {name: ["Resume"] for name in ("broken-01", "diverged-01", "halted-01", "gone-01")}
    assert found["actions"] == {**resumes, "training-01": ["Stop"], "my-taste-02": ["Next round", "Blind test"]}
    about = "Set cats Preset Balanced Model dreamshaper_8 Builds on older-03"
    assert found["facts"]["halted-01"] == about
    assert found["facts"]["my-taste-02"] == f"{about} LoRA dspo/my-taste-02.safetensors"


def kill_when_asked(server: ComfyServer, asked: Path) -> threading.Thread:
    """When the script asks, end the server's process outright, and start another."""

    def wait() -> None:
        while not asked.exists():
            time.sleep(0.1)
        server.kill()
        server.start()
        asked.unlink()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_a_run_is_stopped_killed_and_resumed_from_its_card(own: ComfyServer) -> None:
    """A reload in between leaves ComfyUI's own Cancel without the prompt; the card's Stop works."""
    graph = train_graph(
        put_pairs(own.base), "live", steps=STEPS, save_every=5, preview_every=20, preview_prompt="a red circle"
    )
    graph["3"] = playground()["1"]  # many steps in a short time
    (own.base / "graph.json").write_text(json.dumps(graph), encoding="utf-8")
    kill_when_asked(own, own.base / "kill")
    found = played(own, "live")
    row = Page(own).get("run", run="live-01").json
    assert (row["state"], row["step"], row["lora"]) == ("finished", STEPS, "dspo/live-01.safetensors")
    assert [report["step"] for report in row["reports"]] == list(range(1, STEPS + 1))
    assert found["runs"] == ["live-01"], "it was resumed, and no second run was begun"
