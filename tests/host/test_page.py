"""Our routes on a real ComfyUI: what a page does with them."""

from __future__ import annotations

import io
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comfy_server import ComfyServer
from pages import Page, Place, ask, click, files_below, noise, put_run, put_set
from PIL import Image

from dspo_train.pairs import scan_pairs

pytestmark = pytest.mark.comfy

MARKUP = "<img src=x onerror=alert(1)>\"'& {}"


@pytest.fixture
def page(server: ComfyServer) -> Page:
    return Page(server)


@pytest.fixture
def place(server: ComfyServer) -> Iterator[Place]:
    """A fresh set of three groups of two pictures, as fields of a request."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    put_set(server.base / "input" / name)
    yield {"place": "sets", "set": name}


def counted(**counts: int) -> dict[str, int]:
    """The progress of a set; what is not given is 0."""
    names = ("answered", "open", "total", "wins", "ties", "skips", "bads", "groups_answered", "groups_total")
    return {**dict.fromkeys(names, 0), **counts}


def folder_of(server: ComfyServer, place: Place) -> Path:
    return server.base / "input" / place["set"]


def test_sets_are_listed_with_their_progress(server: ComfyServer, page: Page, place: Place) -> None:
    (found,) = [it for it in page.get("sets").json["sets"] if it["set"] == place["set"]]
    progress = counted(open=3, total=3, groups_total=3)
    assert found.pop("updated").endswith("Z")
    assert found.pop("progress").items() >= progress.items()
    thumbnails = found.pop("thumbnails")
    assert found == {**place, "layout": "collected", "state": "new", "example": False}
    assert len(thumbnails) == len(set(thumbnails)) == 4
    for name in thumbnails:
        assert page.get("image", **place, image=name, size=64).kind == "image/webp"


def test_other_folders_are_listed_and_not_touched(server: ComfyServer, page: Page) -> None:
    folder = server.base / "input" / "others"
    folder.mkdir(exist_ok=True)
    (folder / "preferences.jsonl").write_text('{"id": 1, "chosen": "a"}\n', encoding="utf-8")
    before = files_below(folder)
    (found,) = [it for it in page.get("sets").json["sets"] if it["set"] == "others"]
    assert (found["layout"], found["progress"]) == ("folder", None)
    assert page.get("next", place="sets", set="others").status == 409
    assert files_below(folder) == before


def test_a_vote_is_on_the_disk_and_counts_once(server: ComfyServer, page: Page, place: Place) -> None:
    (question,) = ask(page, place)
    name = uuid.uuid4().hex
    first, again = (click(page, place, question, id=name) for _ in range(2))
    assert (first.status, first.json["status"], first.json["vote"]) == (200, "recorded", name)
    assert first.json == again.json
    expected = counted(answered=1, open=2, total=3, wins=1, groups_answered=1, groups_total=3)
    assert first.json["progress"] == expected
    (pair,) = scan_pairs(folder_of(server, place)).pairs
    assert pair.winner == folder_of(server, place) / question["left"]


def test_a_second_opinion_counts_only_where_it_is_meant_to(page: Page, place: Place) -> None:
    (question,) = ask(page, place)
    first = click(page, place, question).json["vote"]
    second = click(page, place, question, winner=question["right"])
    assert (second.json["status"], second.json["vote"]) == ("already", first)
    third = click(page, place, question, outcome="tie", winner=None, relabel=True)
    assert third.json["status"] == "recorded"
    assert (third.json["progress"]["wins"], third.json["progress"]["ties"]) == (0, 1)
    votes = page.get("history", **place).json
    assert [(it["outcome"], it["status"]) for it in votes["votes"]] == [("tie", "counts"), ("win", "replaced")]
    assert votes["total"] == 2
    assert sorted(votes["votes"][0]["images"]) == sorted([question["left"], question["right"]])


def test_what_the_tab_shows_is_not_asked_again(page: Page, place: Place) -> None:
    shown = ask(page, place, count=2)
    rest = ask(page, place, count=9, skip=",".join(it["pair"] for it in shown))
    assert len({it["pair"] for it in [*shown, *rest]}) == len(shown) + len(rest) == 3
    assert shown == ask(page, place, count=2)  # a reload shows the same sides


def test_undo_takes_back_the_tabs_own_last_vote(server: ComfyServer, page: Page, place: Place) -> None:
    other = Page(server, "other-tab")
    mine, theirs = ask(page, place, count=2)
    click(page, place, mine)
    click(other, place, theirs)
    name = uuid.uuid4().hex
    undone = [page.post("undo", **place, client=page.client, id=name).json for _ in range(2)]
    assert undone[0] == undone[1]
    assert (undone[0]["status"], undone[0]["pair"], undone[0]["progress"]["answered"]) == ("undone", mine["pair"], 1)
    empty = page.post("undo", **place, client=page.client, id=uuid.uuid4().hex).json
    assert (empty["status"], empty["pair"], empty["question"]) == ("nothing", None, None)
    assert undone[0]["question"] == mine  # to be shown again after a reload


def test_undo_of_a_named_vote(server: ComfyServer, page: Page, place: Place) -> None:
    first, second = ask(page, place, count=2)
    named, later = (click(page, place, question).json["vote"] for question in (first, second))

    def undo(tab: Page, vote: str) -> dict[str, Any]:
        return tab.post("undo", **place, client=tab.client, id=uuid.uuid4().hex, vote=vote).json

    assert undo(Page(server, "other-tab"), named)["status"] == "nothing"
    assert undo(page, named)["question"] == first
    assert [undo(page, vote)["status"] for vote in (named, "none-such", later)] == ["nothing", "nothing", "undone"]


def test_tabs_are_asked_in_other_orders(page: Page, place: Place) -> None:
    orders = {tuple(it["pair"] for it in ask(page, place, count=9, client=f"tab-{n}")) for n in range(6)}
    assert len(orders) > 1 and {len(order) for order in orders} == {3}
    assert ask(page, place, count=9, client="tab-1") == ask(page, place, count=9, client="tab-1")


def test_a_blind_test_is_not_mended_afterwards(server: ComfyServer, page: Page) -> None:
    put_set(server.base / "output" / "dspo" / "blind" / "fixed-01", groups=2, arms=True)
    place = {"place": "blind", "set": "fixed-01"}
    (question,) = ask(page, place)
    click(page, place, question)
    assert click(page, place, question, outcome="tie", winner=None, relabel=True).status == 409
    for target in (question["left"], question["group"]):
        assert page.post("remove", **place, target=target).status == 409
        assert page.post("restore", **place, target=target).status == 409
    assert page.get("history", **place).json["votes"][0]["status"] == "counts"
    assert page.post("undo", **place, client=page.client, id=uuid.uuid4().hex).json["status"] == "undone"


def test_a_set_is_found_without_a_look_at_the_others(server: ComfyServer, page: Page) -> None:
    """Four levels down no list shows it, but its own name leads there."""
    put_set(server.base / "input" / "a4" / "b" / "c" / "d", groups=1)
    assert page.get("next", place="sets", set="a4/b/c/d").json["progress"]["open"] == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_set_that_cannot_be_reached_may_be_tried_again(server: ComfyServer, page: Page, place: Place) -> None:
    folder_of(server, place).chmod(0)
    try:
        assert page.get("next", **place).status == 503
    finally:
        folder_of(server, place).chmod(0o755)


def test_an_export_with_a_missing_picture_leaves_no_folder(server: ComfyServer, page: Page, place: Place) -> None:
    questions = ask(page, place, count=2)
    for question in questions:
        click(page, place, question)
    (folder_of(server, place) / questions[-1]["left"]).unlink()
    answer = page.post("export", **place, layout="suffix")
    assert answer.status == 409 and "an image is missing" in answer.json["error"]
    assert not (server.base / "output" / "dspo" / "exports" / f"{place['set']}-suffix").exists()


def test_removing_and_restoring(page: Page, place: Place) -> None:
    (question,) = ask(page, place)
    for target in (question["left"], question["group"]):
        removed = page.post("remove", **place, target=target).json
        assert (removed["status"], removed["progress"]["total"]) == ("removed", 2)
        gone = click(page, place, question).json
        assert (gone["status"], gone["vote"]) == ("gone", None)
        assert page.post("remove", **place, target=target).json["status"] == "nothing"
        restored = page.post("restore", **place, target=target).json
        assert (restored["status"], restored["progress"]["total"]) == ("restored", 3)


def test_other_tabs_hear_of_a_vote(server: ComfyServer, page: Page, place: Place) -> None:
    with server.listen() as events:
        (question,) = ask(page, place)
        click(page, place, question)
        (heard,) = events.until(lambda e: [it for it in e.of("dspo.voted") if it["set"] == place["set"]], 10)
    named = {"client": "tab", "pair": question["pair"], "group": question["group"]}
    assert heard == {**place, **named, "progress": heard["progress"]}
    assert (heard["progress"]["answered"], heard["progress"]["open"]) == (1, 2)


def test_pictures_whole_and_reduced(server: ComfyServer, page: Page, place: Place) -> None:
    name = ask(page, place)[0]["left"]
    whole, small = page.get("image", **place, image=name), page.get("image", **place, image=name, size=32)
    assert (whole.kind, small.kind) == ("image/png", "image/webp")
    assert whole.body == (folder_of(server, place) / name).read_bytes()
    assert max(Image.open(io.BytesIO(small.body)).size) == 32
    for answer in (whole, small):
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-site"


def test_markup_in_a_prompt_is_text_in_json(server: ComfyServer, page: Page) -> None:
    put_set(server.base / "input" / "markup", prompt=MARKUP)
    place = {"place": "sets", "set": "markup"}
    answer = page.get("next", **place, count=1)
    assert answer.kind.startswith("application/json")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.json["questions"][0]["prompt"] == MARKUP.format(0)
    click(page, place, answer.json["questions"][0])
    assert page.get("history", **place).json["votes"][0]["prompt"] == MARKUP.format(0)


def test_a_set_that_is_deleted_and_made_anew(server: ComfyServer, page: Page, place: Place) -> None:
    click(page, place, ask(page, place)[0])
    shutil.rmtree(folder_of(server, place))
    assert page.get("next", **place).status == 404
    put_set(folder_of(server, place), groups=1)
    assert page.get("next", **place).json["progress"]["open"] == 1


def test_sets_below_folders_and_in_other_scripts(server: ComfyServer, page: Page) -> None:
    for name in ("deep/er/set", "猫 と 犬", "it's (1) [50%] & more"):
        put_set(server.base / "input" / name, groups=1)
        assert [it for it in page.get("sets").json["sets"] if it["set"] == name]
        (question,) = ask(page, {"place": "sets", "set": name})
        assert click(page, {"place": "sets", "set": name}, question).json["status"] == "recorded"


def test_a_folder_of_pairs_is_imported_once(server: ComfyServer, page: Page) -> None:
    before = files_below(server.base / "input")
    into = f"in-{uuid.uuid4().hex[:8]}"
    source = server.base / "input" / "suffixed"
    source.mkdir(exist_ok=True)
    for n in range(2):
        (source / f"{n}_w.png").write_bytes(noise(5000 + n))
        (source / f"{n}_l.png").write_bytes(noise(6000 + n))
        (source / f"{n}.txt").write_text("red dog", encoding="utf-8")
    (source / "7_w.png").write_bytes(noise(1))  # has no counterpart
    first, again = (page.post("import", set="suffixed", into=into).json for _ in range(2))
    assert (first["added"], first["already"], again["added"], again["already"]) == (2, 0, 0, 2)
    assert any("7_w.png" in text for text in first["defects"])
    assert str(server.base) not in json.dumps(first)
    assert page.get("next", place="sets", set=into).json["progress"]["wins"] == 2
    assert not {name for name in before if before[name] != files_below(server.base / "input")[name]}


def test_what_cannot_be_imported(server: ComfyServer, page: Page, place: Place) -> None:
    (server.base / "input" / "no-pairs" / "images").mkdir(parents=True, exist_ok=True)
    before = files_below(server.base)
    assert page.post("import", set="no-pairs", into="new-one").status == 409
    assert page.post("import", set=place["set"], into=place["set"]).status == 409
    assert page.post("import", set="shapes-large-and-dark", into=".hidden").status == 400
    assert page.post("import", set="shapes-large-and-dark", into="a/b/c/d").status == 400
    assert page.post("import", set="shapes-large-and-dark", into=f"{place['set']}/images").status == 400
    assert page.post("import", set="none-such", into="new-one").status == 404
    assert files_below(server.base) == before


@pytest.mark.parametrize("layout", ["suffix", "subfolders", "ranked", "jsonl", "csv"])
def test_exports_are_numbered_and_read_back(layout: str, server: ComfyServer, page: Page, place: Place) -> None:
    for question in ask(page, place, count=2):
        click(page, place, question)
    answers = [page.post("export", **place, layout=layout).json for _ in range(2)]
    stem = f"dspo/exports/{place['set']}-{layout}"
    assert answers == [{"folder": f"{stem}{number}", "pairs": 2, "images": 4} for number in ("", "-2")]
    assert len(scan_pairs(server.base / "output" / stem).pairs) == 2


def test_an_export_of_nothing_leaves_no_folder(server: ComfyServer, page: Page, place: Place) -> None:
    assert page.post("export", **place, layout="csv").status == 409
    assert not (server.base / "output" / "dspo" / "exports" / f"{place['set']}-csv").exists()


def test_the_result_of_a_blind_test(server: ComfyServer, page: Page) -> None:
    store = put_set(server.base / "output" / "dspo" / "blind" / "bt-01", groups=10, arms=True)
    place = {"place": "blind", "set": "bt-01"}
    arms = {picture.image: picture.arm for group in store.groups() for picture in group.images}
    assert page.get("result", **place).json["win_rate"] is None
    for question in ask(page, place, count=8):
        winner = next(question[side] for side in ("left", "right") if arms[question[side]] == "lora")
        click(page, place, question, winner=winner)
    found = page.get("result", **place).json
    expected = {"votes": 8, "wins": 8, "ties": 0, "losses": 0, "prompts": 8, "win_rate": 1.0, "to_settle": 0, "open": 2}
    assert {name: found[name] for name in expected} == expected
    assert found["names"] == {"base": "base", "lora": "my <LoRA>"}
    assert found["low"] == pytest.approx(0.5886, abs=1e-4)  # as in test_winrate.py
    pictures = [page.get("result.png", **place, theme=theme) for theme in ("light", "dark")]
    assert all(Image.open(io.BytesIO(it.body)).format == "PNG" for it in pictures)
    assert pictures[0].body != pictures[1].body
    assert pictures[0].headers["cache-control"] == "no-store"


def test_what_is_asked_tells_nothing_about_the_arms(server: ComfyServer, page: Page) -> None:
    put_set(server.base / "output" / "dspo" / "blind" / "bt-02", groups=4, arms=True)
    place = {"place": "blind", "set": "bt-02"}
    click(page, place, ask(page, place)[0])
    for path in ("next", "history"):
        text = page.get(path, **place).body.decode()
        assert "lora" not in text.lower() and "base" not in text.lower() and "seed" not in text


def test_runs_are_listed_and_read_on(server: ComfyServer, page: Page) -> None:
    put_run(server.base, "done-01")
    going = put_run(server.base, "going-01", done=30, accuracy=1.0, winner_change=0.01, held_out_margin=0.2, secret=1.0)
    runs = {it["run"]: it for it in page.get("runs").json["runs"]}
    assert (runs["done-01"]["step"], runs["done-01"]["state"], runs["done-01"]["objective"]) == (
        100,
        "finished",
        "dspo",
    )
    assert (runs["going-01"]["step"], runs["going-01"]["steps"], runs["going-01"]["state"]) == (30, 100, "crashed")
    whole, later = page.get("run", run="going-01").json, page.get("run", run="going-01", since=28).json
    assert [it["step"] for it in whole["reports"]] == list(range(1, 31))
    assert [it["step"] for it in later["reports"]] == [29, 30]
    assert later["reports"][0]["held_out_margin"] == 0.2 and "secret" not in later["reports"][0]
    assert "predicting both worse" in later["warning"] and later["alarm"] == "training"
    done = page.get("run", run="done-01").json
    assert (done["warning"], done["alarm"], done["early"], done["learned"]["share"]) == (None, None, False, 0.6)
    assert later["previews"] == ["step-000050.png"]
    assert page.get("preview", run="going-01", file="step-000050.png").body == noise(7)
    small = page.get("preview", run="going-01", file="step-000050.png", size=32)
    assert (small.kind, max(Image.open(io.BytesIO(small.body)).size)) == ("image/webp", 32)
    assert page.get("preview", run="going-01", file="step-000051.png", size=32).status == 404
    with (going / "reports.jsonl").open("a") as file:
        file.write('{"step": 31, "loss": NaN, "margin": 1}\n')
    assert page.get("run", run="going-01", since=30).json["reports"] == [{"step": 31, "loss": None, "margin": 1}]


def test_every_alarm_has_a_name_for_the_page(server: ComfyServer, page: Page) -> None:
    put_run(server.base, "worse-01", done=30, accuracy=0.5, winner_change=0.1, drift=0.1)
    assert page.get("run", run="worse-01").json["alarm"] == "without_winning"


def test_a_row_shows_what_a_run_was_made_of(server: ComfyServer, page: Page) -> None:
    folder = put_run(server.base, "made-01")
    names = {"set": "cats", "preset": "Gentle", "base": "dream", "parent": "dspo/old-01.safetensors"}
    (folder / "about.json").write_text(json.dumps(names), encoding="utf-8")
    row = page.get("run", run="made-01").json
    assert {name: row[name] for name in names} == names
    assert (row["lora"], row["reason"], row["seconds_left"]) == (None, None, None)
    delivered = server.base / "output" / "loras" / "dspo" / "made-01.safetensors"
    delivered.parent.mkdir(parents=True, exist_ok=True)
    delivered.write_bytes(b"x")
    assert page.get("run", run="made-01").json["lora"] == "dspo/made-01.safetensors"
    assert page.get("workflow", run="made-01").json == {"workflow": None}
    (folder / "workflow.json").write_text('{"nodes": []}', encoding="utf-8")
    assert page.get("workflow", run="made-01").json == {"workflow": {"nodes": []}}


def test_a_run_that_does_not_train_here_is_not_stopped(server: ComfyServer, page: Page) -> None:
    put_run(server.base, "still-01", done=30)
    answer = page.post("stop", run="still-01")
    assert (answer.status, answer.json) == (409, {"error": "This run is not training now."})
    assert page.post("stop", run="none-01").status == 404


def test_held_out_pairs_raise_the_alarm_and_end_a_run(server: ComfyServer, page: Page) -> None:
    """Measured every 40 steps, so that the last two measurements lie further back than the latest reports."""
    run = put_run(server.base, "held-01", steps=400, done=85)
    (run / "held-01.safetensors").write_bytes(b"x")
    config = {"steps": 400, "held_out": {"share": 0.1, "every": 40}}
    (run / "run.json").write_text(json.dumps({"config": config}), encoding="utf-8")
    reports = [json.loads(line) for line in (run / "reports.jsonl").read_text(encoding="utf-8").splitlines()]
    worse = {"held_out_accuracy": 0.97, "held_out_pair_accuracy": 0.9, "held_out_winner_change": 1e-6}

    def told(*measured: int, **last: bool) -> tuple[Any, ...]:
        lines = [report | (worse if report["step"] in measured else {}) for report in reports]
        lines[-1] |= last
        (run / "reports.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        found = page.get("run", run="held-01", since=84).json
        return found["alarm"], found["finished"], found["early"]

    assert told(40) == (None, False, False)
    assert told(40, 80) == ("held_out", False, False)
    assert told(40, 80, stopped=True) == ("held_out", True, True)
    warning = page.get("run", run="held-01").json["warning"]
    assert "On pairs that it was not trained on" in warning
    assert "`" not in warning, "settings have the nodes' names"
    (listed,) = [it for it in page.get("runs").json["runs"] if it["run"] == "held-01"]
    assert (listed["state"], listed["early"], listed["step"]) == ("finished", True, 85)
