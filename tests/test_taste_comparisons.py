"""Comparisons from a dataset, from rankings and from votes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image
from tiny_runs import write_pairs

from dspo_train.exceptions import DatasetError
from dspo_train.pairs import RatedImage, Scan, scan_folder
from dspo_train.preferences import NewImage, PreferenceStore
from dspo_train.taste.comparisons import FEWEST_RANDOM, MOST, Comparisons, from_ranks, from_scan, from_store


def told(found: Comparisons) -> list[tuple[str, str, float]]:
    return [
        (found.images[one], found.images[other], target)
        for one, other, target in zip(found.first, found.second, found.target.tolist(), strict=True)
    ]


def opinions(**prompts: str) -> Scan:
    """prompt -> `+` for each liked and `-` for each disliked image."""
    images = [
        RatedImage(f"{prompt}{row}", prompt.strip("_"), Path(f"{prompt}{row}.png"), sign == "+", (64, 64))
        for prompt, signs in prompts.items()
        for row, sign in enumerate(signs)
    ]
    return Scan(Path("set"), "folders", images=tuple(images))


def test_the_pairs_of_a_dataset(tmp_path: Path):
    found = from_scan(scan_folder(write_pairs(tmp_path / "pairs", 3)))
    names = [(Path(one).name, Path(other).name, target) for one, other, target in told(found)]
    assert names == [(f"pair{row}_w.png", f"pair{row}_l.png", 1.0) for row in range(3)]
    assert found.prompt == ("red dog 0", "red dog 1", "red dog 0")
    assert found.prompts_of_images == tuple(prompt for prompt in found.prompt for _ in (0, 1))
    assert found.counted.all() and found.decided.all() and len(found) == 3


def test_liked_images_are_compared_with_the_disliked_of_their_prompt():
    found = from_scan(opinions(cat="++-", dog="-+"))
    pairs = {("cat0.png", "cat2.png", 1.0), ("cat1.png", "cat2.png", 1.0), ("dog1.png", "dog0.png", 1.0)}
    assert set(told(found)) == pairs
    assert sorted(set(found.prompt)) == ["cat", "dog"]


def test_across_prompts_no_image_is_in_two_units():
    """Two prompts are only liked and three only disliked: two blocks, of one liked and one or two disliked ones."""
    found = from_scan(opinions(a="+", b="++", c="-", d="-", e="-"))
    units: dict[str, set[str]] = {}
    for (one, other, _), unit in zip(told(found), found.prompt, strict=True):
        assert one[0] in "ab" and other[0] in "cde"
        for image in (one, other):
            units.setdefault(image, set()).add(unit)
    assert len(units) == 6 and all(len(own) == 1 for own in units.values())
    assert len(set(found.prompt)) == 2
    assert dict(zip(found.images, found.prompts_of_images, strict=True))["b1.png"] == "b"


def test_images_of_one_kind_join_prompts_that_have_both():
    found = from_scan(opinions(a="+-", b="+"))
    assert {(one, other) for one, other, _ in told(found)} == {("a0.png", "a1.png"), ("b0.png", "a1.png")}


def test_images_without_a_prompt_stand_for_themselves():
    """Their block, not the empty prompt that all of them share, is what cross-validation leaves out."""
    found = from_scan(opinions(_="+" * 30 + "-" * 40))
    assert len(set(found.prompt)) == 20
    assert set(found.prompts_of_images) == {""} and len(found.images) == 70


def test_very_many_comparisons_are_drawn_the_same_ones_each_time():
    scan = opinions(cat="+" * 60 + "-" * 60)
    found = from_scan(scan)
    assert len(found) == len(set(told(found))) == MOST
    assert told(found) == told(from_scan(scan)) != told(from_scan(scan, seed=1))


def test_nothing_to_compare_is_an_error():
    with pytest.raises(DatasetError, match="both sides"):
        from_scan(opinions(cat="++"))


def test_a_ranking_is_every_pair_of_it():
    found = from_ranks([("cat", ["a", "b", "c"]), ("dog", ["d", "e"])])
    assert told(found) == [("a", "b", 1.0), ("a", "c", 1.0), ("b", "c", 1.0), ("d", "e", 1.0)]
    assert found.prompt == ("cat", "cat", "cat", "dog")
    assert found.prompts_of_images == ("cat", "cat", "cat", "dog", "dog")


def images(*shades: int) -> Sequence[NewImage]:
    found = []
    for shade in shades:
        buffer = io.BytesIO()
        Image.new("RGB", (64, 64), (shade, shade, shade)).save(buffer, format="PNG")
        found.append(NewImage(buffer.getvalue()))
    return found


def test_wins_and_ties_of_a_set(tmp_path: Path):
    """Of three pairs, one is won, one tied and of one neither is any good, which says nothing of which is better."""
    store = PreferenceStore(tmp_path)
    store.add_group("cat", images(1, 2, 3))
    won, tied, bad = store.next(3)
    store.vote(won.pair, "win", won.right)
    store.vote(tied.pair, "tie")
    store.vote(bad.pair, "bad")
    found = from_store(store)
    by_pair = {frozenset((one, other)): (one, target) for one, other, target in told(found)}
    first, target = by_pair[frozenset((won.left, won.right))]
    assert target == (1.0 if first == won.right else 0.0)
    assert by_pair[frozenset((tied.left, tied.right))][1] == 0.5
    assert len(found) == 2 and found.prompt == ("cat", "cat")


@pytest.mark.parametrize(("random", "rest", "counted"), [(FEWEST_RANDOM, 1, FEWEST_RANDOM), (FEWEST_RANDOM - 1, 2, 21)])
def test_votes_on_chosen_questions_count_until_enough_were_asked_at_random(
    tmp_path: Path, random: int, rest: int, counted: int
):
    store = PreferenceStore(tmp_path)
    store.add_group("cat", images(*range(8)))  # 28 pairs
    asked = [vote_left(store) for _ in range(random + rest)]
    chosen = set(asked[random:])
    found = from_store(store, lambda judged: judged.pair not in chosen)
    assert (len(found), found.counted.sum()) == (random + rest, counted)
    while store.next(1):
        vote_left(store)
    assert from_store(store, lambda judged: judged.pair not in chosen).counted.all()


def vote_left(store: PreferenceStore) -> str:
    """-> the pair that was voted on"""
    (question,) = store.next(1)
    store.vote(question.pair, "win", question.left)
    return question.pair
