"""Questions, votes and their history."""

from __future__ import annotations

from typing import Any

from ...dspo_train.preferences import Already, Gone, GroupQuestion, Guide, Outcome, Question
from ...dspo_train.preferences.entries import digits, pair_id
from .. import collecting
from ..collecting import Place
from ..set_tastes import tastes
from .opening import counts, opened
from .refusals import RefusedError

Json = dict[str, Any]

_ALL = 10**9


def upcoming(place: Place, set: str, count: int, skip: frozenset[str], client: str | None, find: str) -> Json:
    store = opened(place, set)
    questions = store.next(count, skip, client=client, find=find, guide=guide_of(place, set, store))
    return {"questions": [shown(it) for it in questions], "progress": counts(store)}


def guide_of(place: Place, set: str, store: collecting.PreferenceStore) -> Guide | None:
    """A blind test asks about everything, in an order that nothing decides."""
    return tastes().guide(set, store) if place == "sets" else None


def shown(it: Question | GroupQuestion) -> Json:
    if isinstance(it, GroupQuestion):
        return {"group": it.group, "prompt": it.prompt, "images": list(it.images)}
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
            "ballot": it.vote.ballot,
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
        raise RefusedError(400, "A win must name the better of the two images; any other answer must name none.")
    if relabel and place == "blind":
        raise _settled()
    store = opened(place, set)
    answer = store.vote(pair, outcome, winner, id=id, client=client, seconds=seconds, relabel=relabel)
    progress = counts(store)
    if isinstance(answer, Gone):
        return {"status": "gone", "vote": None, "progress": progress}
    if isinstance(answer, Already):
        return {"status": "already", "vote": answer.vote.id, "progress": progress}
    announce(place, set, progress, client, pair)
    return {"status": "recorded", "vote": answer.vote.id, "progress": progress}


def undo(place: Place, set: str, client: str, id: str, vote: str | None, earlier: list[str]) -> Json:
    """Undo a vote or ballot of this page, by default its last, or else the last of the browser's earlier pages.

    `pair` is null for a ballot, and the question where it cannot be asked again.
    """
    store = opened(place, set)
    undone = store.undo(vote, client=client, earlier=earlier, id=id)
    progress = counts(store)
    if undone is None:
        return {"status": "nothing", "pair": None, "group": None, "question": None, "progress": progress}
    group, whole = undone.vote.group, undone.vote.ballot is not None
    pair = None if whole else pair_id(group, undone.vote.pair)
    announce(place, set, progress, client, pair, group)
    question = store.question(pair or group)
    return {
        "status": "undone",
        "pair": pair,
        "group": group,
        "question": question and shown(question),
        "progress": progress,
    }


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
        announce(place, set, progress, None)
    return {"status": status, "progress": progress}


def _settled() -> RefusedError:
    """A blind test's result is visible at any time, so votes must not be changed in the light of it."""
    return RefusedError(409, "The images and votes of a blind test cannot be changed.")


def announce(
    place: Place, set: str, progress: Json, client: str | None, pair: str | None = None, group: str | None = None
) -> None:
    """Tell every page; `group` alone where a whole group was judged."""
    group = group or (pair.split(".")[0] if pair else None)
    collecting.send("voted", place=place, set=set, progress=progress, client=client, pair=pair, group=group)
