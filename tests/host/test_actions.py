"""How many clicks and keys the loop takes, counted by the page itself; with SHOTS=folder also the loop as a film."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsers import node_program
from comfy_server import PACK, ComfyServer
from PIL import Image

from dspo_train.evaluate.shapes import captions

pytestmark = [pytest.mark.browser, pytest.mark.comfy]

SCRIPT = PACK / "tests" / "browser" / "loop.mjs"
LONG = 1800  # seconds
PROMPTS = 12  # of the playground's workflow, with four images of each
MOST = {
    "first vote": 2,
    "LoRA": 1,
    "first blind vote": 1,
    "first vote of the second round": 1,
}


def walked(server: ComfyServer, **settings: str) -> dict[str, Any]:
    command = [node_program(SCRIPT), str(SCRIPT), server.url]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def film(frames: list[dict[str, Any]], path: Path) -> None:
    """An animated WebP of the pictures, each shown for its seconds."""
    images = [Image.open(frame["file"]).convert("RGB").resize((960, 600), Image.Resampling.LANCZOS) for frame in frames]
    durations = [round(1000 * frame["seconds"]) for frame in frames]
    images[0].save(path, save_all=True, append_images=images[1:], duration=durations, loop=0, quality=72, method=4)


@pytest.mark.parametrize("nodes", ["classic", "vue"])
def test_the_loop_takes_few_actions(nodes: str, fresh_server: Callable[..., ComfyServer]) -> None:
    found = walked(fresh_server(), START="playground", VUE="1" if nodes == "vue" else "")
    if folder := os.environ.get("SHOTS"):
        film(found["frames"], Path(folder) / f"loop-{nodes}.webp")
    assert found["problems"] == []
    assert {stage: found["actions"][stage] for stage in MOST} == MOST
    assert found["actions"]["votes"] == found["questions"]["votes"] == PROMPTS  # one click for four images


def test_a_checkpoint_of_ones_own_takes_four(fresh_server: Callable[..., ComfyServer]) -> None:
    # two images of one step, as a processor would draw the others for a quarter of an hour
    short = {"DSPOCandidates": {"prompts": "a lighthouse at dusk", "seeds_per_prompt": 2, "steps": 1}}
    found = walked(fresh_server(), START="sd15.safetensors", STAGES="first", CHANGES=json.dumps(short))
    assert found["problems"] == []
    assert found["actions"]["first vote"] <= 4


@pytest.mark.slow
def test_twenty_four_votes_one_button_and_three_rounds_win_blind(fresh_server: Callable[..., ComfyServer]) -> None:
    changes = {
        "DSPOCandidates": {"prompts": "\n".join(captions()[::2])},
        "DSPOCollectPairs": {"train_after": "24"},
        "DSPOTrainLora": {"rounds": 3, "steps": "60", "preview_every": 0},
    }
    server = fresh_server()
    found = walked(server, STAGES="result", CHANGES=json.dumps(changes))
    assert found["problems"] == []
    assert found["questions"]["votes"] == 24
    assert found["actions"]["LoRA"] == 1
    end = json.loads(next((server.base / "output" / "dspo" / "runs").glob("*/rounds/end.json")).read_text())
    assert end["asked"] == 3 and end["round"] > 1, end
    told = re.search(r"(\d+) won, (\d+) tied, (\d+) lost", found["result"])
    assert told, found["result"]
    wins, ties, losses = map(int, told.groups())
    assert wins + ties + losses == found["questions"]["blind"] == 16 and wins >= 15, found["result"]


@pytest.mark.slow
def test_fresh_clicks_between_rounds_are_given_in_the_page(fresh_server: Callable[..., ComfyServer]) -> None:
    changes = {
        "DSPOCandidates": {"prompts": "\n".join(captions()[:6])},
        "DSPOCollectPairs": {"train_after": "6"},
        "DSPOTrainLora": {"rounds": 2, "steps": "4", "fresh_clicks": 2, "preview_every": 0},
    }
    server = fresh_server()
    found = walked(server, STAGES="fresh", CHANGES=json.dumps(changes))
    assert found["problems"] == []
    assert found["questions"]["fresh"] == 2
    assert found["actions"]["LoRA"] == 1 + 1 + 2 + 1  # train, vote, two answers, go on
    (rounds,) = (server.base / "output" / "dspo" / "runs").glob("*/rounds")
    assert len(json.loads((rounds / "2" / "answers.json").read_text())["answers"]) == 2
    assert json.loads((rounds / "end.json").read_text())["asked"] == 2
