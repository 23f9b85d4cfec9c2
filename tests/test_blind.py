"""The result of a blind test, and its picture."""

from __future__ import annotations

import pytest
from PIL import Image
from test_preferences import png

from dspo_train.drawing.result_card import ResultCard, draw_result_card
from dspo_train.drawing.run_card import RunCard, draw_run_card
from dspo_train.drawing.themes import DARK, LIGHT
from dspo_train.evaluate.blind import arm_names, blind_result, claim_test, facts_of, find_test, note_facts
from dspo_train.exceptions import ConfigError
from dspo_train.preferences import NewImage, PreferenceStore


@pytest.fixture
def store(tmp_path):
    return PreferenceStore(tmp_path / "test")


def add(store: PreferenceStore, number: int, prompt: str, better: str | None, **settings) -> None:
    """A group of two pictures; `better` is an arm, None for a tie, or "skip"."""
    shots = [NewImage(png(2 * number), arm="base"), NewImage(png(2 * number + 1), arm="lora")]
    group = store.add_group(prompt, shots, settings=settings)
    arms = {picture.arm: picture.image for picture in group.images}
    question = next(it for it in store.next(9999) if it.group == group.id)
    if better == "skip":
        store.vote(question.pair, "skip")
    elif better is None:
        store.vote(question.pair, "tie")
    else:
        store.vote(question.pair, "win", arms[better])


def test_counts_and_rate(store):
    """Six for the LoRA, two ties, two against: (6 + 2 / 2) / 10. The skip does not count."""
    for number, better in enumerate(["lora"] * 6 + [None] * 2 + ["base"] * 2 + ["skip"]):
        add(store, number, f"prompt {number}", better)
    found = blind_result(store)
    assert (found.votes, found.wins, found.ties, found.losses, found.prompts) == (10, 6, 2, 2, 10)
    assert found.win_rate == pytest.approx(0.7)
    assert found.low is not None and found.high is not None and found.low < 0.5 < found.high
    assert found.to_settle is not None and found.to_settle > 0
    assert "70% of 10 votes on 10 prompts" in found.text
    assert f"about {found.to_settle} more votes" in found.text


@pytest.mark.parametrize(("better", "rate", "word"), [("lora", 1.0, "better"), ("base", 0.0, "worse")])
def test_a_clear_result_needs_no_more_votes(better, rate, word, store):
    """8 of 8 prompts: the interval begins at 8 / (8 + 3.84) = 68%."""
    for number in range(8):
        add(store, number, f"prompt {number}", better)
    found = blind_result(store)
    assert (found.win_rate, found.to_settle) == (rate, 0)
    assert found.text.endswith(f"it is {word} than the base.")


def test_one_prompt_says_little(store):
    for number in range(12):
        add(store, number, "the only prompt", "lora")
    found = blind_result(store)
    assert (found.prompts, found.to_settle) == (1, None)
    assert found.low is not None and found.low < 0.5
    assert "test on more" in found.text


def test_pictures_without_a_prompt_are_one_prompt_together(store):
    """Taken for prompts of their own they would make the interval too narrow."""
    for number in range(3):
        add(store, number, "", "lora")
    assert blind_result(store).prompts == 1


def test_nothing_judged(store):
    add(store, 0, "a", "skip")
    found = blind_result(store)
    assert (found.votes, found.win_rate, found.low, found.to_settle) == (0, None, None, None)
    assert "Nothing" in found.text


def test_groups_of_other_arms_and_removed_ones_do_not_count(store):
    add(store, 0, "a", "lora")
    group = store.add_group("b", [NewImage(png(50)), NewImage(png(51))])
    store.vote(store.next()[0].pair, "tie")
    assert blind_result(store).votes == 1
    store.remove(next(it.id for it in store.groups() if it.id != group.id))
    assert blind_result(store).votes == 0


def test_the_even_result_promises_nothing(store):
    for number in range(8):
        add(store, number, f"prompt {number}", ["lora", "base"][number % 2])
    assert blind_result(store).text.endswith("no difference is visible.")


def test_what_the_arms_are_called(store):
    assert arm_names(store) == {"base": "base", "lora": "lora"}
    add(store, 0, "a", "lora", names={"base": "base", "lora": "my-taste-01"})
    assert arm_names(store) == {"base": "base", "lora": "my-taste-01"}


def test_a_damaged_name_is_no_harm(store):
    add(store, 0, "a", "lora", names=["base"])
    assert arm_names(store) == {"base": "base", "lora": "lora"}


def test_tests_are_numbered_and_found_again(tmp_path):
    first, second = (claim_test(tmp_path / "blind", "taste", mark) for mark in ("aa", "bb"))
    assert [first.name, second.name] == ["taste-01", "taste-02"]
    assert claim_test(tmp_path / "blind", "taste", "aa") == first
    assert claim_test(tmp_path / "blind", "taste-01", "aa").name == "taste-01-01"
    (tmp_path / "blind" / "taste-09").mkdir()
    assert claim_test(tmp_path / "blind", "taste", "cc").name == "taste-10"


