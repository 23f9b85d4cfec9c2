"""The nodes as the page shows them: few inputs until one asks for more; and found by what people search for."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from browsers import node_program
from comfy_server import PACK, ComfyServer

from dspo_train.config.forms import inputs_of

pytestmark = [pytest.mark.comfy, pytest.mark.browser]

SCRIPT = PACK / "tests" / "browser" / "train_node.mjs"
LONG = 400  # seconds
FEW = {
    "DSPOTrainLora": ["name", "preset", "steps", "preview_prompt", "preview_every", "refine_lora", "rounds"],
    "DSPOTrainingOptions": ["labels", "keep", "held_out_share", "held_out_patience", "ema"],
}
FOUND = {  # a word, and a node that it must lead to
    "vote": "DSPO Collect Pairs",
    "dpo": "DSPO Train LoRA",
    "preference": "DSPO Preference Set",
    "taste": "DSPO Train LoRA",
    "pick": "DSPO Collect Pairs",
    "rate": "DSPO Collect Pairs",
    "compare": "DSPO Compare Sampler",
    "blind": "DSPO Blind Test",
    "reward": "DSPO Train LoRA",
    "align": "DSPO Train LoRA",
    "style": "DSPO Train LoRA",
    "best of": "DSPO Candidates",
}


def shown(server: ComfyServer, nodes2: bool, words: list[str]) -> dict[str, Any]:
    node = node_program(SCRIPT)
    done = subprocess.run(
        [node, str(SCRIPT), server.url, str(nodes2).lower(), ",".join(words)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=LONG,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["problems"] == []
    return found


@pytest.mark.parametrize("nodes2", [False, True], ids=["classic", "nodes2"])
def test_few_inputs_are_shown_and_all_when_asked_for(server: ComfyServer, nodes2: bool) -> None:
    if nodes2 and not takes_aliases(server):
        pytest.skip("the Nodes 2.0 of this frontend folds nothing")
    nodes = shown(server, nodes2, [])["nodes"]
    for name, few in FEW.items():
        assert nodes[name]["few"]["names"] == few
        assert len(nodes[name]["all"]["names"]) == {"DSPOTrainLora": 22, "DSPOTrainingOptions": 21}[name]
        if not nodes2:
            assert nodes[name]["few"]["bottom"] < nodes[name]["all"]["bottom"], "a folded node is a small one"
    names = [one.name for one in inputs_of("options")]
    assert nodes["DSPOTrainingOptions"]["all"]["names"] == names


def takes_aliases(server: ComfyServer) -> bool:
    """As cores do since they have the argument `advanced` too."""
    return bool(server.get("/object_info/DSPOTrainLora")["DSPOTrainLora"].get("search_aliases"))


def test_the_node_search_finds_them_by_what_people_call_it(server: ComfyServer) -> None:
    if not takes_aliases(server):
        pytest.skip("this core has no search aliases; its search knows names only")
    search = shown(server, False, list(FOUND))["search"]
    for word, name in FOUND.items():
        assert name in search[word], (word, search[word])


def test_every_node_has_words_to_be_found_by(server: ComfyServer) -> None:
    if not takes_aliases(server):
        pytest.skip("this core has no search aliases")
    nodes = {name: info for name, info in server.get("/object_info").items() if name.startswith("DSPO")}
    assert [name for name, info in nodes.items() if len(info["search_aliases"] or ()) < 4] == []
