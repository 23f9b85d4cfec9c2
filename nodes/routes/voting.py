"""Questions, votes, and what was clicked before."""

from __future__ import annotations

from typing import Any

from ...dspo_train.preferences import Already, Gone, Outcome, Question
from ...dspo_train.preferences.entries import digits, pair_id
from .. import collecting
from ..collecting import Place
from .checks import RefusedError
from .opening import counts, opened

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
        raise RefusedError(400, "A win names the better one of the two pictures; a tie and a skip name none.")
    if relabel and place == "blind":
        raise _settled()
    store = opened(place, set)
    answer = store.vote(pair, outcome, winner, id=id, client=client, seconds=seconds, relabel=relabel)
    progress = counts(store)
    if isinstance(answer, Gone):
        return {"status": "gone", "vote": None, "progress": progress}
    if isinstance(answer, Already):
        return {"status": "already", "vote": answer.vote.id, "progress": progress}
    _tell(place, set, progress, client, pair)
    return {"status": "recorded", "vote": answer.vote.id, "progress": progress}


def undo(place: Place, set: str, client: str, id: str, vote: str | None) -> Json:
    """Take back the tab's own vote, its last one if none is named; the question is null where it cannot be asked."""
    store = opened(place, set)
    undone = store.undo(vote, client=client, id=id)
    progress = counts(store)
    if undone is None:
        return {"status": "nothing", "pair": None, "question": None, "progress": progress}
    pair = pair_id(undone.vote.group, undone.vote.pair)
    _tell(place, set, progress, client, pair)
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
        _tell(place, set, progress, None, None)
    return {"status": status, "progress": progress}


def _settled() -> RefusedError:
    """Its result can be seen at any time, and must not be improved by it."""
    return RefusedError(409, "A blind test keeps its pictures, and each of its votes counts as it was given.")


def _tell(place: Place, set: str, progress: Json, client: str | None, pair: str | None) -> None:
    collecting.tell("voted", place=place, set=set, progress=progress, client=client, pair=pair)
