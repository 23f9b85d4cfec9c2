"""The panel in a real page: how to start, the cards of sets, tests and runs, the bin, and a thousand of each."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import node_program, report_of
from comfy_server import PACK, ComfyServer, Core, prepare, running
from pages import noise, put_run, put_set

from dspo_train.preferences import PreferenceStore

pytestmark = [pytest.mark.comfy, pytest.mark.browser]

SCRIPT = PACK / "tests" / "web" / "browser" / "cards.mjs"
LONG = 400  # seconds
MANY = 1000


@pytest.fixture
def own(core: Core, tmp_path: Path) -> Iterator[ComfyServer]:
    """A server for the page alone: it stores the page's settings."""
    node_program(SCRIPT, axe=True)
    prepare(tmp_path)
    with running(core, tmp_path) as started:
        yield started


def played(server: ComfyServer, part: str) -> dict[str, Any]:
    """What cards.mjs found; fails with what went wrong."""
    report = report_of(SCRIPT, LONG, URL_=server.url, PART=part)
    if "FIGURES" in os.environ:  # a file for what was measured
        Path(os.environ["FIGURES"]).write_text(json.dumps(report), encoding="utf-8")
    assert {name: said for name, said in report["checks"].items() if said != "ok"} == {}
    assert len(report["checks"]) >= {"fresh": 9, "filled": 30, "many": 7}[part]
    return report["found"]


def answer(store: PreferenceStore, most: int, arms: bool = False) -> None:
    of = {image.image: image.arm for group in store.groups() for image in group.images}
    for question in store.next(most):
        lora = next(name for name in (question.left, question.right) if not arms or of[name] == "lora")
        store.vote(question.pair, "win", lora)


def fill(base: Path) -> None:
    """One of each kind."""
    put_set(base / "input" / "new", groups=2, pictures=2)
    answer(put_set(base / "input" / "voting", groups=4, pictures=3), 5)
    answer(put_set(base / "input" / "voted", groups=5, pictures=2), 5)
    PreferenceStore(base / "input" / "empty")
    for name in ("gone", "erased"):
        put_set(base / "input" / name, groups=1)
    (base / "input" / "holiday").mkdir()
    for number in range(5):
        (base / "input" / "holiday" / f"IMG{number}x.png").write_bytes(noise(number))
    tests = base / "output" / "dspo" / "blind"
    answer(put_set(tests / "open-01", groups=6, arms=True), 2, arms=True)
    answer(put_set(tests / "done-01", groups=10, arms=True), 10, arms=True)
    put_run(base, "run-01")
    put_run(base, "run-02", done=30)


def test_nothing_yet(own: ComfyServer) -> None:
    played(own, "fresh")


def test_cards_and_what_can_be_done_to_them(own: ComfyServer) -> None:
    fill(own.base)
    found = played(own, "filled")
    assert found["said"] == {
        "new": "2 pairs to vote on",
        "voting": "5 of 12 pairs",
        "voted": "voted: ready to train",
        "empty": "nothing to vote on yet",
        "gone": "1 pair to vote on",
        "erased": "1 pair to vote on",
        "open-01": "2 of 6 pairs judged",
        # Wilson's lower end at ten of ten: 10 / (10 + t^2), with t = 2.262 for 9 degrees of freedom
        "done-01": "LoRA preferred in 100% (66\u2013\u2060100%)",
        "holiday": "5 images, no pairs",
        "shapes-large-and-dark": "labelled folder of 24 pairs",
    }
    assert found["primary"] == {
        **{name: ["Vote"] for name in ("new", "gone", "erased")},
        **{name: ["Continue voting"] for name in ("voting", "open-01")},
        "voted": ["Train"],
        "done-01": ["Result"],
        **{name: [] for name in ("empty", "holiday", "shapes-large-and-dark")},
    }
    base = own.base
    assert not (base / "input" / "new").exists() and (base / "input" / "猫 & bdogsb").is_dir()
    assert PreferenceStore(base / "input" / "voted").progress().answered == 5
    assert (base / "input" / "gone").is_dir() and not (base / "input" / "erased").exists()
    assert list((base / "input" / ".bin").iterdir()) == []
    (left,) = [path for path in (base / "output" / "dspo" / "runs" / ".bin").iterdir() if path.is_dir()]
    assert left.name.endswith("-run-02") and (left / "reports.jsonl").is_file()


def put_many(base: Path) -> None:
    """1,000 sets of 24 groups of 4 images with 100 votes, and 1,000 runs of 100 steps."""
    pattern = put_set(base / "input" / "set-0000", groups=24, pictures=4)
    answer(pattern, 100)
    run = put_run(base, "run-0000")
    for number in range(1, MANY):
        shutil.copytree(pattern.folder, base / "input" / f"set-{number:04d}")
        shutil.copytree(run, run.with_name(f"run-{number:04d}"))


def test_a_thousand_sets_and_runs(own: ComfyServer) -> None:
    put_many(own.base)
    found = played(own, "many")
    assert found["times"]["sets"] < 10_000  # milliseconds, on a machine that may be busy: the page gives up after 20 s
    assert found["times"]["filtered"] < 1000
