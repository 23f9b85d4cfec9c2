"""Images that are there already, on a real ComfyUI: listed by prompt, dropped, collected, voted on, in a real page."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from browsers import node_program
from comfy_server import PACK, ComfyServer
from pages import Answer, Page, files_below, put_set
from PIL import Image
from test_confine import HOSTILE
from test_gathering import picture, put
from test_routes import STRANGERS

from dspo_train.preferences import PreferenceStore

pytestmark = pytest.mark.comfy

SCRIPT = PACK / "tests" / "web" / "browser" / "gather.mjs"
SEND = "application/octet-stream"


@pytest.fixture
def page(server: ComfyServer) -> Page:
    return Page(server)


@pytest.fixture
def folder(server: ComfyServer) -> Iterator[tuple[str, Path]]:
    """A folder of output with three foxes, a dog, and two images without a prompt."""
    name = f"out-{uuid.uuid4().hex[:8]}"
    where = server.base / "output" / name
    base = int(name[4:], 16)
    for n, (prompt, kind) in enumerate((("a fox", "PNG"), ("a fox", "JPEG"), ("a fox", "WEBP"), ("a dog", "PNG"))):
        put(where, f"{n}.{kind.lower()}", picture(base + n, prompt=f"{name} {prompt}", kind=kind, seed=n), n)
    put(where / "deep", "4.png", picture(base + 4), 4)
    put(where / "deep", "5.png", picture(base + 5), 5)
    yield name, where


def listed(page: Page, **fields: Any) -> dict[str, Any]:
    """The first page once all files are read."""
    for _ in range(60):
        found = page.get("gather", **fields).json
        if found["reading"] is None:
            return found
    raise AssertionError("it does not come to an end")


def ended(page: Page) -> dict[str, Any]:
    """The collecting, once it is over."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        job = page.get("gather.status").json["job"]
        if job["state"] != "running":
            return job
        time.sleep(0.05)
    raise AssertionError("it does not come to an end")


def collect(page: Page, **fields: Any) -> dict[str, Any]:
    answer = page.post("gather", **{"source": "output", "everything": True, **fields})
    assert answer.status == 200, answer.body
    job = ended(page)
    assert job["job"] == answer.json["job"]["job"]
    return job


def drop(page: Page, data: bytes, name: str = "my cat.png", headers: dict[str, str | None] | None = None) -> Answer:
    found = page.headers(**{"content_type": SEND, **(headers or {})})
    return page.send("POST", f"/api/dspo/drop?name={quote(name, errors='surrogatepass')}", found, data)


def a_name() -> str:
    return f"g-{uuid.uuid4().hex[:8]}"


def test_images_are_listed_by_prompt(page: Page, folder: tuple[str, Path]) -> None:
    name, _ = folder
    found = listed(page, source="output", folder=name)
    groups = {group["prompt"]: group for group in found["groups"]}
    assert list(groups) == [f"{name} a fox", "", f"{name} a dog"]
    assert (found["images"], found["total"], found["prompted"]) == (6, 3, {"groups": 1, "images": 3})
    fox = groups[f"{name} a fox"]
    assert [(it["name"], it["seed"], it["width"]) for it in fox["images"]] == [
        (f"{name}/0.png", "0", 16),
        (f"{name}/1.jpeg", "1", 16),
        (f"{name}/2.webp", "2", 16),
    ]
    assert {"name": f"{name}/deep", "images": 2} in found["folders"] and {"name": name, "images": 6} in found["folders"]
    rest = page.get("gather", source="output", folder=name, group=fox["key"], offset=1, limit=1).json
    assert [it["name"] for it in rest["images"]] == [f"{name}/1.jpeg"]
    second = page.get("gather", source="output", folder=name, offset=1, limit=1).json
    assert [group["key"] for group in second["groups"]] == ["none"]
    small = page.get("gather.image", source="output", image=f"{name}/1.jpeg", size=32)
    assert (small.status, Image.open(io.BytesIO(small.body)).size) == (200, (16, 16))


