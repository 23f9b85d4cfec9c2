"""Choosing among all candidates of a prompt, and what is known of them."""

from __future__ import annotations

from ...dspo_train.preferences import Already, Gone
from ..collecting import Place
from .opening import counts, opened
from .refusals import RefusedError
from .voting import Json, announce, guide_of, shown


def upcoming(place: Place, set: str, count: int, skip: frozenset[str], client: str | None, find: str) -> Json:
    """As `voting.upcoming`, with groups of a few images as one question each."""
    if place == "blind":
        raise _in_pairs()
    store = opened(place, set)
    groups = store.next_groups(count, skip, client=client, find=find, guide=guide_of(place, set, store))
    return {"groups": [shown(it) for it in groups], "progress": counts(store)}


def judge(
    place: Place,
    set: str,
    group: str,
    images: list[str],
    best: list[str],
    bad: list[str],
    skip: bool,
    id: str,
    client: str,
    seconds: float | None,
) -> Json:
    named = [*best, *bad]
    if len(frozenset(named)) < len(named) or not frozenset(named) <= frozenset(images):
        raise RefusedError(400, "A ballot must name each image once, and only images that were shown.")
    if len(frozenset(images)) < max(len(images), 2) or (skip and named):
        raise RefusedError(400, "A ballot is on two different images or more, and one that skips names none of them.")
    if place == "blind":
        raise _in_pairs()
    store = opened(place, set)
    ballot = {"images": images, "best": best, "bad": bad, "skip": skip, "id": id, "client": client, "seconds": seconds}
    answer = store.judge(group, **ballot)
    progress = counts(store)
    if isinstance(answer, Gone):
        return {"status": "gone", "ballot": None, "progress": progress}
    if isinstance(answer, Already):
        return {"status": "already", "ballot": answer.vote.ballot or answer.vote.id, "progress": progress}
    announce(place, set, progress, client, group=group)
    return {"status": "recorded", "ballot": answer.ballot, "progress": progress}


def about(place: Place, set: str, group: str) -> Json:
    """Seeds and settings of a group's images: never of a blind test's."""
    if place == "blind":
        raise RefusedError(409, "What drew the images of a blind test stays hidden.")
    found = next((it for it in opened(place, set).groups() if it.id == group), None)
    if found is None:
        raise RefusedError(404, "This group is not in the set.")
    return {"images": [{"image": it.image, "seed": it.seed} for it in found.images], "settings": {**found.settings}}


def _in_pairs() -> RefusedError:
    return RefusedError(409, "A blind test is voted on in pairs.")
