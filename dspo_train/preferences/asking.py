"""Questions as they are shown: in an order that is drawn once from a secret of the set, and tells nothing."""

from __future__ import annotations

import hmac
from functools import lru_cache

from .ballots import MOST_SHOWN
from .entries import ImagePair, digits, pair_id
from .groups import GroupState
from .state import SetState
from .types import GroupQuestion, Question


def asked_of(state: SetState, group: GroupState, pair: ImagePair) -> tuple[str, Question | GroupQuestion]:
    """The name of the question that an open pair leads to, and the question: on its whole group, or on the pair.

    A group is asked about in pairs where two of its images are left to compare, or more than MOST_SHOWN.
    """
    if asked_whole(group):
        order = sorted(group.asked, key=lambda image: _secret(state, f"{group.entry.id}.{digits(image)}"))
        return group.entry.id, GroupQuestion(group.entry.id, group.entry.prompt, tuple(order))
    question = question_of(state, group, pair)
    return question.pair, question


def asked_whole(group: GroupState) -> bool:
    return 2 < len(group.asked) <= MOST_SHOWN


def at_random(state: SetState, name: str, share: int) -> bool:
    """Is the question of that name among one of `share` that are drawn once for the set?"""
    return _drawn(state.header.seed if state.header else "", name, share)


def question_of(state: SetState, group: GroupState, pair: ImagePair) -> Question:
    name = pair_id(group.entry.id, pair)
    return Question(name, group.entry.id, group.entry.prompt, *sides(state, name, pair))


def sides(state: SetState, name: str, pair: ImagePair) -> ImagePair:
    """(left, right)"""
    return (pair[1], pair[0]) if _secret(state, name)[0] & 1 else pair


def _secret(state: SetState, name: str) -> bytes:
    return _digest(state.header.seed if state.header else "", name)


def _digest(seed: str, name: str) -> bytes:
    return hmac.digest(seed.encode(), name.encode(), "sha256")


@lru_cache(maxsize=1 << 16)  # asked of every open question, whenever the next one is chosen
def _drawn(seed: str, name: str, share: int) -> bool:
    return int.from_bytes(_digest(seed, f"{name}.random")[:4], "big") % share == 0