def test_they_become_groups_and_questions(server: ComfyServer, page: Page, folder: tuple[str, Path]) -> None:
    name, where = folder
    set = a_name()
    with server.listen() as events:
        job = collect(page, folder=name, set=set, groups=[{"group": "none", "whole": True, "prompt": " a bird "}])
        assert (job["state"], job["groups"], job["added"], job["pairs"], job["alone"]) == ("done", 2, 5, 4, 0)
        (told,) = events.until(lambda it: [data for data in it.of("dspo.gather") if data["state"] == "done"])
    assert told == job
    store = PreferenceStore(server.base / "input" / set)
    assert {group.prompt: len(group.images) for group in store.groups()} == {f"{name} a fox": 3, "a bird": 2}
    stored = {(store.folder / image).read_bytes() for group in store.groups() for image in group.names}
    assert stored == {path.read_bytes() for path in where.rglob("*.*") if path.name != "3.png"}
    (row,) = [it for it in page.get("sets").json["sets"] if it["set"] == set]
    assert row["progress"]["open"] == 4
    assert len(page.get("next", place="sets", set=set, count=9).json["questions"]) == 4
    for asked, expected in (({"set": set}, [True] * 3), ({}, [False] * 3), ({"set": "../x"}, [False] * 3)):
        (fox, *_) = listed(page, source="output", folder=name, **asked)["groups"]
        assert [it["kept"] for it in fox["images"]] == expected
    before = (store.folder / "preferences.jsonl").read_bytes()
    again = collect(page, folder=name, set=set, groups=[{"group": "none", "whole": True, "prompt": "a bird"}])
    assert (again["added"], again["already"], again["pairs"]) == (0, 5, 0)
    assert (store.folder / "preferences.jsonl").read_bytes() == before


def test_single_images_are_chosen_by_name(server: ComfyServer, page: Page, folder: tuple[str, Path]) -> None:
    name, _ = folder
    fox = listed(page, source="output", folder=name)["groups"][0]["key"]
    names = [f"{name}/0.png", f"{name}/2.webp", "../../secret.png".replace("../", "x/"), "no/such.png"]
    set = a_name()
    job = collect(
        page, folder=name, set=set, everything=False, groups=[{"group": fox, "whole": False, "images": names}]
    )
    assert (job["added"], job["groups"]) == (2, 1)
    other = a_name()
    job = collect(page, folder=name, set=other, groups=[{"group": fox, "whole": True, "images": names[:1]}])
    assert (job["added"], job["groups"]) == (2, 1)
    alone = a_name()
    choice = {"group": fox, "whole": False, "images": names[:1]}
    assert collect(page, folder=name, set=alone, everything=False, groups=[choice])["alone"] == 1
    assert not (server.base / "input" / alone).exists()


def test_what_the_history_shows(server: ComfyServer, page: Page) -> None:
    """Drawn here by core's nodes, two prompts in one graph: the graph says which image is of which."""
    from test_harness import workflow

    graph: dict[str, Any] = {}
    for at, (prompt, seed) in enumerate((("a history fox", 11), ("a history dog", 22))):
        shift = {key: f"{at}{key}" for key in workflow(seed)}
        for key, each in workflow(seed, prompt=prompt).items():
            inputs = {k: [shift[v[0]], v[1]] if isinstance(v, list) else v for k, v in each["inputs"].items()}
            graph[shift[key]] = {**each, "inputs": inputs}
    server.run(graph)
    groups = {it["prompt"]: it["images"] for it in listed(page, source="history", limit=500)["groups"]}
    assert [it["seed"] for it in groups["a history fox"]] == ["11"]
    assert [it["seed"] for it in groups["a history dog"]] == ["22"]
    shown = groups["a history fox"][0]["name"]
    assert page.get("gather.image", source="history", image=shown).kind == "image/webp"


def test_our_own_folders_and_sets_are_not_shown(server: ComfyServer, page: Page) -> None:
    """A blind test's pictures would tell which is which, and a set's are in a set."""
    blind = put_set(server.base / "output" / "dspo" / "blind" / "secret-01", arms=True)
    own = put_set(server.base / "input" / "own-set")
    put(server.base / "input" / "loose", "1.png", picture(1))
    output, given = listed(page, source="output"), listed(page, source="input")
    names = [it["name"] for found in (output, given) for it in found["folders"]]
    assert "loose" in names and not [name for name in names if name.startswith(("dspo", "own-set"))]
    for source, hidden in (("output", "dspo/blind/secret-01"), ("input", "own-set/images")):
        assert listed(page, source=source, folder=hidden)["images"] == 0
    image = blind.groups()[0].images[0].image
    assert page.get("gather.image", source="output", image=f"dspo/blind/secret-01/{image}").status == 400
    assert page.get("gather.image", source="history", image=f"output/dspo/blind/secret-01/{image}").status == 400
    assert own.progress().total == 3


