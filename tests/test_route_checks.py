"""Who may change something through our routes, and what a request may say: the checks without a server."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from test_confine import HARMLESS, HOSTILE

PACK = "the_pack"  # as ComfyUI loads it: one package around both halves, under a name of its own


@pytest.fixture(scope="module")
def checks() -> Any:
    """The names of the three modules that check a request."""
    if PACK not in sys.modules:
        package = ModuleType(PACK)
        package.__path__ = [str(Path(__file__).resolve().parents[1])]
        sys.modules[PACK] = package
    modules = [importlib.import_module(f"{PACK}.nodes.routes.{name}") for name in ("access", "fields", "refusals")]
    return SimpleNamespace(**{name: value for module in modules for name, value in vars(module).items()})


OWN = {
    "Host": "127.0.0.1:8188",
    "Origin": "http://127.0.0.1:8188",
    "Sec-Fetch-Site": "same-origin",
    "Content-Type": "application/json",
    "X-DSPO": "1",
}


def status(checks, headers, listening=()) -> int:
    pairs = list(headers.items()) if isinstance(headers, dict) else headers
    try:
        checks.check_change(pairs, listening)
    except checks.RefusedError as refusal:
        return refusal.status
    return 200


def changed(**changes: str | None) -> dict[str, str]:
    names = {name: name.replace("_", "-") for name in changes}
    values = {**OWN, **{names[name].title().replace("Dspo", "DSPO"): value for name, value in changes.items()}}
    return {name: value for name, value in values.items() if value is not None}


@pytest.mark.parametrize(
    "headers",
    [
        changed(),
        changed(origin=None, sec_fetch_site=None),
        changed(sec_fetch_site="none"),
        changed(content_type='application/json; charset="UTF-8"'),
        changed(host="localhost:8188", origin="http://localhost:8188"),
        changed(host="LOCALHOST:8188", origin="http://localhost:8188"),
        changed(host="192.168.1.20:8188", origin="http://192.168.1.20:8188"),
        changed(host="[::1]:8188", origin="http://[::1]:8188"),
        changed(host="127.0.0.1", origin="http://127.0.0.1:80"),
        changed(host="127.0.0.1:443", origin="https://127.0.0.1"),
    ],
    ids=lambda headers: f"{headers['Host']} {headers.get('Origin')}",
)
def test_our_own_page_is_let_in(headers, checks):
    assert status(checks, headers) == 200


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (changed(origin="null"), 403),
        (changed(origin=""), 403),
        (changed(origin="http://evil.example"), 403),
        (changed(origin="http://127.0.0.1:8189"), 403),
        (changed(origin="http://127.0.0.1"), 403),
        (changed(origin="http://127.0.0.1:8188.evil.example"), 403),
        (changed(origin="http://127.0.0.1:8188@evil.example"), 403),
        (changed(origin="http://127.0.0.1:8188/"), 403),
        (changed(origin="ftp://127.0.0.1:8188"), 403),
        (changed(origin="file://"), 403),
        (changed(host=None), 403),
        (changed(host=""), 403),
        (changed(host="evil.example", origin="http://evil.example"), 403),
        (changed(host="evil.example:8188", origin="http://evil.example:8188"), 403),
        (changed(host="127.0.0.1.evil.example:8188", origin=None), 403),
        (changed(host="localhost.evil.example", origin=None), 403),
        (changed(host="evil.example@127.0.0.1:8188", origin=None), 403),
        (changed(host="127.0.0.1:8188, evil.example", origin=None), 403),
        (changed(host="2130706433:8188", origin=None), 403),
        (changed(host="0x7f.1", origin=None), 403),
        (changed(sec_fetch_site="cross-site"), 403),
        (changed(sec_fetch_site="same-site"), 403),
        (changed(sec_fetch_site=""), 403),
        (changed(x_dspo=None), 403),
        (changed(x_dspo="0"), 403),
        (changed(x_dspo="true"), 403),
        (changed(content_type=None), 415),
        (changed(content_type="text/plain"), 415),
        (changed(content_type="text/plain; application/json"), 415),
        (changed(content_type="application/x-www-form-urlencoded"), 415),
        (changed(content_type="application/json; charset=utf-7"), 415),
        (changed(content_type="application/jsonp"), 415),
        ([*OWN.items(), ("origin", "http://127.0.0.1:8188")], 403),
        ([*OWN.items(), ("HOST", "evil.example")], 403),
        ([*OWN.items(), ("X-DSPO", "1")], 403),
    ],
)
def test_others_are_kept_out(headers, expected, checks):
    assert status(checks, headers) == expected


def test_a_name_that_the_server_listens_on_is_its_own(checks):
    headers = changed(host="studio.lan:8188", origin="http://studio.lan:8188")
    assert status(checks, headers) == 403
    assert status(checks, headers, {"studio.lan"}) == 200


@pytest.mark.parametrize(
    ("host", "let_in"),
    [
        ("proxy.lan", True),
        ("PROXY.lan:443", True),
        ("example.org", True),
        ("a.b.example.org:8188", True),
        ("evil.proxy.lan", False),
        ("proxy.lan.evil.example", False),
        ("evilexample.org", False),
        ("example.org.", False),
        ("evil.example", False),
    ],
)
def test_names_that_the_administrator_allows(host, let_in, checks):
    known = checks.names_of(" Proxy.LAN ,.example.org, ., ,")
    assert known == {"proxy.lan", ".example.org"}
    assert status(checks, changed(host=host, origin=None), known) == (200 if let_in else 403)


def test_the_refusal_of_a_name_says_where_to_allow_it(checks):
    with pytest.raises(checks.RefusedError, match="DSPO_ALLOWED_HOSTS"):
        checks.check_source(checks.Headers([("Host", "proxy.lan")]), ())


def test_a_reader_needs_no_mark_but_the_right_name(checks):
    def read(*headers: tuple[str, str]) -> int:
        try:
            checks.check_source(checks.Headers(headers), ())
        except checks.RefusedError as refusal:
            return refusal.status
        return 200

    own = ("Host", "127.0.0.1:8188")
    assert read(own) == read(own, ("Sec-Fetch-Site", "none")) == read(own, ("Origin", "http://127.0.0.1:8188")) == 200
    assert read() == read(("Host", "evil.example")) == read(own, ("Origin", "null")) == 403
    assert read(own, ("Sec-Fetch-Site", "cross-site")) == read(own, ("Host", "evil.example")) == 403


def refusal(checks, call) -> str:
    with pytest.raises(checks.RefusedError) as caught:
        call()
    assert caught.value.status == 400
    return caught.value.sentence


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"a"', b"\xff{}", b'{"n": NaN}', b'{"n": Infinity}', b"[" * 50_000, b'{"n": 1', b"1"],
    ids=lambda body: ascii(body[:12]),
)
def test_a_body_must_be_a_json_object(body, checks):
    refusal(checks, lambda: checks.read_body(body, {}))


def test_fields_are_known_present_and_of_their_kind(checks):
    fields = {"a": checks.Field(checks.identifier), "b": checks.optional(checks.yes_or_no, False)}
    assert checks.read_body(b'{"a": "x"}', fields) == {"a": "x", "b": False}
    assert checks.read_body(b'{"a": "x", "b": true}', fields) == {"a": "x", "b": True}
    for body in (
        b"{}",
        b'{"a": "x", "c": 1}',
        b'{"a": 1}',
        b'{"a": "x", "b": 1}',
        b'{"a": "x", "b": null}',
        b'{"a": []}',
    ):
        refusal(checks, lambda body=body: checks.read_body(body, fields))


def test_a_refusal_repeats_nothing_of_the_request(checks):
    fields = {"set": checks.Field(checks.name)}
    for body in ({"set": "<b>evil</b>"}, {"<b>evil</b>": 1}, {"set": {"evil": 1}}):
        sentence = refusal(checks, lambda body=body: checks.read_body(json.dumps(body).encode(), fields))
        assert "evil" not in sentence and "<" not in sentence


def test_a_field_that_comes_twice_is_refused(checks):
    fields = {"set": checks.Field(checks.name)}
    assert checks.read_query([("set", "a/b"), ("votes", "7")], fields) == {"set": "a/b"}
    refusal(checks, lambda: checks.read_query([("set", "a"), ("set", "b")], fields))


@pytest.mark.parametrize("kind", ["name", "image", "preview", "pair"])
def test_hostile_names(kind, checks):
    for value in HOSTILE:
        try:
            accepted = getattr(checks, kind)(value)
        except ValueError:
            continue
        pytest.fail(f"{value!a} is taken for {accepted!r}")


def test_harmless_names(checks):
    assert [checks.name(value) for value in HARMLESS] == [value.replace("\\", "/") for value in HARMLESS]


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("image", ["images/0123456789abcdef.png"], ["images/0123456789ABCDEF.png", "0123456789abcdef.png", None, 3]),
        ("image", ["images/0123456789abcdef.webp"], ["images/0123456789abcdef.svg", "images/0123456789abcdef.png\n"]),
        ("identifier", ["a" * 64, "A-b_9"], ["", "a" * 65, "a b", "ä", 1, None, ["a"]]),
        ("pair", ["g.0123456789abcdef.fedcba9876543210"], ["g.0123456789abcdef", "g.x.y", "../g.0.0"]),
        ("preview", ["step-000050.png"], ["step-50.png", "../step-000050.png", "step-000050.png/", "step-000050.jpg"]),
        ("duration", [0, 1.5, 1e6], [-1, 1e7, True, "1", float("nan"), 10**400]),
        ("yes_or_no", [True, False], [0, 1, "true", None]),
        ("place", ["sets", "blind"], ["", "Sets", None, ["sets"], {}]),
    ],
)
def test_kinds_of_values(kind, good, bad, checks):
    read = getattr(checks, kind)
    for value in good:
        assert read(value) == value
    for value in bad:
        with pytest.raises((ValueError, TypeError)):
            read(value)


def test_numbers_of_a_query_are_kept_within_their_limits(checks):
    read = checks.digits(1, 64)
    assert [read(text) for text in ("0", "7", "999")] == [1, 7, 64]
    for text in ("", "-1", "1.5", "a", "1e3", "٣", "9" * 40, 5):
        with pytest.raises(ValueError):
            read(text)


def test_questions_of_a_query(checks):
    one, two = (f"g.0123456789abcdef.{end * 16}" for end in "ab")
    assert checks.questions("") == frozenset()
    assert checks.questions(f"{one},{two},{one}") == {one, two}
    with pytest.raises(ValueError):
        checks.questions(f"{one},")


def failure(kind: str, cause: Exception | None, checks: Any) -> Any:
    error = getattr(importlib.import_module(f"{PACK}.dspo_train.exceptions"), kind)("/home/me/set: is gone")
    error.__cause__ = cause
    return checks.refusal_of(error)


@pytest.mark.parametrize(
    ("kind", "cause", "expected"),
    [
        ("ConfigError", None, 400),
        ("DatasetError", None, 404),
        ("DatasetError", FileNotFoundError(2, "x"), 404),
        ("DatasetError", TimeoutError("locked"), 503),
        ("DatasetError", PermissionError(13, "x"), 503),
        ("RunError", None, 500),
        ("RunError", OSError(28, "full"), 503),
    ],
)
def test_what_a_page_is_told_of_an_error(kind, cause, expected, checks):
    """A vote that met a locked file may be sent again; one on a pair that never was may not."""
    found = failure(kind, cause, checks)
    assert found.status == expected
    assert "/home" not in found.sentence


def test_images_and_pages_are_short_lists_of_names(checks):
    image, two = "images/0123456789abcdef.png", ["a", "b-2"]
    assert checks.images([image]) == [image] and checks.images([]) == []
    assert checks.clients(two) == two
    for bad in (image, None, [image.upper()], ["../x"], [image] * 65, [[image]]):
        with pytest.raises(ValueError):
            checks.images(bad)
    with pytest.raises(ValueError):
        checks.clients(["a"] * 101)


def test_a_group_is_a_question_too(checks):
    pair = f"g.{'0' * 16}.{'1' * 16}"
    assert checks.questions(f"g,{pair}") == {"g", pair}
    for bad in ("a b", "g.0", "x" * 65):
        with pytest.raises(ValueError):
            checks.questions(bad)
    assert checks.sought("Red dog") == "Red dog"
    with pytest.raises(ValueError):
        checks.sought("x" * 401)
