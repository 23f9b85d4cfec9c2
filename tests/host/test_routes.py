"""Requests that nobody may make, to our routes on a real ComfyUI: refused, and nothing written."""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from comfy_server import ComfyServer
from pages import Page, Place, ask, files_below, put_run, put_set
from test_confine import HOSTILE

from dspo_train.preferences import PreferenceStore

pytestmark = pytest.mark.comfy


@pytest.fixture
def page(server: ComfyServer) -> Page:
    return Page(server)


POSTS = (
    *("vote", "judge", "undo", "remove", "restore", "import", "export", "rename", "delete", "undelete", "erase"),
    *("stop", "gather", "gather.cancel"),
)
GETS = (
    *("sets", "next", "groups", "about", "image", "history", "taste", "ranked", "result", "result.png"),
    *("card", "runs", "run", "preview", "workflow", "look", "thumbnail", "bin"),
    *("gather", "gather.image", "gather.status"),
)
UPLOADS = ("drop",)  # with files for bodies: test_gather.py
BOTH = {"gather"}  # read by GET and changed by POST; its POST may have a megabyte
KINDS = ("sets", "blind", "runs")

_ABOUT_THE_SENDER = {"origin", "host", "sec_fetch_site"}  # the other headers are asked of POSTs alone

STRANGERS: dict[str, tuple[dict[str, str | None], int]] = {
    "foreign origin": ({"origin": "http://evil.example"}, 403),
    "foreign origin, https": ({"origin": "https://evil.example:8188"}, 403),
    "null origin": ({"origin": "null"}, 403),
    "null origin, same-origin claimed": ({"origin": "null", "sec_fetch_site": "same-origin"}, 403),
    "empty origin": ({"origin": ""}, 403),
    "origin of a file": ({"origin": "file://"}, 403),
    "origin of an extension": ({"origin": "chrome-extension://abcdef"}, 403),
    "another port": ({"origin": "http://127.0.0.1:1"}, 403),
    "user in origin": ({"origin": "http://127.0.0.1@evil.example"}, 403),
    "rebound host": ({"host": "evil.example:8188", "origin": "http://evil.example:8188"}, 403),
    "rebound host without origin": ({"host": "evil.example", "origin": None}, 403),
    "rebound host, port 80": ({"host": "evil.example", "origin": "http://evil.example"}, 403),
    "host that begins as ours": ({"host": "127.0.0.1.evil.example", "origin": None}, 403),
    "host that begins as localhost": ({"host": "localhost.evil.example", "origin": None}, 403),
    "user in host": ({"host": "x@127.0.0.1", "origin": None}, 403),
    "host as a number": ({"host": "2130706433", "origin": None}, 403),
    "empty host": ({"host": "", "origin": None}, 403),
    "cross-site": ({"sec_fetch_site": "cross-site"}, 403),
    "cross-site without origin": ({"sec_fetch_site": "cross-site", "origin": None}, 403),
    "same-site": ({"sec_fetch_site": "same-site"}, 403),
    "no mark": ({"x_dspo": None}, 403),
    "empty mark": ({"x_dspo": ""}, 403),
    "another mark": ({"x_dspo": "2"}, 403),
    "text": ({"content_type": "text/plain"}, 415),
    "text that ends as JSON": ({"content_type": "text/plain; application/json"}, 415),
    "form": ({"content_type": "application/x-www-form-urlencoded"}, 415),
    "multipart": ({"content_type": "multipart/form-data; boundary=x"}, 415),
    "no content type": ({"content_type": None}, 415),
    "JSON in UTF-16": ({"content_type": "application/json; charset=utf-16"}, 415),
    "JSON with padding": ({"content_type": "application/javascript"}, 415),
}

