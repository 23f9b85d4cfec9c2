"""Questions in the order of a guide: what tells most first, one of four at random, and other tabs get others first."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from test_preferences import lines, pictures
from test_preferences_tabs import TABS, filled

from dspo_train.preferences import Already, GroupQuestion, PreferenceStore, Recorded, RecordedBallot
from dspo_train.preferences.entries import ImagePair, canonical
from dspo_train.preferences.guided import SHARE


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    """Which questions are drawn at random follows from the set's secret."""
    monkeypatch.setattr("dspo_train.preferences.live.secrets.token_hex", lambda count: "5e" * count)


class Told:
    """A guide that knows the worth of pairs from a table; of others it is 0."""

    def __init__(self, worths: Mapping[ImagePair, float], clicks: int = 0) -> None:
        self.worths, self.clicks = worths, clicks

    def worth(self, pair: ImagePair) -> float:
        return self.worths.get(pair, 0.0)


def rising(store: PreferenceStore, clicks: int = 0) -> Told:
    """The last pair of each group, and the last group, tell most; each worth is far from the next one's."""
    pairs = [
        canonical(a, b) for group in store.groups() for n, a in enumerate(group.names) for b in group.names[n + 1 :]
    ]
    return Told({pair: 4.0**place for place, pair in enumerate(pairs)}, clicks)


def places_at_random(store: PreferenceStore, guide: Told | None, whole: bool = False) -> list[bool]:
    """Votes until all is answered: which answers were to questions that the guide did not choose."""
    found = []
    while store.progress().open:
        (asked,) = store.next_groups(guide=guide) if whole else store.next(guide=guide)
        if isinstance(asked, GroupQuestion):
            answer = store.judge(asked.group, asked.images[:1])
            assert isinstance(answer, RecordedBallot)
            found.append(not answer.votes[0].guided)
        else:
            answer = store.vote(asked.pair, "tie")
            assert isinstance(answer, Recorded)
            found.append(not answer.vote.guided)
    return found


def test_without_a_guide_no_vote_is_guided(tmp_path):
    store = filled(tmp_path / "set", 3, 3)
    assert places_at_random(store, None) == [True] * 9
    assert not any(b'"guided"' in line for line in lines(store))


