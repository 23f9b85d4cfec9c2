"""The voting dialog in a real page: all images of a prompt at once, two side by side, and the end."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsers import node_program, report_of
from comfy_server import PACK, ComfyServer, Core, prepare, running
from pages import put_set
from PIL import Image

from dspo_train.preferences import NewImage, PreferenceStore

pytestmark = [pytest.mark.comfy, pytest.mark.browser]

SCRIPT = PACK / "tests" / "web" / "browser" / "ballots.mjs"
LONG = 600  # seconds
LONG_PROMPT = "a portrait of an old fisherman, " * 40


def picture(seed: int, width: int = 512, height: int = 640) -> bytes:
    """A sky, a sun and hills, of the seed's colours: something to look at on a screenshot."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / height
    top, low, hill = draw.integers(40, 255, (3, 3))
    pixels = top + (low - top) * y[..., None]
    sun = (x - draw.uniform(0.2, 0.6)) ** 2 + (y - draw.uniform(0.15, 0.45)) ** 2 < draw.uniform(0.004, 0.02)
    pixels[sun] = (255, 236, 170)
    for n in range(3):
        ridge = 0.6 + 0.13 * n + 0.06 * np.sin(draw.uniform(5, 12) * x + draw.uniform(0, 6))
        pixels[y > ridge] = hill * (0.75 - 0.2 * n)
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, format="JPEG", quality=88)
    return buffer.getvalue()


def landscapes(folder: Path, prompts: list[str], count: int) -> PreferenceStore:
    store, settings = PreferenceStore(folder), {"steps": 20, "cfg": 5.5, "sampler_name": "euler"}
    for number, prompt in enumerate(prompts):
        shots = [NewImage(picture(100 * number + n), 100 * number + n) for n in range(count)]
        store.add_group(prompt, shots, settings=settings)
    return store


def nearly_done(folder: Path) -> None:
    """Fourteen groups of four: one open, one tied, one skipped, one of bad images, the others with a best one."""
    store = landscapes(folder, [f"a valley at noon, number {n}" for n in range(14)], 4)
    for number, group in enumerate(store.groups()[1:]):
        choice: dict[str, Any] = {0: {}, 1: {"skip": True}, 2: {"bad": group.names}}.get(
            number, {"best": group.names[:1]}
        )
        store.judge(group.id, **choice)