BODIES: dict[str, tuple[bytes, int]] = {
    "nothing": (b"", 400),
    "a list": (b"[]", 400),
    "a text": (b'"vote"', 400),
    "null": (b"null", 400),
    "half an object": (b'{"place": "sets"', 400),
    "two objects": (b"{}{}", 400),
    "no fields": (b"{}", 400),
    "UTF-16": ("{}".encode("utf-16"), 400),
    "not UTF-8": (b'{"place": "\xff"}', 400),
    "a pit of lists": (b"[" * 60_000, 400),
    "a pit of objects": (b'{"a":' * 12_000, 400),
    "NaN": (b'{"seconds": NaN}', 400),
    "a number without end": (b'{"seconds": ' + b"9" * 60_000 + b"}", 400),
    "64 KiB and one": (b" " * (64 * 1024 + 1), 413),
    "two megabytes": (b'{"place": "' + b"x" * 2_000_000 + b'"}', 413),
}

VOTES: dict[str, tuple[dict[str, Any], int]] = {
    "unknown place": ({"place": "temp"}, 400),
    "place as a list": ({"place": ["sets"]}, 400),
    "set as a number": ({"set": 1}, 400),
    "set as an object": ({"set": {"$ne": 1}}, 400),
    "unknown set": ({"set": "no-such-set"}, 404),
    "unknown pair": ({"pair": "g.0123456789abcdef.fedcba9876543210", "winner": "images/0123456789abcdef.png"}, 404),
    "pair without pictures": ({"pair": "g"}, 400),
    "pair as a path": ({"pair": "../../x.0123456789abcdef.fedcba9876543210"}, 400),
    "pair as null": ({"pair": None}, 400),
    "unknown outcome": ({"outcome": "lose"}, 400),
    "outcome as a number": ({"outcome": 1}, 400),
    "a win without a winner": ({"winner": None}, 400),
    "a tie with a winner": ({"outcome": "tie"}, 400),
    "a winner of another pair": ({"winner": "images/0123456789abcdef.png"}, 400),
    "a winner as a path": ({"winner": "images/../../../etc/passwd"}, 400),
    "a winner as a number": ({"winner": 0}, 400),
    "the winner with another ending": ({"winner": "webp"}, 404),
    "no id": ({"id": None}, 400),
    "an empty id": ({"id": ""}, 400),
    "an id of markup": ({"id": "<script>"}, 400),
    "a long id": ({"id": "a" * 65}, 400),
    "an id with a line": ({"id": "a\nb"}, 400),
    "client as a number": ({"client": 5}, 400),
    "negative seconds": ({"seconds": -1}, 400),
    "seconds as a text": ({"seconds": "1"}, 400),
    "seconds as true": ({"seconds": True}, 400),
    "a year of seconds": ({"seconds": 3e7}, 400),
    "relabel as a text": ({"relabel": "yes"}, 400),
    "relabel as null": ({"relabel": None}, 400),
    "a field too many": ({"source": "import"}, 400),
    "a prototype": ({"__proto__": {}}, 400),
}

