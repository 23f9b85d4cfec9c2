"""Several tabs at one set: what each is asked, and what each may take back."""

from __future__ import annotations

import pytest
from test_preferences import lines, pictures

from dspo_train.exceptions import DatasetError
from dspo_train.preferences import Already, PreferenceStore

TABS = ("tab-1", "tab-2")


def filled(folder, groups: int, each: int) -> PreferenceStore:
    store = PreferenceStore(folder)
    for number in range(groups):
        store.add_group(f"{number}", pictures(*range(10 * number, 10 * number + each)), id=f"g{number}")
    return store


def clicks_in_vain(store: PreferenceStore, named: bool) -> int:
    """Two tabs in turn until all is answered: one question on show and three ahead, where they drop what they hear
    was judged by the other."""
    held: dict[str, list[str]] = {tab: [] for tab in TABS}
    vain = 0
    while store.progress().open:
        for tab, other in (TABS, TABS[::-1]):
            held[tab] += [it.pair for it in store.next(4 - len(held[tab]), held[tab], client=tab if named else None)]
            if held[tab]:
                pair = held[tab].pop(0)
                vain += isinstance(store.vote(pair, "tie", client=tab), Already)
                held[other] = [it for n, it in enumerate(held[other]) if n == 0 or it != pair]
    return vain


@pytest.mark.parametrize(("groups", "each"), [(1, 7), (21, 2)])
def test_two_tabs_seldom_meet(groups, each, tmp_path):
    """21 pairs. In one order, many clicks are in vain; else few, mostly where the two come to the end."""
    count = groups * each * (each - 1) // 2
    assert clicks_in_vain(filled(tmp_path / "same", groups, each), named=False) > 0.8 * count
    assert clicks_in_vain(filled(tmp_path / "own", groups, each), named=True) < 0.3 * count


def test_one_tab_goes_round_the_prompts_from_its_own_last(tmp_path):
    """Five groups of three pairs: never a prompt twice before each other one, whatever another tab does meanwhile."""
    store = filled(tmp_path / "set", 5, 3)
    assert store.next(9, client="a") == store.next(9, client="a") != store.next(9, client="b")
    prompts = []
    for _ in range(5):
        (question,) = store.next(client="a")
        prompts.append(question.prompt)
        store.vote(question.pair, "tie", client="a")
        store.vote(store.next()[0].pair, "tie", client="b")
    assert sorted(prompts) == list("01234")
    assert {it.pair for it in store.next(9, client="a")} == {it.pair for it in store.next(9)}


def test_a_named_vote_is_taken_back_by_its_own_tab_alone(tmp_path):
    store = filled(tmp_path / "set", 3, 2)
    first, second, third = store.next(3)
    store.vote(first.pair, "win", first.left, id="one", client="a")
    store.vote(second.pair, "tie", id="two", client="a")
    store.vote(third.pair, "tie", id="three", client="b")
    before = lines(store)
    assert store.undo("three", client="a") is None
    assert store.undo("none-such", client="a") is None
    assert lines(store) == before
    undone = store.undo("one", client="a", id="u")
    assert undone is not None and undone.vote.id == "one"
    assert store.undo("one", client="a", id="u") == undone  # sent again
    assert store.undo("one", client="a") is None
    store.relabel(second.pair, "skip", id="four", client="a")
    assert store.undo("two", client="a") is None  # replaced, so it does not count
    with pytest.raises(DatasetError, match="no vote 'none-such'"):
        store.undo("none-such")


def test_a_question_is_asked_again_where_it_can_be(tmp_path):
    store = filled(tmp_path / "set", 1, 2)
    (asked,) = store.next()
    assert store.question(asked.pair) == asked
    store.vote(asked.pair, "tie", id="v")
    assert store.question(asked.pair) is None
    store.undo("v")
    assert store.question(asked.pair) == asked
    store.remove("g0")
    assert store.question(asked.pair) is None
    with pytest.raises(DatasetError, match="no pair"):
        store.question(asked.pair.replace("g0", "g1"))
