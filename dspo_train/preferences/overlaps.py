"""Groups of one prompt that share images: the same two are asked about and counted once."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from .entries import ImagePair, Vote, canonical
from .groups import GroupState

_PASSED = Vote("-", "-", "-", ("", ""), "skip")
"""Stands for a pair that a ballot in another group left open: seen, and not to be asked again."""


def join(group: GroupState, near: Iterable[GroupState]) -> None:
    """Make a new group known to those of its prompt that share two of its images, and them to it."""
    for other in sorted(near, key=lambda it: it.position):
        if other.entry.prompt == group.entry.prompt:
            group.family.insert(-1, other)
            other.family.append(group)


def reach(groups: Iterable[GroupState]) -> list[GroupState]:
    """The groups, and all whose questions may depend on theirs."""
    found: dict[str, GroupState] = {}
    waiting = list(groups)
    while waiting:
        group = waiting.pop()
        if group.entry.id not in found:
            found[group.entry.id] = group
            waiting += group.family
    return list(found.values())


def elsewhere(group: GroupState) -> dict[ImagePair, Vote | None]:
    """The pairs that are another group's to ask and count, with the vote that settles each, None where it is open.

    Judged in several groups, a pair is the first one's. Open in several, too. What a ballot leaves open was seen.
    """
    found: dict[ImagePair, Vote | None] = {}
    present = {*group.present}
    for other in group.family:
        if other is group:
            continue
        first = other.position < group.position
        shared = [image for image in other.present if image in present]
        for pair in itertools.starmap(canonical, itertools.combinations(shared, 2)):
            own = group.answers.get(pair)
            vote = other.answers.get(pair)
            if vote is not None and (first or own is None):
                if found.get(pair) in (None, _PASSED):
                    found[pair] = vote
            elif own is None and other.closed and not group.closed:
                if found.get(pair) is None:
                    found[pair] = _PASSED
            elif own is None and first and pair in other.open:
                found.setdefault(pair, None)
    return found