QUERIES: dict[str, tuple[str, dict[str, Any], int]] = {
    "next of nothing": ("next", {}, 400),
    "next without a set": ("next", {"place": "sets"}, 400),
    "next of an unknown place": ("next", {"place": "output", "set": "x"}, 400),
    "next of an unknown set": ("next", {"place": "sets", "set": "no-such-set"}, 404),
    "next of an unknown test": ("next", {"place": "blind", "set": "no-such-test"}, 404),
    "next of the whole folder": ("next", {"place": "sets", "set": "."}, 400),
    "next of a folder of pairs": ("next", {"place": "sets", "set": "shapes-large-and-dark"}, 409),
    "next with a bad count": ("next", {"count": "-1"}, 400),
    "next with a count of letters": ("next", {"count": "many"}, 400),
    "next with bad pairs to skip": ("next", {"skip": "a.b,b"}, 400),
    "next with a question of markup": ("next", {"skip": "<b>"}, 400),
    "next with a prompt of a book": ("next", {"find": "x" * 401}, 400),
    "groups of an unknown set": ("groups", {"place": "sets", "set": "no-such-set"}, 404),
    "groups of a blind test": ("groups", {"place": "blind", "set": "target-01"}, 409),
    "the seeds of a group as a path": ("about", {"group": "../x"}, 400),
    "a picture outside": ("image", {"image": "../preferences.jsonl"}, 400),
    "the log as a picture": ("image", {"image": "preferences.jsonl"}, 400),
    "a picture by its whole path": ("image", {"image": "/etc/passwd"}, 400),
    "a picture up and down": ("image", {"image": "images/../images/0123456789abcdef.png"}, 400),
    "a picture that is not there": ("image", {"image": "images/0123456789abcdef.png"}, 404),
    "a picture of no kind": ("image", {"image": "images/0123456789abcdef.svg"}, 400),
    "a reduced one that is not there": ("image", {"image": "images/0123456789abcdef.png", "size": "64"}, 404),
    "a picture of a size in letters": ("image", {"image": "images/0123456789abcdef.png", "size": "big"}, 400),
    "a picture of other folders": (
        "image",
        {"set": "shapes-large-and-dark", "image": "images/0123456789abcdef.png"},
        409,
    ),
    "a look at an unknown set": ("look", {"set": "no-such-set"}, 404),
    "a thumbnail of nothing": ("thumbnail", {"set": "shapes-large-and-dark", "index": "9", "size": "64"}, 404),
    "a thumbnail of an unknown place in the list": ("thumbnail", {"index": "-1", "size": "64"}, 400),
    "history from before the start": ("history", {"offset": "-5"}, 400),
    "the result of a set": ("result", {}, 400),
    "the result of nothing": ("result", {"place": "blind", "set": "no-such-test"}, 404),
    "the result's picture in red": ("result.png", {"place": "blind", "set": "x", "theme": "red"}, 400),
}


@pytest.fixture(scope="module")
def target(server: ComfyServer) -> Place:
    """One set that all attacks are about; none may change it."""
    put_set(server.base / "input" / "target")
    put_run(server.base, "target-01")
    return {"place": "sets", "set": "target"}


@pytest.fixture
def untouched(server: ComfyServer, page: Page, target: Place) -> Iterator[None]:
    """Nothing was written, and the server still answers."""
    page.get("next", **target)  # opens the set, which makes its lock file
    before = files_below(server.base)
    yield
    assert files_below(server.base) == before
    assert page.get("next", **target).status == 200


@pytest.fixture
def honest(page: Page, target: Place) -> dict[str, dict[str, Any]]:
    """A request of each changing route that would succeed."""
    (question,) = ask(page, target)
    return {
        "vote": {
            **target,
            "pair": question["pair"],
            "outcome": "win",
            "winner": question["left"],
            "id": uuid.uuid4().hex,
            "client": "tab",
        },
        "judge": {
            **target,
            "group": question["group"],
            "images": [question["left"], question["right"]],
            "best": [question["left"]],
            "id": uuid.uuid4().hex,
            "client": "tab",
        },
        "undo": {**target, "client": "tab", "id": uuid.uuid4().hex},
        "remove": {**target, "target": question["left"]},
        "restore": {**target, "target": question["left"]},
        "import": {"set": "shapes-large-and-dark", "into": "target"},
        "export": {**target, "layout": "csv"},
        "rename": {"kind": "sets", "name": "target", "to": "renamed"},
        "delete": {"kind": "sets", "name": "target"},
        "undelete": {"kind": "sets", "entry": "20260131-120000-target"},
        "erase": {"kind": "sets", "entry": "20260131-120000-target"},
        "stop": {"run": "target-01"},
        "gather": {"source": "output", "set": "target", "everything": True},
        "gather.cancel": {"job": "some-job"},
    }


def test_the_tables_are_long_enough() -> None:
    assert len(STRANGERS) * len(POSTS) + len(BODIES) * len(POSTS) + len(VOTES) + len(QUERIES) >= 300
    assert len(STRANGERS) + len(BODIES) + len(VOTES) + len(QUERIES) >= 90


