"""Questions, votes and their history."""

from __future__ import annotations

from typing import Any

from ...dspo_train.preferences import Already, Gone, Outcome, Question
from ...dspo_train.preferences.entries import digits, pair_id
from .. import collecting
from ..collecting import Place
from .opening import counts, opened
from .refusals import RefusedError

Json = dict[str, Any]

_ALL = 10**9


def upcoming(place: Place, set: str, count: int, skip: frozenset[str], client: str | None) -> Json:
    store = opened(place, set)
    questions = store.next(count, skip, client=client)
    return {"questions": [_shown(it) for it in questions], "progress": counts(store)}


def _shown(it: Question) -> Json:
    return {"pair": it.pair, "group": it.group, "prompt": it.prompt, "left": it.left, "right": it.right}


def history(place: Place, set: str, offset: int, limit: int) -> Json:
    store = opened(place, set)
    votes = [
        {
            "vote": it.vote.id,
            "pair": it.pair,
            "prompt": it.prompt,
            "images": list(it.vote.pair),
            "outcome": it.vote.outcome,
            "winner": it.vote.winner,
            "status": it.status,
            "time": it.vote.time,
        }
        for it in store.history(offset, limit)
    ]
    return {"votes": votes, "total": len(store.history(limit=_ALL))}


def vote(
    place: Place,
    set: str,
    pair: str,
    outcome: Outcome,
    winner: str | None,
    id: str,
    client: str,
    seconds: float | None,
    relabel: bool,
) -> Json:
    if (winner is None) == (outcome == "win") or (winner and digits(winner) not in pair.split(".")[1:]):
        raise RefusedError(400, "A win must name the better of the two images; a tie or a skip must name none.")
    if relabel and place == "blind":
        raise _settled()
    store = opened(place, set)
    answer = store.vote(pair, outcome, winner, id=id, client=client, seconds=seconds, relabel=relabel)
    progress = counts(store)
    if isinstance(answer, Gone):
        return {"status": "gone", "vote": None, "progress": progress}
    if isinstance(answer, Already):
        return {"status": "already", "vote": answer.vote.id, "progress": progress}
    _announce(place, set, progress, client, pair)
    return {"status": "recorded", "vote": answer.vote.id, "progress": progress}


def undo(place: Place, set: str, client: str, id: str, vote: str | None) -> Json:
    """Undo a vote of this tab, by default its last; the question is null if it cannot be asked again."""
    store = opened(place, set)
    undone = store.undo(vote, client=client, id=id)
    progress = counts(store)
    if undone is None:
        return {"status": "nothing", "pair": None, "question": None, "progress": progress}
    pair = pair_id(undone.vote.group, undone.vote.pair)
    _announce(place, set, progress, client, pair)
    question = store.question(pair)
    return {"status": "undone", "pair": pair, "question": question and _shown(question), "progress": progress}


def remove(place: Place, set: str, target: str) -> Json:
    if place == "blind":
        raise _settled()
    store = opened(place, set)
    done = store.remove(target)
    return _changed(place, set, store, "nothing" if done is None else "removed")


def restore(place: Place, set: str, target: str) -> Json:
    if place == "blind":
        raise _settled()
    store = opened(place, set)
    done = store.restore(target)
    return _changed(place, set, store, "nothing" if done is None else "restored")


def _changed(place: Place, set: str, store: collecting.PreferenceStore, status: str) -> Json:
    progress = counts(store)
    if status != "nothing":
        _announce(place, set, progress, None, None)
    return {"status": status, "progress": progress}


def _settled() -> RefusedError:
    """A blind test's result is visible at any time, so votes must not be changed in the light of it."""
    return RefusedError(409, "The images and votes of a blind test cannot be changed.")


def _announce(place: Place, set: str, progress: Json, client: str | None, pair: str | None) -> None:
    collecting.send("voted", place=place, set=set, progress=progress, client=client, pair=pair)
