"""The taste behind a set, over our routes and in a real page: what guides the questions, and what is said of it."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsers import node_program, report_of
from comfy_server import PACK, ComfyServer, Core, prepare, running
from pages import Page, ask, click, put_set
from PIL import Image

from dspo_train.preferences import NewImage, PreferenceStore
from dspo_train.taste.kept import keep_features

pytestmark = pytest.mark.comfy

SCRIPT = PACK / "tests" / "web" / "browser" / "taste.mjs"
LONG = 400  # seconds
PLACES = ("lighthouse", "harbour", "castle", "mill", "bridge", "orchard", "glacier", "desert", "reef")
LIGHTS = ("at dawn", "at noon", "at dusk")


def picture(seed: int, warmth: float, width: int = 320, height: int = 400) -> bytes:
    """Hills under a sky that is blue at warmth 0 and orange at 1."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / height
    cold, warm = np.array([70, 110, 190]), np.array([250, 170, 90])
    sky = cold + (warm - cold) * warmth
    pixels = sky * (0.65 + 0.45 * y[..., None])
    sun = (x - draw.uniform(0.2, 0.6)) ** 2 + (y - draw.uniform(0.15, 0.45)) ** 2 < draw.uniform(0.004, 0.02)
    pixels[sun] = (255, 240, 200)
    for n in range(3):
        ridge = 0.6 + 0.13 * n + 0.05 * np.sin(draw.uniform(5, 12) * x + draw.uniform(0, 6))
        pixels[y > ridge] = sky * (0.5 - 0.14 * n)
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def warm_set(folder: Path, groups: int, voted: int, each: int = 4) -> dict[str, float]:
    """A set with features of which one is the warmth, voted on in part by who prefers warm images; their warmth."""
    draw, store, warmths = np.random.default_rng(groups), PreferenceStore(folder), {}
    prompts = [f"a {place} {light}, painted in oil" for light in LIGHTS for place in PLACES][:groups]
    for number, prompt in enumerate(prompts):
        warmth = draw.uniform(0, 1, each)
        shots = [NewImage(picture(100 * number + n, warmth[n]), n) for n in range(each)]
        warmths |= dict(zip(store.add_group(prompt, shots).names, warmth.tolist(), strict=True))
    keep_features(folder, "tiny", {it: np.array([warmths[it], *draw.normal(size=6)], np.float32) for it in warmths})
    for group in store.groups()[:voted]:
        store.judge(group.id, [max(group.names, key=warmths.__getitem__)])
    return warmths


