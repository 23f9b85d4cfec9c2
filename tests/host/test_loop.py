"""The preference loop, driven in the page as a person would: the disk and the routes say what the page did."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import node_program, report_of
from comfy_server import PACK, ComfyServer, Core, link, prepare, running
from graphs import CHECKPOINT, STRENGTH, Graph, compared, train_graph, with_model
from pages import Page, put_set

from dspo_train.pairs import scan_pairs
from dspo_train.preferences import PreferenceStore

pytestmark = [pytest.mark.comfy, pytest.mark.browser]

SCRIPT = PACK / "tests" / "web" / "browser" / "loop.mjs"
LONG = 900  # seconds
PROMPTS = "red dog\nblue cat\ngreen bird\na house"
LORA = "dspo/loop-01.safetensors"


def candidates(model: list[Any], prompts: str, count: int) -> dict[str, Any]:
    sampling = {"steps": 2, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "batch_size": 0}
    wires = {"model": model, "clip": ["3", 1], "vae": ["3", 2], "negative": ""}
    values = {"prompts": prompts, "seeds_per_prompt": count, "seed": 5, "width": 64, "height": 64}
    return {"class_type": "DSPOCandidates", "inputs": {**wires, **values, **sampling}}


def checkpoint() -> Graph:
    return {"3": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": CHECKPOINT}}}


def collect() -> Graph:
    wires = {"images": ["10", 0], "candidates": ["10", 1]}
    collected = {"class_type": "DSPOCollectPairs", "inputs": {**wires, "set": "loop", "schedule": "all"}}
    return {**checkpoint(), "10": candidates(["3", 0], PROMPTS, 4), "11": collected}


def compare() -> Graph:
    return {**with_model({}), "7": compared(LORA)["7"]}


def blind() -> Graph:
    sampling = {"steps": 2, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "strength": STRENGTH}
    wires = {"model": ["3", 0], "clip": ["3", 1], "vae": ["3", 2], "lora_name": LORA}
    values = {"prompts": PROMPTS, "negative": "", "images_per_prompt": 2, "seed": 1000, "width": 64, "height": 64}
    inputs = {**wires, **values, **sampling, "name": "loop"}
    return {**checkpoint(), "13": {"class_type": "DSPOBlindTest", "inputs": inputs}}


def graphs() -> dict[str, Graph]:
    training = train_graph("loop", "loop", steps=4, preview_every=2, preview_prompt="red dog")
    return {"collect": collect(), "train": training, "compare": compare(), "blind": blind()}


@pytest.fixture(scope="module")
def own(core: Core, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """A server for the page alone: it stores the page's settings."""
    node = node_program(SCRIPT, axe=True)
    assert node
    from checkpoints import cached

    base = tmp_path_factory.mktemp("loop")
    prepare(base)
    link(cached("sd15"), base / "models" / "checkpoints" / CHECKPOINT)
    put_set(base / "input" / "two-tabs", groups=4, pictures=4)
    with running(core, base) as started:
        yield started


@pytest.fixture(scope="module")
def played(own: ComfyServer) -> dict[str, Any]:
    """What loop.mjs did and found."""
    file = own.base / "graphs.json"
    file.write_text(json.dumps(graphs()), encoding="utf-8")
    return report_of(SCRIPT, LONG, URL_=own.url, GRAPHS=str(file))


def given(votes: list[dict[str, Any]]) -> Counter[str]:
    return Counter(json.dumps([each["outcome"], each["winner"], sorted(each["images"])]) for each in votes)


def kept(folder: Path) -> Counter[str]:
    """The votes that count, as the log on disk has them."""
    votes = [each.vote for each in PreferenceStore(folder).history(limit=1000) if each.status == "counts"]
    return given([{"outcome": vote.outcome, "winner": vote.winner, "images": vote.pair} for vote in votes])


def test_the_page_does_what_it_shall(played: dict[str, Any]) -> None:
    assert {name: said for name, said in played["checks"].items() if said != "ok"} == {}
    assert len(played["checks"]) >= 37  # views at one width; with SHOTS, at both, there are seven more


def test_every_answer_is_on_disk_as_it_was_given(own: ComfyServer, played: dict[str, Any]) -> None:
    """20 answers and one taken back; a picture removed and restored changes nothing."""
    folder = own.base / "input" / "loop"
    assert len(played["votes"]) == 20
    assert kept(folder) == given(played["votes"])
    lines = [json.loads(line) for line in (folder / "preferences.jsonl").read_text(encoding="utf-8").splitlines()]
    kinds = Counter(line["kind"] for line in lines)
    assert {kind: kinds[kind] for kind in ("group", "vote", "undo", "remove", "restore")} == {
        "group": 4,
        "vote": 21,
        "undo": 1,
        "remove": 1,
        "restore": 1,
    }


def test_the_training_took_the_wins(own: ComfyServer, played: dict[str, Any]) -> None:
    wins = [vote for vote in played["votes"] if vote["outcome"] == "win"]
    assert len(scan_pairs(own.base / "input" / "loop").pairs) == len(wins)
    run = Page(own).get("run", run="loop-01", since=0).json
    assert (run["step"], run["steps"], run["finished"]) == (4, 4, True)
    assert run["previews"] == ["step-000002.png", "step-000004.png"]
    assert (own.base / "output" / "loras" / LORA).is_file()


def test_two_tabs_lose_nothing_and_count_nothing_twice(own: ComfyServer, played: dict[str, Any]) -> None:
    """Both may be shown one pair; the first answer to it counts."""
    store = PreferenceStore(own.base / "input" / "two-tabs")
    counting = [each for each in store.history(limit=1000) if each.status == "counts"]
    assert len({each.pair for each in counting}) == len(counting) == store.progress().total == 24
    assert kept(store.folder) <= given(played["tabs"])
    clients = Counter(each.vote.client for each in counting)
    assert len(clients) == 2


def test_the_blind_result_is_that_of_the_votes(own: ComfyServer, played: dict[str, Any]) -> None:
    """A win counts 1, a tie one half; skipped pairs are no votes."""
    told = played["result"]
    folder = own.base / "output" / "dspo" / "blind" / told["set"]
    assert kept(folder) == given(played["blind"])
    store = PreferenceStore(folder)
    lora = {picture.image for group in store.groups() for picture in group.images if picture.arm == "lora"}
    votes = [each.vote for each in store.history(limit=100) if each.status == "counts" and each.vote.outcome != "skip"]
    wins = sum(vote.winner in lora for vote in votes)
    ties = sum(vote.outcome == "tie" for vote in votes)
    assert (told["wins"], told["ties"], told["votes"], told["open"]) == (wins, ties, len(votes), 0)
    assert told["win_rate"] == pytest.approx((wins + ties / 2) / len(votes))
    assert Page(own).get("result", place="blind", set=told["set"]).json == {
        key: value for key, value in told.items() if key != "set"
    }
