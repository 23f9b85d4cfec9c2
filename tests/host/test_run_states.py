"""What the panel is told of a run is true: cancelled, stopped, failed, killed, on a full disk, finished."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from comfy_events import Events
from comfy_server import ComfyServer
from graphs import CHECKPOINT, put_pairs, train_graph
from pages import Page
from test_train_in_graph import LONG, run_folder, until_step

pytestmark = pytest.mark.comfy


@pytest.fixture
def page(server: ComfyServer) -> Page:
    return Page(server)


def row(page: Page, name: str) -> dict[str, Any]:
    """As in the list; the run's own answer agrees with it."""
    (found,) = [it for it in page.get("runs").json["runs"] if it["run"] == name]
    alone = page.get("run", run=name).json
    for key in ("state", "reason", "lora", "set", "resumes_from"):
        assert alone[key] == found[key]
    return found


@contextlib.contextmanager
def training(server: ComfyServer, graph: dict[str, Any], step: int = 4) -> Iterator[tuple[Events, str]]:
    """Queue it; inside, it has reached that step."""
    with server.listen() as events:
        prompt = server.queue(graph, events.client_id)
        until_step(events, step)
        yield events, prompt


def test_running_and_cancelled(server: ComfyServer, page: Page) -> None:
    graph = train_graph(put_pairs(server.base), "cancel", steps=400)
    with training(server, graph) as (events, prompt):
        while_it_runs = row(page, "cancel-01")
        server.interrupt()
        server.wait(prompt, LONG)
        told = events.until(lambda e: e.of("dspo.run_state")[1:])
    found = row(page, "cancel-01")
    assert (while_it_runs["state"], while_it_runs["reason"], while_it_runs["finished"]) == ("running", None, False)
    assert while_it_runs["step"] >= 4 and while_it_runs["steps"] == 400
    assert while_it_runs["seconds_left"] > 0
    names = {name: while_it_runs[name] for name in ("set", "preset", "base", "parent", "objective", "lora")}
    assert names == {
        **dict.fromkeys(("parent", "lora")),
        "set": "tiny",
        "preset": "Strong",
        "base": "sd15",
        "objective": "dspo",
    }
    assert (found["state"], found["reason"], found["seconds_left"]) == ("stopped", None, None)
    assert found["resumes_from"] == found["step"] >= 4
    assert told == [{"run": "cancel-01"}], "once as it begins, and once as it ends"


def test_stop_ends_this_run_and_no_other(server: ComfyServer, page: Page) -> None:
    dataset = put_pairs(server.base)
    server.run(train_graph(dataset, "other", steps=1), LONG)
    with training(server, train_graph(dataset, "stop", steps=400)) as (_, prompt):
        refused = page.post("stop", run="other-01")
        assert (refused.status, refused.json["error"]) == (409, "This run is not training now.")
        assert row(page, "stop-01")["state"] == "running"
        assert page.post("stop", run="stop-01").json == {"run": "stop-01", "status": "stopping"}
        entry = server.wait(prompt, LONG)
    assert entry["status"]["messages"][-1][0] == "execution_interrupted"
    assert row(page, "stop-01")["state"] == "stopped"
    assert page.post("stop", run="stop-01").status == 409
    server.run(train_graph(dataset, "after", steps=1), LONG)  # what is queued next is not interrupted


def test_a_run_that_fails_says_why_in_the_graphs_words(server: ComfyServer, page: Page) -> None:
    diverges = {"objective": "diffusion_dpo", "objective_value": 1e7, "learning_rate": 1.0, "steps": 40}
    graph = train_graph(put_pairs(server.base), "diverges", **diverges)
    entry = server.wait(server.queue(graph), LONG)
    (error,) = [value for name, value in entry["status"]["messages"] if name == "execution_error"]
    found = row(page, "diverges-01")
    assert found["state"] == "failed"
    assert "the gradient is not finite" in found["reason"]
    assert "learning_rate" in found["reason"] and "`" not in found["reason"]
    assert found["reason"] == error["exception_message"].strip()


def test_a_run_that_finishes(server: ComfyServer, page: Page) -> None:
    dataset = put_pairs(server.base)
    server.run(train_graph(dataset, "ends", steps=2, preview_every=1, preview_prompt="red dog"), LONG)
    found = row(page, "ends-01")
    assert (found["state"], found["finished"], found["early"]) == ("finished", True, False)
    assert (found["lora"], found["step"], found["steps"]) == ("dspo/ends-01.safetensors", 2, 2)
    assert found["previews"] == ["step-000001.png", "step-000002.png"]
    assert 0 <= found["learned"]["share"] <= 1
    assert (
        json.loads((run_folder(server, "ends-01") / "status.json").read_text(encoding="utf-8"))["state"] == "finished"
    )
    (server.base / "output" / "loras" / found["lora"]).unlink()
    assert row(page, "ends-01")["lora"] is None