@pytest.fixture(scope="module")
def own(core: Core, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    base = tmp_path_factory.mktemp("taste")
    prepare(base)
    sets = base / "input"
    warm_set(sets / "known", 24, 16)
    warm_set(sets / "few", 4, 2, each=3)
    warm_set(sets / "asked", 20, 10)
    put_set(sets / "plain", groups=3)
    put_set(base / "output" / "dspo" / "blind" / "test-01", groups=4, arms=True)
    with running(core, base) as started:
        yield started


@pytest.fixture
def page(own: ComfyServer) -> Page:
    return Page(own)


def set_named(page: Page, name: str) -> dict[str, Any]:
    return next(row for row in page.get("sets").json["sets"] if row["set"] == name)


def test_a_set_without_features_says_and_guides_nothing(page: Page) -> None:
    place = {"place": "sets", "set": "plain"}
    assert page.get("taste", set="plain").json == {"taste": None}
    assert page.get("ranked", set="plain").json == {"images": [], "total": 0, "unseen": 6, "taste": None}
    (question,) = ask(page, place)
    click(page, place, question)
    assert "taste" not in set_named(page, "plain")
    page.post("undo", **place, client=page.client, id="undo-plain")


def test_what_is_told_covers_every_vote(own: ComfyServer, page: Page) -> None:
    with own.listen() as events:
        taste = page.get("taste", set="asked").json["taste"]
        events.until(lambda e: [it for it in e.of("dspo.taste") if it["set"] == "asked"], 10)
    assert taste["clicks"] == 30 and taste["enough"] == 20  # ten ballots of three pairs each
    assert 0.3 < taste["low"] <= taste["accuracy"] <= taste["high"] <= 1
    assert set_named(page, "asked")["taste"] == taste
    warmth = {it["image"]: it["share"] for it in page.get("ranked", set="asked", limit=500).json["images"]}
    assert len(warmth) == 80 and [*warmth.values()] == sorted(warmth.values(), reverse=True)


def test_pages_of_the_order_fit_together_and_leave_out_what_is_removed(page: Page) -> None:
    everything = page.get("ranked", set="asked", limit=500).json
    pages = [page.get("ranked", set="asked", offset=at, limit=30).json["images"] for at in (0, 30, 60)]
    assert [it for each in pages for it in each] == everything["images"]
    assert {*everything["images"][0]} == {"image", "prompt", "share"}
    best = everything["images"][0]["image"]
    page.post("remove", place="sets", set="asked", target=best)
    left = page.get("ranked", set="asked", limit=500).json
    assert left["total"] == 79 and best not in {it["image"] for it in left["images"]}
    page.post("restore", place="sets", set="asked", target=best)


def test_the_questions_are_led_and_say_so(own: ComfyServer, page: Page) -> None:
    place = {"place": "sets", "set": "asked"}
    page.get("taste", set="asked")
    for _ in range(8):
        (question,) = ask(page, place, client=page.client)
        assert click(page, place, question).json["status"] == "recorded"
    text = (own.base / "input" / "asked" / "preferences.jsonl").read_text(encoding="utf-8")
    votes = [line for line in map(json.loads, text.splitlines()) if line["kind"] == "vote" and not line.get("ballot")]
    assert [bool(vote.get("guided")) for vote in votes].count(False) == 2


def test_a_fit_is_made_beside_the_voting(own: ComfyServer, page: Page) -> None:
    place = {"place": "sets", "set": "asked"}
    before = page.get("taste", set="asked").json["taste"]["clicks"]
    with own.listen() as events:
        for _ in range(6):
            click(page, place, ask(page, place, client=page.client)[0])
        started = time.monotonic()
        ask(page, place, client=page.client)
        assert time.monotonic() - started < 1
        (heard,) = events.until(lambda e: [it for it in e.of("dspo.taste") if it["set"] == "asked"][:1], 20)
    assert before + 5 <= heard["taste"]["clicks"] <= before + 6


def test_a_blind_test_and_what_is_not_there_are_refused(page: Page) -> None:
    assert page.get("taste", set="test-01").status == 404
    assert page.get("ranked", set="../output").status == 400
    assert page.get("ranked", set="asked", limit="many").status == 400


@pytest.fixture(scope="module")
def seen(own: ComfyServer) -> dict[str, Any]:
    """What taste.mjs did and saw."""
    assert node_program(SCRIPT, axe=True)
    return report_of(SCRIPT, LONG, URL_=own.url)


@pytest.mark.browser
def test_every_part_was_played_without_an_error(seen: dict[str, Any]) -> None:
    assert {name: said for name, said in seen.items() if name.endswith("failed")} == {}
    assert seen["problems"] == []
    assert seen["panelAxe"] == seen["endAxe"] == seen["ranked"]["axe"] == []


@pytest.mark.browser
def test_the_panel_says_how_well_the_taste_is_known(seen: dict[str, Any]) -> None:
    brief = r"taste known to \d+% \(\d+\u2013\u2060\d+%\)"
    assert re.fullmatch(brief, seen["card"]) and re.fullmatch(brief, seen["counter"])
    assert seen["cardTitle"].startswith("We know your taste to ")
    assert re.match(r"We know your taste to \d+% \(\d+ to \d+%\)", seen["end"])
    assert seen["few"]["said"].startswith("Too few clicks to know your taste: ") and seen["few"]["known"] == 0


@pytest.mark.browser
def test_a_set_without_features_shows_nothing_of_it(seen: dict[str, Any]) -> None:
    assert seen["plain"] == {"known": 0, "line": 0, "card": 0}


@pytest.mark.browser
def test_the_images_are_shown_by_taste(own: ComfyServer, seen: dict[str, Any]) -> None:
    ranked = seen["ranked"]
    served = Page(own).get("ranked", set="known", limit=60).json
    assert ranked["images"] == [it["image"] for it in served["images"]]
    assert (ranked["all"], ranked["more"], seen["menu"]) == (96, False, 60)
    assert ranked["said"].startswith("We know your taste to ")
    assert re.fullmatch(r"preferred to \d+% of the others", ranked["large"])