@pytest.mark.parametrize("attack", STRANGERS)
@pytest.mark.usefixtures("untouched")
def test_strangers_change_nothing(attack: str, page: Page, honest: dict[str, dict[str, Any]]) -> None:
    changes, expected = STRANGERS[attack]
    for prefix in ("/api/dspo", "/dspo"):
        for route, fields in honest.items():
            answer = page.send("POST", f"{prefix}/{route}", page.headers(**changes), json.dumps(fields).encode())
            assert answer.status == expected, route
            assert "evil" not in answer.body.decode()


@pytest.mark.parametrize("attack", [name for name, (changes, _) in STRANGERS.items() if _ABOUT_THE_SENDER & {*changes}])
@pytest.mark.usefixtures("untouched")
def test_strangers_read_nothing(attack: str, page: Page, target: Place) -> None:
    changes, expected = STRANGERS[attack]
    (question,) = ask(page, target)
    fields = {
        **target,
        "image": question["left"],
        "run": "target-01",
        "file": "step-000050.png",
        "index": 0,
        "size": 64,
    }
    for route in GETS:
        for prefix in ("/api/dspo", "/dspo"):
            answer = page.send("GET", f"{prefix}/{route}?{urlencode(fields)}", page.headers(**changes))
            assert answer.status == expected, route
            assert len(answer.body) < 300 and not answer.kind.startswith("image/")  # the core refuses some itself


def test_every_route_is_in_the_tables() -> None:
    text = (Path(__file__).resolve().parents[2] / "nodes" / "routes" / "table.py").read_text(encoding="utf-8")
    assert sorted(re.findall(r'"/dspo/([a-z.]+)"', text)) == sorted([*GETS, *POSTS, *UPLOADS])


@pytest.mark.parametrize("name", ["Origin", "Host", "X-DSPO", "Content-Type", "Sec-Fetch-Site"])
@pytest.mark.usefixtures("untouched")
def test_a_header_sent_twice_is_refused(name: str, page: Page, honest: dict[str, dict[str, Any]]) -> None:
    headers = [*page.headers().items(), (name, page.headers()[name])]
    for route, fields in honest.items():
        answer = page.send("POST", f"/dspo/{route}", headers, json.dumps(fields).encode())
        assert answer.status in (400, 403), route


@pytest.mark.parametrize("attack", BODIES)
@pytest.mark.usefixtures("untouched")
def test_bodies_that_are_no_request(attack: str, page: Page) -> None:
    body, expected = BODIES[attack]
    for route in POSTS:
        wanted = 400 if route in BOTH and attack == "64 KiB and one" else expected
        try:
            answer = page.send("POST", f"/dspo/{route}", page.headers(), body)
        except (BrokenPipeError, ConnectionResetError):
            assert expected == 413, route  # refused before it was sent to the end
            continue
        assert answer.status == wanted, route
        assert set(answer.json) == {"error"}


@pytest.mark.parametrize("attack", VOTES)
@pytest.mark.usefixtures("untouched")
def test_votes_that_make_no_sense(attack: str, page: Page, honest: dict[str, dict[str, Any]]) -> None:
    changes, expected = VOTES[attack]
    fields = {**honest["vote"], **changes}
    if fields["winner"] == "webp":
        fields["winner"] = honest["vote"]["winner"].replace(".png", ".webp")
    answer = page.post("vote", **fields)
    assert answer.status == expected
    assert set(answer.json) == {"error"}


@pytest.mark.parametrize("attack", QUERIES)
@pytest.mark.usefixtures("untouched")
def test_questions_that_make_no_sense(attack: str, server: ComfyServer, page: Page, target: Place) -> None:
    path, fields, expected = QUERIES[attack]
    whole = path == "next" and not fields.keys() - {"place"}  # what is missing shall be missing
    answer = page.get(path, **(fields if whole else {**target, **fields}))
    assert answer.status == expected
    assert str(server.base) not in answer.body.decode()


