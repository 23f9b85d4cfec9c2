"""What is known of sets while people vote: when it is fitted anew, who waits for it, and what is told."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_preferences_tabs import filled

from dspo_train.preferences import PreferenceStore
from dspo_train.taste import current
from dspo_train.taste.current import EVERY, CurrentTastes
from dspo_train.taste.kept import keep_features
from dspo_train.taste.summary import SUMMARY_FILE

GROUPS = 20


def bright(store: PreferenceStore, scale: float = 1.0) -> dict[str, float]:
    """A number for each image, by which a person prefers; a seed decides it."""
    draw = np.random.default_rng(0)
    return {name: scale * draw.normal() for group in store.groups() for name in group.names}


def looked_at(store: PreferenceStore) -> dict[str, float]:
    """Keep features of which the first is what counts and the other seven are noise."""
    draw, value = np.random.default_rng(1), bright(store)
    keep_features(store.folder, "tiny", {n: np.array([v, *draw.normal(size=7)], np.float32) for n, v in value.items()})
    return value


def vote(store: PreferenceStore, value: dict[str, float], count: int) -> None:
    for asked in store.next(count):
        store.vote(asked.pair, "win", max(asked.left, asked.right, key=value.__getitem__))


@pytest.fixture
def store(tmp_path, monkeypatch) -> PreferenceStore:
    monkeypatch.setattr("dspo_train.preferences.live.secrets.token_hex", lambda count: "5e" * count)
    return filled(tmp_path / "set", GROUPS, 4)


@pytest.fixture
def told() -> list[Any]:
    return []


@pytest.fixture
def tastes(store, told) -> CurrentTastes:
    return CurrentTastes({store.folder: store}.__getitem__, lambda name, summary: told.append((name, summary)))


def settled(tastes: CurrentTastes) -> None:
    while (worker := tastes._worker) is not None:
        worker.join()


def test_nothing_is_known_without_features(store, tastes, told):
    vote(store, bright(store), 30)
    assert tastes.guide("set", store) is tastes.fresh("set", store) is tastes.summary("set", store.folder) is None
    settled(tastes)
    assert told == [] and not (store.folder / SUMMARY_FILE).exists()


def test_a_fit_is_begun_beside_the_voting_and_guides_from_twelve_clicks_on(store, tastes, told):
    value = looked_at(store)
    vote(store, value, 10)
    assert tastes.guide("set", store) is None  # never waits
    settled(tastes)
    assert tastes.guide("set", store) is None and told[-1][1]["outlook"] == "few"
    vote(store, value, EVERY)
    tastes.guide("set", store)
    settled(tastes)
    guide = tastes.guide("set", store)
    assert guide is not None and guide.clicks == 15
    assert store.next(8, guide=guide) != store.next(8)


def test_a_guide_is_made_anew_after_five_clicks(store, tastes, told):
    value = looked_at(store)
    vote(store, value, 20)
    tastes.fresh("set", store)
    for clicks in range(1, EVERY + 1):
        vote(store, value, 1)
        stale = tastes.guide("set", store)
        settled(tastes)
        assert stale is not None and stale.clicks == 20
        assert len(told) == 1 + (clicks == EVERY)


def test_new_features_lead_to_a_new_fit(store, tastes, told):
    value = looked_at(store)
    vote(store, value, 20)
    tastes.fresh("set", store)
    keep_features(store.folder, "another", {"images/0123456789abcdef.png": np.ones(3, np.float32)})
    tastes.guide("set", store)
    settled(tastes)
    assert len(told) == 2


def test_a_summary_that_is_asked_for_covers_every_vote_and_is_made_once(store, tastes, told, monkeypatch):
    value = looked_at(store)
    vote(store, value, 60)
    first = tastes.fresh("set", store)
    assert first is tastes.fresh("set", store) and len(told) == 1
    assert first.summary["clicks"] == 60 and first.summary["accuracy"] > 0.8
    order = [name for name, _ in first.ranked]
    truth = sorted(value, key=value.__getitem__, reverse=True)
    assert {*order} == {*truth} and len({*order[:20]} & {*truth[:20]}) >= 13
    vote(store, value, 1)
    assert tastes.fresh("set", store).summary["clicks"] == 61
    assert told[-1] == ("set", tastes.summary("set", store.folder))
    monkeypatch.setattr(current, "known", None)  # another process' list of sets fits nothing
    assert CurrentTastes(lambda folder: store, print).summary("set", store.folder) == told[-1][1]


def test_a_list_of_sets_begins_what_nobody_has_fitted(store, tastes, told):
    vote(store, looked_at(store), 30)
    assert tastes.summary("set", store.folder) is None
    settled(tastes)
    assert tastes.summary("set", store.folder)["clicks"] == 30


def test_one_fit_at_a_time_and_all_that_wait_get_it(store, tastes, told, monkeypatch):
    vote(store, looked_at(store), 30)
    inside, real = [], current.known

    def slow(*given):
        inside.append(threading.active_count())
        return real(*given)

    monkeypatch.setattr(current, "known", slow)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(tastes.fresh("set", store))) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(inside) == 1 and len(found) == 4 and all(it is found[0] for it in found)


def test_a_fit_that_fails_is_told_to_the_log_and_not_tried_again(store, tastes, told, monkeypatch, caplog):
    vote(store, looked_at(store), 30)

    def broken(*given):
        raise current.DspoError("features.safetensors: is damaged; delete it")

    monkeypatch.setattr(current, "known", broken)
    for _ in range(3):
        assert tastes.guide("set", store) is None
        settled(tastes)
    assert caplog.text.count("is damaged") == 1
    assert tastes.summary("set", store.folder) is None


def test_another_set_at_the_same_place_is_another_set(store, tastes, told):
    vote(store, looked_at(store), 30)
    tastes.fresh("set", store)
    (store.folder / "preferences.jsonl").unlink()
    new = PreferenceStore(Path(store.folder))
    assert tastes.guide("set", new) is None
