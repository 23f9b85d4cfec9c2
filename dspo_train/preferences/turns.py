"""Whose turn it is: the order in which open questions come."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from functools import partial
from operator import attrgetter

from ..files import digest
from .entries import ImagePair, pair_id
from .groups import GroupState
from .state import SetState


def upcoming(
    state: SetState,
    shown: Collection[str],
    client: str | None = None,
    find: str = "",
    pairs: Callable[[GroupState], list[ImagePair]] = attrgetter("open"),
) -> Iterator[tuple[GroupState, ImagePair]]:
    """Open questions that are not being shown: one of each group in turn, from the group after the last vote's.

    A group with questions on show has had its turn for as many rounds. A client takes the groups, and the pairs of
    each, in an order of its own and continues after its own last vote, so that two seldom get the same question.

    Args:
        shown: names of pairs, and of groups that are shown whole.
        find: only of prompts that hold this text, in any case.
        pairs: those of a group's open pairs to ask about.
    """
    pending = Counter(name.split(".", 1)[0] for name in shown)
    due = {group.entry.id for group in waiting(state, shown, find)}
    turn = [group for group in _turn(state, client) if group.entry.id in due]
    free: dict[str, list[ImagePair]] = {}  # of the groups that had their first turn
    level = 0
    while turn:
        deeper: list[GroupState] = []
        for group in turn:
            name, late = group.entry.id, pending[group.entry.id]
            if name not in free:
                order = pairs(group) if client is None else sorted(pairs(group), key=partial(digest, client))
                free[name] = [pair for pair in order if not late or pair_id(name, pair) not in shown]
            if late <= level < late + len(free[name]):
                yield group, free[name][level - late]
            if level + 1 < late + len(free[name]):
                deeper.append(group)
        turn, level = deeper, level + 1


def waiting(state: SetState, shown: Collection[str], find: str = "") -> list[GroupState]:
    """The groups with open questions that are not shown whole, of prompts that hold a text, in the file's order."""
    find = find.casefold()
    return [it for it in state.asking() if it.entry.id not in shown and find in it.entry.prompt.casefold()]


def _turn(state: SetState, client: str | None) -> list[GroupState]:
    """The groups with open questions, those after the last vote's first."""
    place = _place_of(client)
    groups = sorted(state.asking(), key=place)
    last = state.last_group(client)
    start = bisect.bisect_right(groups, place(last), key=place) if last else 0
    return [*groups[start:], *groups[:start]]


def _place_of(client: str | None) -> Callable[[GroupState], tuple[str, int]]:
    """A group's place in the file, or in a client's own order."""
    return lambda group: ("" if client is None else digest(client, group.entry.id), group.position)