@pytest.mark.parametrize("name", ["", "../x", "a/b", "CON"])
def test_a_test_has_a_plain_name(name, tmp_path):
    with pytest.raises(ConfigError, match="the test's name"):
        claim_test(tmp_path, name, "aa")
    assert not list(tmp_path.iterdir())


def verdict(rate: float | None, low: float | None, high: float | None, **changes) -> ResultCard:
    values = {"title": "T", "counts": (1, 2, 3), "names": ("base", "LoRA"), "text": "A sentence.", **changes}
    return ResultCard(rate=rate, low=low, high=high, **values)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize(
    ("low", "high", "role"), [(0.6, 0.8, "good"), (0.4, 0.8, "accent"), (0.2, 0.4, "bad"), (0.0, 0.0, "bad")]
)
def test_the_bar_has_the_colour_of_the_result_where_the_interval_is(theme, low, high, role):
    picture = draw_result_card(verdict((low + high) / 2, low, high), theme)
    assert picture.mode == "RGB"
    colours = {picture.getpixel((x, y)) for x in range(picture.width) for y in range(picture.height * 1 // 2, 400)}
    others = {getattr(theme, name) for name in ("good", "accent", "bad")} - {getattr(theme, role)}
    assert getattr(theme, role) in colours
    assert not others & colours


def test_the_picture_keeps_its_size_whatever_it_says():
    plain = draw_result_card(verdict(0.5, 0.4, 0.6))
    long = draw_result_card(verdict(None, None, None, names=("b" * 500, "猫" * 500), text="word " * 500))
    assert plain.size == long.size
    assert 1100 <= plain.width <= 1300 and 600 <= plain.height <= 700


def test_a_test_is_found_by_its_request_once_it_is_whole(tmp_path):
    folder = claim_test(tmp_path, "taste", "images-a")
    assert folder.name == "taste-01" and find_test(tmp_path, "taste", "asked") is None
    note_facts(folder, {"request": "asked", "lora": "dspo/taste-01.safetensors"})
    assert find_test(tmp_path, "taste", "asked") == folder
    assert find_test(tmp_path, "taste", "other") is None and find_test(tmp_path, "tast", "asked") is None
    assert claim_test(tmp_path, "taste", "images-a") == folder
    assert claim_test(tmp_path, "taste", "images-b").name == "taste-02"
    assert facts_of(folder) == {"images": "images-a", "request": "asked", "lora": "dspo/taste-01.safetensors"}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"images": 3}'])
def test_a_damaged_mark_is_another_test(tmp_path, text):
    folder = claim_test(tmp_path, "taste", "images-a")
    (folder / "test.json").write_text(text, encoding="utf-8")
    assert facts_of(folder).get("request") is None
    assert claim_test(tmp_path, "taste", "images-a").name == "taste-02"


def test_a_mark_of_an_earlier_version_is_read(tmp_path):
    (tmp_path / "taste-01").mkdir()
    (tmp_path / "taste-01" / "test.json").write_text('{"images": "abc"}\n', encoding="utf-8")
    assert claim_test(tmp_path, "taste", "abc").name == "taste-01"


def run_card(examples: int, result: bool = True, facts: int = 9) -> RunCard:
    def picture(shade):
        return Image.new("RGB", (96, 64), (shade, 40, 90))

    shown = [(f"prompt {n}", picture(60 * n), picture(60 * n + 30)) for n in range(examples)]
    tested = ResultCard("taste-01", 0.7, 0.6, 0.8, (7, 0, 3), ("base", "mine"), "The LoRA was preferred.")
    about = [(f"fact {n}", "value") for n in range(facts)]
    return RunCard("mine", "A LoRA", shown, tested if result else None, about)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize("examples", [0, 1, 2, 3])
def test_the_card_of_a_run_shows_its_pictures(theme, examples):
    """Each picture's colour is found on the card, once for the row without and once for the row with the LoRA."""
    card = run_card(examples)
    drawn = draw_run_card(card, theme)
    assert drawn.width == draw_run_card(run_card(3), theme).width == 1220
    colours = {colour for _, colour in drawn.getcolors(1 << 24)}
    for _, *both in card.examples:
        assert {image.getpixel((0, 0)) for image in both} <= colours
    assert (theme.good in colours) and drawn.getpixel((2, 2)) == theme.page


def test_a_card_without_a_test_or_facts_is_smaller():
    whole, untested, bare = (draw_run_card(run_card(3, *more)).height for more in ((), (False,), (False, 0)))
    assert whole > untested > bare > 600
