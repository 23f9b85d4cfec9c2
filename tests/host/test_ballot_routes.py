"""Choosing among all candidates of a prompt, over our routes on a real ComfyUI."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from comfy_server import ComfyServer
from pages import Page, Place, ask, click, put_set

from dspo_train.pairs import scan_folder, scan_pairs
from dspo_train.preferences import PreferenceStore

pytestmark = pytest.mark.comfy


@pytest.fixture
def page(server: ComfyServer) -> Page:
    return Page(server)


@pytest.fixture
def place(server: ComfyServer) -> Iterator[Place]:
    """A fresh set of three groups of four pictures, as fields of a request."""
    name = f"b-{uuid.uuid4().hex[:8]}"
    put_set(server.base / "input" / name, pictures=4)
    yield {"place": "sets", "set": name}


def groups(page: Page, place: Place, count: int = 9, **fields: Any) -> list[dict[str, Any]]:
    return page.get("groups", **place, count=count, **fields).json["groups"]


def judge(page: Page, place: Place, group: dict[str, Any], **choice: Any) -> Any:
    values = {"group": group["group"], "images": group["images"], "id": uuid.uuid4().hex, "client": page.client}
    return page.post("judge", **{**place, **values, "seconds": 1.5, **choice})


def lines(server: ComfyServer, place: Place) -> list[dict[str, Any]]:
    text = (server.base / "input" / place["set"] / "preferences.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_one_request_judges_a_group(server: ComfyServer, page: Page, place: Place) -> None:
    first, *rest = groups(page, place)
    assert {*first} == {"group", "prompt", "images"} and len(first["images"]) == 4 and len(rest) == 2
    with server.listen() as events:
        name = uuid.uuid4().hex
        answers = [judge(page, place, first, best=first["images"][:1], id=name).json for _ in range(2)]
        (heard,) = events.until(lambda e: [it for it in e.of("dspo.voted") if it["set"] == place["set"]][:1], 10)
    assert answers[0] == answers[1]
    assert (answers[0]["status"], answers[0]["ballot"]) == ("recorded", name)
    progress = answers[0]["progress"]
    assert (progress["groups_answered"], progress["groups_total"], progress["wins"]) == (1, 3, 3)
    assert (heard["group"], heard["pair"], heard["client"]) == (first["group"], None, "tab")
    votes = [line for line in lines(server, place) if line["kind"] == "vote"]
    assert [line["ballot"] for line in votes] == [name] * 3
    pairs = scan_pairs(server.base / "input" / place["set"]).pairs
    assert {pair.winner.name for pair in pairs} == {first["images"][0].split("/")[1]}
    assert [it["group"] for it in groups(page, place)] == [it["group"] for it in rest]
    late = judge(Page(server, "other"), place, first, best=first["images"][1:2]).json
    assert (late["status"], late["ballot"]) == ("already", name)


def test_undo_gives_the_group_back_after_a_reload(server: ComfyServer, page: Page, place: Place) -> None:
    (group, *_) = groups(page, place)
    judge(page, place, group, bad=group["images"])
    again = Page(server, "tab-after-a-reload")
    nothing = again.post("undo", **place, client=again.client, id=uuid.uuid4().hex).json
    assert (nothing["status"], nothing["question"]) == ("nothing", None)
    undone = again.post("undo", **place, client=again.client, earlier=["gone", page.client], id=uuid.uuid4().hex).json
    assert (undone["status"], undone["pair"], undone["group"]) == ("undone", None, group["group"])
    assert undone["question"] == group and undone["progress"]["answered"] == 0


def test_what_a_ballot_may_not_say(page: Page, place: Place) -> None:
    (group, other, _) = groups(page, place)
    a, b = group["images"][:2]
    for wrong in (
        {"best": [a, a]},
        {"best": [a], "bad": [a]},
        {"best": other["images"][:1]},
        {"images": [a]},
        {"images": [a, a, b]},
        {"best": [a], "skip": True},
        {"best": a},
        {"images": [*group["images"], "images/../x.png"]},
        {"seconds": -1},
        {"verdict": "best"},
    ):
        assert judge(page, place, group, **wrong).status == 400, wrong
    assert judge(page, place, {**group, "group": "none-such"}).status in (404, 409)
    assert page.get("groups", **place).json["progress"]["answered"] == 0


def test_removed_meanwhile(page: Page, place: Place) -> None:
    (group, *_) = groups(page, place)
    page.post("remove", **place, target=group["images"][0])
    answer = judge(page, place, group, best=group["images"][:1]).json
    assert (answer["status"], answer["ballot"]) == ("gone", None)
    assert judge(page, place, group, best=group["images"][1:2]).json["progress"]["wins"] == 2


def test_groups_of_two_and_of_many_are_pairs(server: ComfyServer, page: Page, place: Place) -> None:
    store = put_set(server.base / "input" / "sizes", groups=1, pictures=2, prompt="two {}")
    put_set(server.base / "input" / "many", groups=1, pictures=10)
    (pair,) = groups(page, {"place": "sets", "set": "sizes"})
    assert {*pair} == {"pair", "group", "prompt", "left", "right"} and pair["group"] == store.groups()[0].id
    many = groups(page, {"place": "sets", "set": "many"}, count=64)
    assert len(many) == 45 and len({it["pair"] for it in many}) == 45
    shown = ",".join(it["pair"] for it in many[:40])
    assert len(groups(page, {"place": "sets", "set": "many"}, count=64, skip=shown)) == 5


def test_prompts_can_be_chosen(page: Page, place: Place) -> None:
    assert [it["prompt"] for it in groups(page, place, find="DOG 1")] == ["red dog 1"]
    assert {it["prompt"] for it in ask(page, place, count=64, find="dog 2")} == {"red dog 2"}
    assert groups(page, place, find="cat") == []


def test_a_pair_may_be_bad(page: Page, place: Place) -> None:
    (question,) = ask(page, place)
    answer = click(page, place, question, outcome="bad", winner=None).json
    assert (answer["status"], answer["progress"]["bads"]) == ("recorded", 1)
    assert page.get("history", **place).json["votes"][0]["outcome"] == "bad"
    assert click(page, place, question, outcome="bad").status == 400


def test_opinions_are_exported(server: ComfyServer, page: Page, place: Place) -> None:
    assert page.post("export", **place, layout="opinions").status == 409
    (group, *_) = groups(page, place)
    judge(page, place, group, best=group["images"][:1], bad=group["images"][2:])
    answer = page.post("export", **place, layout="opinions").json
    assert (answer["pairs"], answer["images"]) == (0, 3)
    scan = scan_folder(server.base / "output" / answer["folder"])
    assert (len(scan.liked), len(scan.disliked)) == (1, 2)


def test_a_blind_test_is_judged_in_pairs_and_tells_nothing(server: ComfyServer, page: Page) -> None:
    folder = server.base / "output" / "dspo" / "blind" / "pairs-01"
    store = put_set(folder, groups=2, pictures=4, arms=True)
    place = {"place": "blind", "set": "pairs-01"}
    group = store.groups()[0]
    assert page.get("groups", **place).status == 409
    assert judge(page, place, {"group": group.id, "images": list(group.names)}, best=[group.names[0]]).status == 409
    assert page.get("about", **place, group=group.id).status == 409
    assert PreferenceStore(folder).progress().answered == 0


def test_seeds_and_settings_are_told_on_demand(page: Page, place: Place) -> None:
    (group, *_) = groups(page, place)
    found = page.get("about", **place, group=group["group"]).json
    assert {it["image"] for it in found["images"]} == {*group["images"]}
    assert sorted(it["seed"] for it in found["images"]) == [0, 1, 2, 3]
    assert found["settings"] == {}
    assert page.get("about", **place, group="none-such").status == 404
