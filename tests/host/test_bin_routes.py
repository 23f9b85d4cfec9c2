"""Renaming and deleting sets, tests and runs, and what a list of many says, on a real ComfyUI."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comfy_server import ComfyServer
from pages import Page, ask, click, files_below, noise, put_run, put_set

from dspo_train.preferences import PreferenceStore
from dspo_train.runs.folder import locked

pytestmark = pytest.mark.comfy


@pytest.fixture
def page(server: ComfyServer) -> Page:
    return Page(server)


@pytest.fixture
def name(server: ComfyServer) -> Iterator[str]:
    """A set of three pairs, one of them judged."""
    name = f"b-{uuid.uuid4().hex[:8]}"
    store = put_set(server.base / "input" / name)
    (question,) = store.next(1)
    store.vote(question.pair, "win", question.left)
    yield name


def row(page: Page, name: str, place: str = "sets") -> dict[str, Any] | None:
    return next((it for it in page.get("sets").json["sets"] if (it["place"], it["set"]) == (place, name)), None)


def run_row(page: Page, name: str) -> dict[str, Any] | None:
    return next((it for it in page.get("runs").json["runs"] if it["run"] == name), None)


def entry_of(page: Page, kind: str, name: str) -> str:
    found = [it for it in page.get("bin").json["entries"] if (it["kind"], it["name"]) == (kind, name)]
    return found[0]["entry"]


def test_a_set_into_the_bin_and_back(server: ComfyServer, page: Page, name: str) -> None:
    folder = server.base / "input" / name
    ask(page, {"place": "sets", "set": name})  # opens it
    before = files_below(folder)
    answer = page.post("delete", kind="sets", name=name)
    assert (answer.status, answer.json["name"]) == (200, name)
    assert not folder.exists() and row(page, name) is None
    assert page.get("next", place="sets", set=name).status == 404
    assert name not in json.dumps(page.get("sets").json)
    entry = entry_of(page, "sets", name)
    assert entry == answer.json["entry"]
    assert page.post("undelete", kind="sets", entry=entry).json == {"name": name}
    assert files_below(folder) == before
    found = row(page, name)
    assert found and (found["state"], found["progress"]["answered"], found["progress"]["total"]) == ("voting", 1, 3)
    assert entry not in json.dumps(page.get("bin").json)


def test_a_tab_that_votes_on_a_deleted_set_writes_nowhere(server: ComfyServer, page: Page, name: str) -> None:
    place, other = {"place": "sets", "set": name}, Page(server, "other-tab")
    (question,) = ask(other, place)
    entry = page.post("delete", kind="sets", name=name).json["entry"]
    assert click(other, place, question).status == 404
    assert not (server.base / "input" / name).exists()
    page.post("undelete", kind="sets", entry=entry)
    assert click(other, place, question).json["progress"]["answered"] == 2  # the page keeps it, and sends it again


def test_a_tab_that_votes_on_a_renamed_set_goes_on(server: ComfyServer, page: Page, name: str) -> None:
    place, other = {"place": "sets", "set": name}, Page(server, "other-tab")
    first, second = ask(other, place, count=2)
    click(other, place, first)
    to = f"{name}-cats/young"
    assert page.post("rename", kind="sets", name=name, to=to).json == {"name": to}
    assert row(page, name) is None
    assert click(other, place, second).json["progress"]["answered"] == 3
    assert other.get("image", **place, image=second["left"], size=64).kind == "image/webp"
    assert not (server.base / "input" / name).exists()
    again = f"{name}-dogs"
    page.post("rename", kind="sets", name=to, to=again)
    assert page.get("next", **place).json["progress"]["answered"] == 3
    found = row(page, again)
    assert found and found["progress"]["answered"] == 3
    put_set(server.base / "input" / name, groups=1)  # a new set of the old name is meant by it from now on
    assert page.get("next", **place).json["progress"]["total"] == 1


def test_names_that_are_taken_or_no_names(server: ComfyServer, page: Page, name: str) -> None:
    put_set(server.base / "input" / f"{name}-2")
    before = files_below(server.base / "input")
    for to, status in {
        f"{name}-2": 409,
        f"{name}/inside": 409,
        f"{name}-2/images": 409,
        "shapes-large-and-dark": 409,
        ".hidden": 400,
        "a/b/c/d": 400,
        "..": 400,
        "con": 400,
        "": 400,
    }.items():
        assert page.post("rename", kind="sets", name=name, to=to).status == status, to
    assert page.post("rename", kind="sets", name=name, to=name).status == 200
    assert {k: v for k, v in files_below(server.base / "input").items() if ".lock" not in k} == {
        k: v for k, v in before.items() if ".lock" not in k
    }


def test_the_way_back_when_the_name_is_taken(server: ComfyServer, page: Page, name: str) -> None:
    entry = page.post("delete", kind="sets", name=name).json["entry"]
    put_set(server.base / "input" / name, groups=1)
    assert page.post("undelete", kind="sets", entry=entry).json == {"name": f"{name}-restored"}
    old, new = row(page, f"{name}-restored"), row(page, name)
    assert old and new and (old["progress"]["total"], new["progress"]["total"]) == (3, 1)


def test_what_is_not_ours_is_left_alone(server: ComfyServer, page: Page) -> None:
    loose = server.base / "input" / "holiday"
    loose.mkdir()
    for n in range(5):
        (loose / f"IMG{n}x.png").write_bytes(noise(9000 + n))
    try:
        for target in ("holiday", "shapes-large-and-dark"):
            assert page.post("delete", kind="sets", name=target).status == 409
            assert page.post("rename", kind="sets", name=target, to="mine").status == 409
        assert page.post("delete", kind="sets", name="none-such").status == 404
        assert page.post("delete", kind="runs", name="none-such").status == 404
        assert page.post("delete", kind="blind", name="none-such").status == 404
        seen = page.get("look", set="holiday").json
        assert seen == {"pairs": 0, "rated": 0, "images": 5, "thumbnails": 4}
        assert page.get("thumbnail", set="holiday", index=3, size=64).kind == "image/webp"
        assert page.get("look", set="shapes-large-and-dark").json["pairs"] == 24
        found = row(page, "shapes-large-and-dark")
        assert found and (found["example"], found["layout"], found["state"]) == (True, "folder", "folder")
    finally:
        shutil.rmtree(loose)


def test_a_labelled_folder_may_go(server: ComfyServer, page: Page) -> None:
    folder = server.base / "input" / "own-pairs"
    folder.mkdir()
    for side in "wl":
        (folder / f"0_{side}.png").write_bytes(noise(ord(side)))
    (folder / "0.txt").write_text("red dog", encoding="utf-8")
    entry = page.post("delete", kind="sets", name="own-pairs").json["entry"]
    assert not folder.exists()
    assert page.post("undelete", kind="sets", entry=entry).json == {"name": "own-pairs"}
    shutil.rmtree(folder)


def test_deleted_for_good(server: ComfyServer, page: Page, name: str) -> None:
    entry = page.post("delete", kind="sets", name=name).json["entry"]
    assert page.post("erase", kind="sets", entry=entry).json == {"name": name}
    assert not list((server.base / "input" / ".bin").glob(f"*{name}*"))
    assert page.post("undelete", kind="sets", entry=entry).status == 404
    assert page.post("erase", kind="sets", entry=entry).status == 404


def test_a_run_keeps_its_folder_and_its_lora(server: ComfyServer, page: Page) -> None:
    run = put_run(server.base, "bin-run-01")
    lora = server.base / "output" / "loras" / "dspo" / "bin-run-01.safetensors"
    lora.parent.mkdir(parents=True, exist_ok=True)
    lora.write_bytes(b"x")
    assert page.post("rename", kind="runs", name="bin-run-01", to="Dark cats").status == 200
    assert run.is_dir()
    found = run_row(page, "bin-run-01")
    assert found and found["title"] == "Dark cats"
    page.post("rename", kind="runs", name="bin-run-01", to="bin-run-01")
    found = run_row(page, "bin-run-01")
    assert found and found["title"] is None
    entry = page.post("delete", kind="runs", name="bin-run-01").json["entry"]
    assert not run.exists() and lora.exists() and run_row(page, "bin-run-01") is None
    assert page.get("run", run="bin-run-01").status == 404
    put_run(server.base, "bin-run-01")
    assert page.post("undelete", kind="runs", entry=entry).status == 409
    shutil.rmtree(run)
    assert page.post("undelete", kind="runs", entry=entry).json == {"name": "bin-run-01"}
    assert run_row(page, "bin-run-01")


def test_a_run_that_trains_stays(server: ComfyServer, page: Page) -> None:
    run = put_run(server.base, "bin-busy-01", done=30)
    before = files_below(run)
    with locked(run):
        assert page.post("delete", kind="runs", name="bin-busy-01").status == 409
        answer = page.post("rename", kind="runs", name="bin-busy-01", to="x")
        assert (answer.status, answer.json["error"]) == (409, "This run is training; stop it first.")
    assert {k: v for k, v in files_below(run).items() if k != ".lock"} == before
    assert page.post("delete", kind="runs", name="bin-busy-01").status == 200


def judge(store: PreferenceStore, most: int) -> None:
    arms = {image.image: image.arm for group in store.groups() for image in group.images}
    for question in store.next(most):
        winner = question.left if arms[question.left] == "lora" else question.right
        store.vote(question.pair, "win", winner)


def test_a_test_shows_nothing_before_it_is_finished(server: ComfyServer, page: Page) -> None:
    store = put_set(server.base / "output" / "dspo" / "blind" / "bin-test-01", groups=8, arms=True)
    judge(store, 7)
    found = row(page, "bin-test-01", "blind")
    assert found and (found["state"], found["thumbnails"], found["result"]) == ("voting", [], None)
    assert "lora" not in json.dumps(found).lower()
    judge(store, 1)
    found = row(page, "bin-test-01", "blind")
    assert found and (found["state"], len(found["thumbnails"])) == ("voted", 4)
    result = found["result"]
    assert (result["rate"], result["high"], result["name"]) == (1.0, 1.0, "my <LoRA>")
    assert result["low"] == pytest.approx(0.5886, abs=1e-4)  # as in test_winrate.py
    page.post("rename", kind="blind", name="bin-test-01", to="Cats, second round")
    found = row(page, "bin-test-01", "blind")
    assert found and found["title"] == "Cats, second round"
    entry = page.post("delete", kind="blind", name="bin-test-01").json["entry"]
    assert row(page, "bin-test-01", "blind") is None
    assert page.post("undelete", kind="blind", entry=entry).json == {"name": "bin-test-01"}


def test_pages_hear_of_it(server: ComfyServer, page: Page, name: str) -> None:
    with server.listen() as events:
        page.post("delete", kind="sets", name=name)
        heard = events.until(lambda e: e.of("dspo.moved"), 10)
    assert heard == [{"kind": "sets", "name": name}]


def test_the_list_is_current_whether_a_set_is_open_or_not(server: ComfyServer, page: Page, name: str) -> None:
    def answered() -> int:
        found = row(page, name)
        return found["progress"]["answered"] if found else -1

    assert answered() == 1
    store = PreferenceStore(server.base / "input" / name)  # another process
    (question,) = store.next(1)
    store.vote(question.pair, "win", question.left)
    assert answered() == 2
    (question,) = ask(page, {"place": "sets", "set": name})  # opened by the server
    click(page, {"place": "sets", "set": name}, question)
    assert answered() == 3
    shutil.rmtree(server.base / "input" / name)
    assert answered() == -1
    put_set(server.base / "input" / name, groups=2)
    assert answered() == 0


def test_an_unreadable_log_is_said_so(server: ComfyServer, page: Page, name: str) -> None:
    log: Path = server.base / "input" / name / "preferences.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines()
    head = {**json.loads(lines[0]), "version": 99}
    log.write_text("\n".join([*lines[1:], json.dumps(head)]) + "\n", encoding="utf-8")
    found = row(page, name)
    assert found and (found["state"], found["progress"]) == ("unreadable", None)
