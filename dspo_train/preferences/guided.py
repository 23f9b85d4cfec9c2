"""Open questions in the order that a guide gives, with a share of them in which it has no say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from itertools import chain, count
from typing import Literal, NamedTuple, Protocol

from ..files import digest
from .asking import asked_whole, at_random
from .entries import ImagePair, pair_id
from .groups import GroupState
from .state import SetState
from .turns import upcoming, waiting

SHARE = 4
"""One question of so many is asked at random: an estimate made on questions that were chosen to be hard is too low."""
_TOGETHER = 8
"""Of so many that tell about the same, each client begins with another, so that two seldom get the same question."""


class Guide(Protocol):
    """Knows which answers would tell most."""

    @property
    def clicks(self) -> int:
        """`PreferenceStore.clicks` when it was made; it knows nothing of later ones."""
        ...

    def worth(self, pair: ImagePair) -> float:
        """How much an answer on the pair would tell: the more the higher; negative where it is asked last."""
        ...


class Asked(NamedTuple):
    """An open question. `led`: the guide chose it, so its answer says nothing about how hard questions are."""

    group: GroupState
    pair: ImagePair
    led: bool


class _Item(NamedTuple):
    name: str  # of the question
    group: GroupState
    pair: ImagePair  # of a whole group, the first that is open
    worth: float


_Part = Literal["random", "led", "last"]


def in_order(
    state: SetState, guide: Guide | None, shown: Collection[str], client: str | None, find: str, *, whole: bool
) -> Iterator[Asked]:
    """As `upcoming`; with a guide, one question of SHARE from its random share, else what tells most first.

    The share follows from the set's secret: of groups where they are asked whole, else of pairs. Each group has its
    turn before any has a second one, as without a guide; one that was answered since the guide was made has had one.

    Args:
        whole: groups of a few images are asked as one question each.
    """
    if guide is None:
        yield from (Asked(group, pair, False) for group, pair in upcoming(state, shown, client, find))
        return
    parts = _Parts(state, guide, whole)
    drawn = upcoming(state, shown, client, find, lambda group: parts.of(group, "random"))
    ordinary = (Asked(group, pair, False) for group, pair in drawn)
    led = _led(state, parts, shown, client, find)
    for place in count(len(state.clicks) + len(shown) + 1):
        first, second = (led, ordinary) if place % SHARE else (ordinary, led)
        found = next(chain(first, second), None)
        if found is None:
            break
        yield found
    last = upcoming(state, shown, client, find, lambda group: parts.of(group, "last"))
    yield from (Asked(group, pair, True) for group, pair in last)


class _Parts:
    """Which of a group's open questions are asked at random, which are led by the guide, and which come last."""

    def __init__(self, state: SetState, guide: Guide, whole: bool) -> None:
        self.state, self.guide, self.whole = state, guide, whole
        self._known: dict[str, dict[_Part, list[_Item]]] = {}

    def of(self, group: GroupState, part: _Part) -> list[ImagePair]:
        return [item.pair for item in self.items(group, part)]

    def items(self, group: GroupState, part: _Part) -> list[_Item]:
        name = group.entry.id
        if name not in self._known:
            self._known[name] = {"random": [], "led": [], "last": []}
            for item in self._items(group):
                drawn = at_random(self.state, item.name, SHARE)
                self._known[name]["last" if item.worth < 0 else "random" if drawn else "led"].append(item)
        return self._known[name][part]

    def _items(self, group: GroupState) -> list[_Item]:
        name = group.entry.id
        worths = [self.guide.worth(pair) for pair in group.open]
        if self.whole and asked_whole(group):
            telling = [worth for worth in worths if worth >= 0]
            return [_Item(name, group, group.open[0], sum(telling) / len(worths) if telling else -1.0)]
        return [_Item(pair_id(name, it), group, it, worth) for it, worth in zip(group.open, worths, strict=True)]


def _led(state: SetState, parts: _Parts, shown: Collection[str], client: str | None, find: str) -> Iterator[Asked]:
    had = Counter(name.split(".", 1)[0] for name in shown) + Counter(state.clicks[parts.guide.clicks :])
    groups = waiting(state, shown, find)
    few = max(1, _TOGETHER // max(1, len(groups)))
    turns: list[tuple[int, Iterator[_Item]]] = []
    for group in groups:
        free = [item for item in parts.items(group, "led") if item.name not in shown]
        turns.append((had[group.entry.id], _ranked(free, client, few)))
    for turn in count():
        drawn = [next(items, None) if late <= turn else None for late, items in turns]
        for item in _ranked([item for item in drawn if item is not None], client, _TOGETHER):
            yield Asked(item.group, item.pair, True)
        turns = [it for it, item in zip(turns, drawn, strict=True) if item is not None or it[0] > turn]
        if not turns:
            return


def _ranked(items: list[_Item], client: str | None, few: int) -> Iterator[_Item]:
    """What tells most first. Of a few that tell at least half as much as the best of them, a client takes any first."""
    order = sorted(items, key=lambda item: -item.worth)
    place = 0
    while place < len(order):
        near = [item for item in order[place : place + few] if item.worth >= order[place].worth / 2]
        yield from near if client is None else sorted(near, key=lambda item: digest(client, item.name))
        place += len(near)