def test_dropped_files_wait_in_the_tray_until_they_are_collected(server: ComfyServer, page: Page) -> None:
    tray = server.base / "output" / "dspo" / "dropped"
    mark = uuid.uuid4().hex
    files = [picture(n + int(mark[:6], 16), prompt=f"drop {mark}") for n in range(3)]
    answers = [drop(page, data, name="Katze ö.png") for data in files]
    assert [it.json["status"] for it in answers] == ["dropped"] * 3
    assert drop(page, files[0], name="other.png").json == {**answers[0].json, "status": "already"}
    assert answers[0].json["image"].startswith("Katze ö-") and answers[0].json["image"].endswith(".png")
    assert {(tray / it.json["image"]).read_bytes() for it in answers} == {*files}
    group = next(it for it in listed(page, source="dropped")["groups"] if mark in it["prompt"])
    set = a_name()
    choice = {"group": group["key"], "whole": True}
    job = collect(page, source="dropped", set=set, everything=False, groups=[choice])
    assert (job["added"], job["pairs"]) == (3, 3)
    assert not [it for it in answers if (tray / it.json["image"]).exists()]
    assert {path.read_bytes() for path in (server.base / "input" / set / "images").iterdir()} == {*files}


NO_IMAGES = {
    "nothing": b"",
    "text": b"hello",
    "a page": b"<html><script>alert(1)</script></html>",
    "a drawing with a script": b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>",
    "GIF": b"GIF89a" + b"\0" * 100,
    "half a PNG": picture(1)[:-40],
    "half a JPEG": picture(1, size=(200, 200), kind="JPEG")[:4000],
    "the first bytes of a PNG": b"\x89PNG\r\n\x1a\n",
    "a PNG that claims to be enormous": picture(1)[:16] + b"\0\1\x86\xa0\0\1\x86\xa0" + picture(1)[24:],
}


@pytest.mark.parametrize("kind", NO_IMAGES)
def test_what_is_no_whole_image_is_not_taken(kind: str, server: ComfyServer, page: Page) -> None:
    before = files_below(server.base)
    answer = drop(page, NO_IMAGES[kind])
    assert (answer.status, set(answer.json)) == (415, {"error"})
    assert files_below(server.base) == before


@pytest.mark.parametrize("attack", STRANGERS)
def test_strangers_drop_nothing(attack: str, server: ComfyServer, page: Page) -> None:
    changes, expected = STRANGERS[attack]
    before = files_below(server.base)
    assert drop(page, picture(5), headers=changes).status == expected
    assert files_below(server.base) == before


@pytest.mark.parametrize("kind", ["application/json", "image/png", "multipart/form-data; boundary=x", None])
def test_a_drop_has_its_own_content_type(kind: str | None, page: Page) -> None:
    assert drop(page, picture(5), headers={"content_type": kind}).status == 415


def test_names_of_dropped_files_lead_nowhere(server: ComfyServer, page: Page) -> None:
    tray = server.base / "output" / "dspo" / "dropped"
    before = files_below(server.base)
    for number, name in enumerate([*HOSTILE, "x" * 390 + ".png", "..png", ".htaccess", "a.php.png"]):
        if len(name) < 400 and "\ud800" not in name:
            answer = drop(page, picture(700 + number), name=name)
            assert answer.status == 200, name
            assert (tray / answer.json["image"]).read_bytes() == picture(700 + number)
            assert "/" not in answer.json["image"] and not answer.json["image"].startswith(".")
    new = files_below(server.base).keys() - before.keys()
    assert new and all(name.startswith("output/dspo/dropped/") for name in new)
    for path in tray.iterdir():
        path.unlink()


def test_names_that_lead_elsewhere(server: ComfyServer, page: Page, folder: tuple[str, Path]) -> None:
    before = files_below(server.base)
    for name in HOSTILE:
        if len(name) < 400:
            for source in ("output", "history", "input", "dropped"):
                assert page.get("gather.image", source=source, image=name).status in (400, 404), (source, name)
            if name:
                assert page.get("gather", source="output", folder=name).status in (400, 404), name
                assert page.get("gather", source="input", folder=name).status in (400, 404), name
        for field in ("folder", "set"):
            fields = {"source": "output", "everything": True, "set": "x", field: name}
            if name or field == "set":
                assert page.post("gather", **fields).status == 400, (field, name)
        choice = {"group": "none", "whole": False, "images": [name]}
        assert page.post("gather", source="output", set="x", groups=[choice]).status == 400, name
    assert files_below(server.base) == before