def test_what_tells_most_comes_first_and_one_of_four_is_drawn(tmp_path):
    """40 groups of one pair: while both kinds are left, the fourth, eighth ... question is of the random share."""
    store = filled(tmp_path / "set", 40, 2)
    guide = rising(store)
    asked = store.next(40, guide=guide)
    led, drawn = [it for n, it in enumerate(asked, 1) if n % SHARE], asked[SHARE - 1 :: SHARE]
    assert [int(it.prompt) for it in led[:10]] == sorted((int(it.prompt) for it in led[:10]), reverse=True)
    assert [int(it.prompt) for it in drawn[:4]] == sorted(int(it.prompt) for it in drawn[:4])  # the file's order
    assert {it.pair for it in asked} == {it.pair for it in store.next(40)}
    flags = places_at_random(store, guide)
    share = sum(flags)
    assert 4 <= share <= 16  # of 40 one in four, give or take two standard deviations of 2.7
    turns = min(share, 40 // SHARE)
    assert flags[: SHARE * turns] == [n % SHARE == 0 for n in range(1, SHARE * turns + 1)]


def test_the_share_is_the_same_after_a_restart(tmp_path):
    store = filled(tmp_path / "set", 30, 2)
    guide = rising(store)
    asked = store.next(30, guide=guide)
    assert PreferenceStore(store.folder).next(30, guide=guide) == asked


def test_the_best_pair_of_each_prompt_before_the_second_of_any(tmp_path):
    """Of four images the pair that tells most is that of the third and the fourth, unless it is drawn at random."""
    store = filled(tmp_path / "set", 6, 4)
    guide = rising(store)
    asked = store.next(8, guide=guide)
    led = [it for n, it in enumerate(asked, 1) if n % SHARE]
    assert [it.prompt for it in led] == list("543210")
    best = [canonical(*group.names[2:]) in {canonical(it.left, it.right) for it in led} for group in store.groups()]
    assert sum(best) >= 3


def test_whole_groups_go_by_the_mean_of_their_pairs(tmp_path):
    """One pair of each even group tells 6, the five others nothing: 1 on average. All of an odd one's tell 2."""
    store, worths = filled(tmp_path / "set", 16, 4), {}
    for number, group in enumerate(store.groups()):
        pairs = [canonical(a, b) for n, a in enumerate(group.names) for b in group.names[n + 1 :]]
        worths |= dict.fromkeys(pairs, 2.0) if number % 2 else {pairs[0]: 6.0}
    guide = Told(worths)
    odd = [int(it.prompt) % 2 for it in store.next_groups(16, guide=guide)]
    flags = places_at_random(store, guide, whole=True)
    assert 1 <= sum(flags) <= 8
    led = [each for each, drawn in zip(odd, flags, strict=True) if not drawn]
    assert led == sorted(led, reverse=True) and {*led} == {0, 1}


def test_negative_worth_is_asked_when_nothing_else_is_left(tmp_path):
    store = filled(tmp_path / "set", 20, 2)
    guide = rising(store)
    twins = {canonical(*group.names) for group in store.groups()[10:]}
    guide.worths = {**guide.worths, **dict.fromkeys(twins, -1.0)}
    asked = [canonical(it.left, it.right) in twins for it in store.next(20, guide=guide)]
    assert asked == [False] * 10 + [True] * 10


def test_a_group_answered_since_the_guide_was_made_has_had_its_turn(tmp_path):
    store = filled(tmp_path / "set", 3, 5)
    stale, prompts = rising(store), []
    for _ in range(3):
        (question,) = store.next(guide=stale)
        prompts.append(question.prompt)
        store.vote(question.pair, "tie")
    assert prompts == ["2", "1", "0"]
    assert store.clicks == 3
    assert "2" in {it.prompt for it in store.next(2, guide=rising(store, clicks=3))}  # a new guide starts over


def test_skip_and_find_hold_with_a_guide(tmp_path):
    store = filled(tmp_path / "set", 12, 3)
    guide = rising(store)
    first = store.next(5, guide=guide)
    shown = [it.pair for it in first]
    assert not {it.pair for it in store.next(31, shown, guide=guide)} & {*shown}
    assert len(store.next(99, shown, guide=guide)) == 36 - 5
    assert {it.prompt for it in store.next(99, find="1", guide=guide)} == {"1", "10", "11"}
    groups = [it.group for it in store.next_groups(3, guide=guide)]
    rest = [it.group for it in store.next_groups(99, groups, guide=guide)]
    assert len({*groups, *rest}) == 12 and not {*groups} & {*rest}


@pytest.mark.parametrize(("groups", "each"), [(1, 7), (21, 2)])
@pytest.mark.parametrize("spread", [1.0, 1.05], ids=["alike", "unlike"])
def test_two_tabs_seldom_meet_under_a_guide(groups, each, spread, tmp_path):
    """As without one, where several questions tell about the same: each tab has one on show and three ahead."""
    store = filled(tmp_path / "set", groups, each)
    guide = Told({pair: spread**n for n, pair in enumerate(rising(store).worths)})
    held: dict[str, list[str]] = {tab: [] for tab in TABS}
    vain = count = 0
    while store.progress().open:
        for tab, other in (TABS, TABS[::-1]):
            held[tab] += [it.pair for it in store.next(4 - len(held[tab]), held[tab], client=tab, guide=guide)]
            if held[tab]:
                pair = held[tab].pop(0)
                count += 1
                vain += isinstance(store.vote(pair, "tie", client=tab), Already)
                held[other] = [it for n, it in enumerate(held[other]) if n == 0 or it != pair]
    assert count - vain == groups * each * (each - 1) // 2
    assert vain < 0.4 * (count - vain)


def test_a_vote_that_is_changed_stays_guided(tmp_path):
    store = filled(tmp_path / "set", 1, 2)
    guide = rising(store)
    (asked,) = store.next(guide=guide)
    first = store.vote(asked.pair, "tie")
    again = store.relabel(asked.pair, "win", asked.left)
    assert isinstance(first, Recorded) and isinstance(again, Recorded)
    assert first.vote.guided == again.vote.guided
    assert PreferenceStore(store.folder).find(again.vote.id) == again.vote


def test_clicks_count_a_ballot_once(tmp_path):
    store = PreferenceStore(tmp_path / "set")
    group = store.add_group("a", pictures(1, 2, 3, 4))
    before = store.lines
    store.judge(group.id, group.names[:1], id="ballot")
    assert (store.clicks, store.lines - before) == (1, 3)  # the best beats three
    store.undo("ballot")
    assert (store.clicks, store.lines - before) == (1, 4)