@pytest.mark.parametrize("route", [route for route in POSTS if route not in BOTH])
@pytest.mark.usefixtures("untouched")
def test_other_methods_are_refused(route: str, page: Page, honest: dict[str, dict[str, Any]]) -> None:
    body = json.dumps(honest[route]).encode()
    for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH"):
        answer = page.send(method, f"/dspo/{route}", page.headers(), b"" if method == "GET" else body)
        assert answer.status in (404, 405), method


@pytest.mark.usefixtures("untouched")
def test_names_that_lead_elsewhere(server: ComfyServer, page: Page, target: Place) -> None:
    """Every name field of every route, with every hostile name."""
    picture = {"image": "images/0123456789abcdef.png"}
    gets: list[tuple[str, str, dict[str, str]]] = [
        ("next", "set", {"place": "sets"}),
        ("next", "set", {"place": "blind"}),
        ("image", "set", {"place": "sets", **picture}),
        ("image", "set", {"place": "blind", **picture}),
        ("image", "image", target),
        ("history", "set", {"place": "sets"}),
        ("result", "set", {"place": "blind"}),
        ("result.png", "set", {"place": "blind"}),
        ("run", "run", {}),
        ("card", "run", {}),
        ("workflow", "run", {}),
        ("preview", "run", {"file": "step-000050.png"}),
        ("preview", "file", {"run": "target-01"}),
        ("look", "set", {}),
        ("thumbnail", "set", {"index": "0", "size": "64"}),
    ]
    posts: list[tuple[str, str, dict[str, str]]] = [
        ("remove", "set", {"place": "sets", "target": "x"}),
        ("remove", "target", target),
        ("restore", "set", {"place": "blind", "target": "x"}),
        ("restore", "target", target),
        ("undo", "set", {"place": "sets", "client": "c", "id": "i"}),
        ("import", "set", {"into": "target"}),
        ("import", "into", {"set": "shapes-large-and-dark"}),
        ("export", "set", {"place": "sets", "layout": "csv"}),
        ("export", "layout", target),
        *(("delete", "name", {"kind": kind}) for kind in KINDS),
        *(("rename", "name", {"kind": kind, "to": "renamed"}) for kind in KINDS),
        *(("undelete", "entry", {"kind": kind}) for kind in KINDS),
        *(("erase", "entry", {"kind": kind}) for kind in KINDS),
        ("rename", "to", {"kind": "sets", "name": "target"}),
        ("stop", "run", {}),
    ]
    for name in HOSTILE:
        for path, field, fields in gets:
            if len(name) < 400:  # longer ones make the line longer than a server takes
                answer = page.get(path, **{**fields, field: name})
                assert answer.status in (400, 404), (path, field, name)
        for path, field, fields in posts:
            answer = page.post(path, **{**fields, field: name})
            assert answer.status in (400, 404), (path, field, name)
            assert str(server.base) not in answer.body.decode()


@pytest.mark.usefixtures("untouched")
def test_links_that_lead_out_are_not_followed(server: ComfyServer, page: Page, tmp_path: Path) -> None:
    outside = put_set(tmp_path / "outside")
    inside = PreferenceStore(server.base / "input" / "linked")
    try:
        (server.base / "input" / "link").symlink_to(outside.folder, target_is_directory=True)
        (inside.folder / "images").mkdir()
        name = outside.groups()[0].images[0].image
        (inside.folder / name).symlink_to(outside.folder / name)
    except OSError:
        pytest.skip("this system does not let us make links")
    try:
        assert page.get("next", place="sets", set="link").status == 400
        for size in ({}, {"size": 64}):
            assert page.get("image", place="sets", set="linked", image=name, **size).status == 400
    finally:
        (server.base / "input" / "link").unlink()
        shutil.rmtree(inside.folder)


def test_the_honest_request_would_have_been_accepted(page: Page, honest: dict[str, dict[str, Any]]) -> None:
    """Else the tables above would prove nothing."""
    for route in ("vote", "export", "undo", "remove", "restore", "import"):
        answer = page.post(route, **honest[route])
        assert answer.status == 200, (route, answer.body)