WRONG_ORDERS = {
    "no source": {"source": None},
    "an unknown source": {"source": "temp"},
    "nothing chosen": {"everything": False, "groups": []},
    "groups as an object": {"groups": {}},
    "a group without a choice": {"groups": [{"group": "x"}]},
    "a group by a path": {"groups": [{"group": "../x", "whole": True}]},
    "a choice with more in it": {"groups": [{"group": "x", "whole": True, "path": "/etc"}]},
    "images as a text": {"groups": [{"group": "x", "whole": True, "images": "abc"}]},
    "a prompt as a list": {"groups": [{"group": "x", "whole": True, "prompt": []}]},
    "a prompt without end": {"groups": [{"group": "x", "whole": True, "prompt": "a" * 20_000}]},
    "an unknown schedule": {"schedule": "random"},
    "everything as a number": {"everything": 1},
    "the name of other pairs": {"set": "target-folder"},
    "a hidden set": {"set": ".hidden"},
}


@pytest.mark.parametrize("attack", WRONG_ORDERS)
def test_orders_that_make_no_sense(attack: str, server: ComfyServer, page: Page) -> None:
    put(server.base / "input" / "target-folder", "1.png", picture(1))
    before = files_below(server.base)
    fields = {"source": "output", "set": "x", "everything": True, **WRONG_ORDERS[attack]}
    answer = page.post("gather", **fields)
    assert (answer.status, set(answer.json)) == (400, {"error"})
    assert files_below(server.base) == before


def test_links_are_not_followed(server: ComfyServer, page: Page, tmp_path: Path) -> None:
    secret = put(tmp_path, "secret.png", picture(1))
    where = server.base / "output" / a_name()
    where.mkdir()
    try:
        (where / "link.png").symlink_to(secret)
        (where / "link").symlink_to(tmp_path, target_is_directory=True)
    except OSError:
        pytest.skip("this system does not let us make links")
    assert listed(page, source="output", folder=where.name)["images"] == 0
    for name in ("link.png", "link/secret.png"):
        assert page.get("gather.image", source="output", image=f"{where.name}/{name}").status == 400
    assert page.get("gather", source="output", folder=f"{where.name}/link").status == 400


def test_it_can_be_cancelled_and_only_one_runs(server: ComfyServer, page: Page) -> None:
    name, set = a_name(), a_name()
    for number in range(120):
        put(
            server.base / "output" / name,
            f"{number:03}.png",
            picture(9000 + number, (512, 512), prompt=f"c {number // 8}"),
        )
    listed(page, source="output", folder=name)
    started = page.post("gather", source="output", folder=name, set=set, everything=True).json["job"]
    assert page.post("gather", source="output", folder=name, set=set, everything=True).status == 409
    wait_for_groups(server.base / "input" / set, 2)
    assert page.post("gather.cancel", job="someone-elses").json["status"] == "nothing"
    assert page.post("gather.cancel", job=started["job"]).json["status"] == "cancelled"
    job = ended(page)
    assert job["state"] == "cancelled" and 16 <= job["added"] < 120
    store = PreferenceStore(server.base / "input" / set)
    assert {len(group.images) for group in store.groups()} == {8}
    job = collect(page, folder=name, set=set)
    assert (job["added"] + job["already"], len(PreferenceStore(store.folder).groups())) == (120, 15)


def wait_for_groups(folder: Path, count: int) -> None:
    """Until the log of a set has so many: quicker than to ask a busy server."""
    log, end = folder / "preferences.jsonl", time.monotonic() + 120
    while time.monotonic() < end:
        if log.exists() and log.read_bytes().count(b'{"kind": "group"') >= count:
            return
        time.sleep(0.002)
    raise AssertionError("it does not collect")


# Deaths of the server