@pytest.fixture(scope="module")
def own(core: Core, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """A server for the page alone, with sets to vote on."""
    assert node_program(SCRIPT, axe=True)
    base = tmp_path_factory.mktemp("ballots")
    prepare(base)
    sets = base / "input"
    landscapes(sets / "many", [f"a valley at dawn, number {n}" for n in range(24)], 4)
    for theme in ("dark", "light"):
        nearly_done(sets / f"ends-{theme}")
    put_set(sets / "marks", groups=9, pictures=4)
    put_set(sets / "pairs", groups=6)
    put_set(sets / "speed", groups=14, pictures=4)
    landscapes(sets / "prompts", ["short", LONG_PROMPT, "middling " * 12], 2)
    places = ["lighthouse at dusk", "harbour", "castle", "mill", "bridge", "orchard", "glacier", "desert", "reef"]
    landscapes(sets / "looks", [f"a {name}, painted in oil, soft light" for name in places], 6)
    put_set(base / "output" / "dspo" / "blind" / "taste-01", groups=4, arms=True)
    with running(core, base) as started:
        yield started


@pytest.fixture(scope="module")
def seen(own: ComfyServer) -> dict[str, Any]:
    """What ballots.mjs did and saw."""
    return report_of(SCRIPT, LONG, URL_=own.url)


def votes_of(own: ComfyServer, name: str) -> list[dict[str, Any]]:
    text = (own.base / "input" / name / "preferences.jsonl").read_text(encoding="utf-8")
    return [line for line in map(json.loads, text.splitlines()) if line["kind"] == "vote"]


def test_every_part_was_played_without_an_error(seen: dict[str, Any]) -> None:
    assert {name: said for name, said in seen.items() if name.endswith("failed")} == {}
    assert seen["problems"] == []


def test_24_groups_of_four_are_24_clicks(own: ComfyServer, seen: dict[str, Any]) -> None:
    many = seen["many"]
    assert many["clicks"] == {"open": 1, "votes": 24}
    counts = many["progress"]
    assert (counts["groups_answered"], counts["groups_total"], counts["wins"], counts["open"]) == (24, 24, 72, 0)
    assert (many["undone"]["groups_answered"], many["undone"]["wins"]) == (23, 69)
    votes = votes_of(own, "many")
    ballots = Counter(vote["ballot"] for vote in votes if vote.get("ballot"))
    assert set(ballots.values()) == {3} and len(ballots) == 25  # one was taken back and given again


def test_the_end_says_what_there_is_and_what_comes_next(seen: dict[str, Any]) -> None:
    many = seen["many"]
    assert "All prompts are judged" in many["end"] and "72 pairs to learn from." in many["end"]
    assert "1 ties" not in many["end"] and many["strip"] == 12
    assert [name.strip() for name in many["steps"]] == ["Undo", "Train a LoRA", "Close"]
    assert many["stepped"] == ["sets", "many"] and many["closed"]


def test_marks_are_recorded_as_they_were_made(own: ComfyServer, seen: dict[str, Any]) -> None:
    given = {each["how"]: each["images"] for each in seen["marks"]}
    groups = {frozenset(group.names): group.id for group in PreferenceStore(own.base / "input" / "marks").groups()}
    found: dict[str, list[tuple[str, str | None, frozenset[str]]]] = {}
    for vote in votes_of(own, "marks"):
        found.setdefault(vote["group"], []).append((vote["outcome"], vote.get("winner"), frozenset(vote["pair"])))

    def said(how: str) -> set[tuple[str, str | None, str]]:
        """Each vote by the places of its images on the screen, from 1."""
        images = given[how]
        place = {image: str(n) for n, image in enumerate(images, 1)}
        votes = found[groups[frozenset(images)]]
        return {
            (kind, winner and place[winner], "".join(sorted(place[it] for it in pair))) for kind, winner, pair in votes
        }

    def won(*duels: str) -> set[tuple[str, str | None, str]]:
        """`21`: image 2 over image 1."""
        return {("win", duel[0], "".join(sorted(duel))) for duel in duels}

    assert said("ranked") == won("21", "23", "24", "41", "43", "13")
    assert said("bad") == won("13", "23", "43")
    assert said("bad by key") == won("41", "42", "43", "31", "32") | {("bad", None, "12")}
    assert said("rank tool") == won("41", "42", "43", "12", "13")
    for how, outcome in (("all bad", "bad"), ("none", "tie"), ("skip", "skip")):
        assert {kind for kind, _, _ in said(how)} == {outcome} and len(said(how)) == 6
    assert said("focus") == won("21", "23", "24")
    assert seen["badges"] == ["3", "1", "2"]
    assert seen["badLabel"] == "Image 3: bad"
    assert seen["keys"]["focused"] == "Image 2" and seen["keys"]["large"]


def test_a_key_before_one_can_have_looked_is_no_answer(seen: dict[str, Any]) -> None:
    assert seen["early"] == {"said": "Too quick to have looked: nothing was recorded.", "answered": 0}


def test_a_resting_pointer_frames_nothing(seen: dict[str, Any]) -> None:
    frames = seen["frames"]
    assert frames["answered"] == 1
    assert frames["rested"] == "rgba(0, 0, 0, 0)"
    assert frames["hovered"] == frames["again"] != frames["rested"]


def test_undo_survives_a_reload(seen: dict[str, Any]) -> None:
    undo = seen["undo"]
    assert (undo["said"], undo["bads"], undo["after"]["bads"], undo["same"]) == ("Vote undone", 1, 0, True)
    assert undo["after"]["answered"] == 1


def test_images_stay_where_they_are_whatever_the_prompt(seen: dict[str, Any]) -> None:
    assert len(seen["layout"]) == 3 and len({*seen["layout"]}) == 1


def test_ways_to_look(seen: dict[str, Any]) -> None:
    looking = seen["looking"]
    assert [label.split("\n")[0] for label in looking["labels"]] == ["Left", "Tie", "Right", "Both bad"]
    assert looking["clip"] == pytest.approx(0.25, abs=0.01)  # the share of the image that is the left one
    assert "seed " in looking["info"] and "euler" in looking["info"] and "5.5" in looking["info"]
    assert (looking["cellsInPairs"], looking["cells"]) == (0, 6)
    assert "lighthouse" in looking["found"]
    assert "No pair is left for these prompts" in looking["nothing"] and "Show all prompts" in looking["nothing"]


def test_the_dialog_goes_on_when_the_server_is_back(seen: dict[str, Any]) -> None:
    assert "not responding" in seen["restart"]["said"]
    assert seen["restart"]["trouble"] == 0


def test_a_blind_test_shows_no_seeds_and_says_each_thing_once(seen: dict[str, Any]) -> None:
    blind = seen["blind"]
    assert blind["info"] == 0 and blind["images"] == 0
    assert blind["end"].count("95% interval") == 1 and blind["end"].count("prompts") == 1 and "1 tied" in blind["end"]
    assert blind["axe"] == []


def test_review_changes_a_vote_to_what_names_no_winner(seen: dict[str, Any]) -> None:
    assert seen["review"] == {"bads": 1, "axe": [], "large": 512}


def test_where_images_stack_the_keys_and_labels_are_up_and_down(seen: dict[str, Any]) -> None:
    narrow = seen["narrow"]
    assert narrow["stacked"] and narrow["labels"] == ["Top", "Tie", "Bottom", "Both bad"]
    assert narrow["won"] and narrow["before"] == narrow["after"]


def test_the_next_grid_is_there_at_once(seen: dict[str, Any]) -> None:
    assert seen["times"]["median"] < 150  # milliseconds, on two busy cores


def test_axe_finds_nothing_in_either_theme_at_any_width(seen: dict[str, Any]) -> None:
    assert len(seen["axe"]) == 18
    assert {name: found for name, found in seen["axe"].items() if found} == {}
