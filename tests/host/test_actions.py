"""How many clicks and keys the loop takes on a fresh page, counted by the page itself."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from comfy_server import PACK, ComfyServer
from test_examples import node_program

pytestmark = [pytest.mark.browser, pytest.mark.comfy]

SCRIPT = PACK / "tests" / "browser" / "loop.mjs"
LONG = 1800  # seconds
GROUPS, OF = 24, 4  # what a hundred clicks were counted on: 24 prompts with 4 images of each
MOST = {
    "first vote": 2,
    "LoRA": 1,
    "first blind vote": 1,
    "first vote of the second round": 1,
}


def walked(server: ComfyServer, **settings: str) -> dict[str, Any]:
    command = [node_program(), str(SCRIPT), server.url]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("nodes", ["classic", "vue"])
def test_the_loop_takes_few_actions(nodes: str, fresh_server: Callable[..., ComfyServer]) -> None:
    found = walked(fresh_server(), START="playground", VUE="1" if nodes == "vue" else "")
    assert found["problems"] == []
    assert {stage: found["actions"][stage] for stage in MOST} == MOST
    assert found["actions"]["votes"] == found["questions"]["votes"]  # one for each prompt
    assert found["questions"]["votes"] * GROUPS / found["questions"]["votes"] <= 2 * GROUPS


def test_a_checkpoint_of_ones_own_takes_four(fresh_server: Callable[..., ComfyServer]) -> None:
    found = walked(fresh_server(), START="sd15.safetensors", STAGES="first")
    assert found["problems"] == []
    assert found["actions"]["first vote"] <= 4