def test_a_server_killed_while_it_collects_loses_nothing(fresh_server: Callable[..., ComfyServer]) -> None:
    """Killed twice in the middle: groups are whole, a vote given before stays, and the third try completes them."""
    server = fresh_server()
    for number in range(160):
        put(server.base / "output", f"{number:03}.png", picture(number, (256, 256), prompt=f"k {number // 8}"))
    put_set(server.base / "input" / "many", groups=1)
    store = PreferenceStore(server.base / "input" / "many")
    question = store.next()[0]
    store.vote(question.pair, "win", question.left, id="before")
    for most in (16, 80):
        page = Page(server)
        listed(page, source="output")
        assert page.post("gather", source="output", set="many", everything=True).status == 200
        wait_for_groups(store.folder, 1 + most // 8)
        server.kill()
        store = PreferenceStore(store.folder)
        assert store.broken() == [] and {len(group.images) for group in store.groups()[1:]} <= {8}
        assert most <= sum(len(group.images) for group in store.groups()[1:]) < 160
        for path in (store.folder / "images").iterdir():
            if not path.name.startswith("."):
                Image.open(path).load()
        server.start()
    page = Page(server)
    job = collect(page, set="many")
    assert job["state"] == "done" and job["already"] >= 80
    store = PreferenceStore(store.folder)
    assert len(store.groups()) == 21 and store.find("before") is not None
    assert len({name for group in store.groups()[1:] for name in group.names}) == 160


def test_a_server_killed_in_the_middle_of_a_drop_keeps_no_half_image(fresh_server: Callable[..., ComfyServer]) -> None:
    server = fresh_server()
    tray = server.base / "output" / "dspo" / "dropped"
    data = picture(1, (2000, 2000))
    assert len(data) > 8_000_000
    whole = drop(Page(server), picture(2)).json["image"]
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        headers = Page(server).headers(content_type=SEND)
        lines = [f"{name}: {value}" for name, value in {**headers, "Content-Length": str(len(data))}.items()]
        connection.sendall("\r\n".join(["POST /dspo/drop?name=big.png HTTP/1.1", *lines, "", ""]).encode())
        connection.sendall(data[: len(data) // 2])
        end = time.monotonic() + 20
        while not any(path.stat().st_size > 1_000_000 for path in tray.iterdir()) and time.monotonic() < end:
            time.sleep(0.01)
        server.kill()
    assert [path.name for path in tray.iterdir() if not path.name.startswith(".")] == [whole]
    (half,) = [path for path in tray.iterdir() if path.name.startswith(".")]
    server.start()
    page = Page(server)
    assert listed(page, source="dropped")["images"] == 1
    assert drop(page, data, name="big.png").status == 200
    assert half.exists(), "it may be another server's that still writes"
    os.utime(half, (1, 1))
    assert drop(page, data, name="big.png").json["status"] == "already"
    assert not half.exists() and listed(page, source="dropped")["images"] == 2


def test_a_sender_that_goes_away_leaves_nothing(server: ComfyServer, page: Page) -> None:
    before = files_below(server.base)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        headers = page.headers(content_type=SEND)
        lines = [f"{name}: {value}" for name, value in {**headers, "Content-Length": "5000000"}.items()]
        connection.sendall("\r\n".join(["POST /dspo/drop HTTP/1.1", *lines, "", ""]).encode() + b"x" * 2_000_000)
        time.sleep(0.5)
    end = time.monotonic() + 10
    while files_below(server.base) != before and time.monotonic() < end:
        time.sleep(0.05)
    assert files_below(server.base) == before


def test_a_file_that_is_too_large_is_refused_before_it_is_sent(server: ComfyServer, page: Page) -> None:
    before = files_below(server.base)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        headers = page.headers(content_type=SEND)
        lines = [f"{name}: {value}" for name, value in {**headers, "Content-Length": str(65 << 20)}.items()]
        connection.sendall("\r\n".join(["POST /dspo/drop HTTP/1.1", *lines, "", ""]).encode())
        assert b" 413 " in connection.recv(200).split(b"\r\n")[0]
    assert files_below(server.base) == before


@pytest.mark.parametrize("locale", ["en", "de", "zh"])
@pytest.mark.browser
def test_in_the_page(locale: str, fresh_server: Callable[..., ComfyServer], tmp_path: Path) -> None:
    """Chosen and collected with the keyboard, voted on; files dropped; both themes, three widths, axe."""
    server = fresh_server()
    prompts = ["a red fox in the snow, morning light, 35mm", "a lighthouse at dusk", "one of a kind"]
    for number in range(30):
        prompt = prompts[0 if number < 20 else 1 if number < 29 else 2]
        put(
            server.base / "output" / "evening",
            f"{number:02}.png",
            picture(number, (96, 96), prompt, seed=number),
            number,
        )
    for number in range(3):
        put(server.base / "input" / "loose", f"{number}.jpg", picture(50 + number, (80, 60), kind="JPEG"))
        put(tmp_path / "drops", f"drop{number}.png", picture(60 + number, (80, 80), "a dropped cat"))
    env = {**os.environ, "URL_": server.url, "LOCALE": locale, "DROPS": str(tmp_path / "drops")}
    done = subprocess.run(
        [node_program(SCRIPT, axe=True), str(SCRIPT)], env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    report = json.loads(done.stdout)
    assert set(report["checks"].values()) == {"ok"} and len(report["checks"]) >= 20
    store = PreferenceStore(server.base / "input" / "evening-taste")
    by_prompt = {group.prompt: 0 for group in store.groups()}
    for group in store.groups():
        by_prompt[group.prompt] += len(group.images)
    assert by_prompt == {prompts[0]: 19, prompts[1]: 9, "a dropped cat": 3, "grey noise": 3}