def test_where_a_lora_comes_from(server: ComfyServer, page: Page) -> None:
    """The LoRA that is refined; else those on the wired model. The graph's own workflow is kept with the run."""
    dataset = put_pairs(server.base)
    server.run(train_graph(dataset, "first", steps=1), LONG)
    refined = train_graph(dataset, "next", steps=1, refine_lora="dspo/first-01.safetensors")
    workflow = {"nodes": [], "links": [], "version": 0.4}
    entry = server.wait(server.queue(refined, extra_data={"extra_pnginfo": {"workflow": workflow}}), LONG)
    assert entry["status"]["status_str"] == "success"
    assert row(page, "next-01")["parent"] == "dspo/first-01.safetensors"
    assert page.get("workflow", run="next-01").json == {"workflow": workflow}
    wired = train_graph(dataset, "wired", steps=1)
    loader = {"model": ["3", 0], "lora_name": "dspo/first-01.safetensors", "strength_model": 1.0}
    wired["4"] = {"class_type": "LoraLoaderModelOnly", "inputs": loader}
    wired["2"]["inputs"]["model"] = ["4", 0]
    server.run(wired, LONG)
    found = row(page, "wired-01")
    assert (found["parent"], found["base"]) == ("dspo/first-01.safetensors", CHECKPOINT.removesuffix(".safetensors"))
    assert page.get("workflow", run="wired-01").json == {"workflow": None}


def test_killed_and_resumed(fresh_server: Callable[..., ComfyServer]) -> None:
    """The server's process is killed outright: after the next start its run has crashed, and it goes on to the end."""
    server = fresh_server()
    page, graph = Page(server), train_graph(put_pairs(server.base), "killed", steps=12, save_every=3)
    with training(server, graph, 5):
        assert row(page, "killed-01")["state"] == "running"
        server.kill()
    said = json.loads((run_folder(server, "killed-01") / "status.json").read_text(encoding="utf-8"))
    assert said["state"] == "running", "it could not say more"
    server.restart()
    found = row(page, "killed-01")
    assert (found["state"], found["finished"], found["seconds_left"]) == ("crashed", False, None)
    assert found["resumes_from"] == 3 * (found["step"] // 3) >= 3
    assert page.post("stop", run="killed-01").status == 409
    server.run(graph, LONG)
    found = row(page, "killed-01")
    assert (found["state"], found["step"], found["lora"]) == ("finished", 12, "dspo/killed-01.safetensors")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 600 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600m", "tmpfs", str(disk)]
    if sys.platform != "linux" or os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs Linux and root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk(fresh_server: Callable[..., ComfyServer], small_disk: Path) -> None:
    """Nothing more can be written, not even a line of the reports; the state is recorded nevertheless, and outlives a
    restart. With room again, the same graph goes on."""
    server = fresh_server("--output-directory", str(small_disk))
    page, graph = Page(server), train_graph(put_pairs(server.base), "full", steps=30, save_every=3)
    filler = small_disk / "filler"
    with training(server, graph, 4) as (_, prompt):
        with filler.open("wb") as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 20))
                file.flush()
        with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(512))
        entry = server.wait(prompt, LONG)
    assert entry["status"]["status_str"] == "error"
    found = row(page, "full-01")
    assert (found["state"], found["seconds_left"]) == ("failed", None)
    assert found["reason"].startswith("the disk is full: could not write ")
    assert str(small_disk) not in found["reason"]
    server.restart()
    assert row(page, "full-01")["reason"] == found["reason"]
    filler.unlink()
    server.run(graph, LONG)
    assert row(page, "full-01")["state"] == "finished"


def test_a_thousand_runs_are_listed_fast(server: ComfyServer, page: Page) -> None:
    """Less than a second once they were read; the folders are what a finished run leaves."""
    from pages import put_run

    parent = server.base / "output" / "dspo" / "runs"
    for number in range(1000):
        put_run(server.base, f"many-{number:04d}", done=60, steps=60)
    try:
        assert len(page.get("runs").json["runs"]) >= 1000
        started = time.perf_counter()
        assert len(page.get("runs").json["runs"]) >= 1000
        assert time.perf_counter() - started < 2
    finally:
        import shutil

        for number in range(1000):
            shutil.rmtree(parent / f"many-{number:04d}")
