"""Questions as they are shown: in an order that is drawn once from a secret of the set, and tells nothing."""

from __future__ import annotations

import hmac

from .ballots import MOST_SHOWN
from .entries import ImagePair, digits, pair_id
from .state import GroupState, SetState
from .types import GroupQuestion, Question


def asked_of(state: SetState, group: GroupState, pair: ImagePair) -> tuple[str, Question | GroupQuestion]:
    """The name of the question that an open pair leads to, and the question: on its whole group, or on the pair.

    A group is asked about in pairs where two of its images are left to compare, or more than MOST_SHOWN.
    """
    if 2 < len(group.asked) <= MOST_SHOWN:
        order = sorted(group.asked, key=lambda image: _secret(state, f"{group.entry.id}.{digits(image)}"))
        return group.entry.id, GroupQuestion(group.entry.id, group.entry.prompt, tuple(order))
    question = question_of(state, group, pair)
    return question.pair, question


def question_of(state: SetState, group: GroupState, pair: ImagePair) -> Question:
    name = pair_id(group.entry.id, pair)
    return Question(name, group.entry.id, group.entry.prompt, *sides(state, name, pair))


def sides(state: SetState, name: str, pair: ImagePair) -> ImagePair:
    """(left, right)"""
    return (pair[1], pair[0]) if _secret(state, name)[0] & 1 else pair


def _secret(state: SetState, name: str) -> bytes:
    seed = state.header.seed if state.header else ""
    return hmac.digest(seed.encode(), name.encode(), "sha256")
