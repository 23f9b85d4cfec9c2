"""What a ballot means: a choice among all candidates of a prompt, as votes on their pairs. Pure functions."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..exceptions import DatasetError
from .entries import ImagePair, Outcome, Vote, canonical

MOST_SHOWN = 9
"""Candidates on one ballot: more are too small on a screen, and have no key of their own."""


class Statement(NamedTuple):
    """What a ballot says about one pair."""

    pair: ImagePair
    outcome: Outcome
    winner: str | None
    bad: tuple[str, ...]


def statements(images: Sequence[str], best: Sequence[str] = (), bad: Iterable[str] = ()) -> list[Statement]:
    """The pairs that a choice among images judges.

    Each of `best` beats those after it and all that are not in it; whatever is not bad beats what is. Two bad images
    are both bad. Nothing is said about two that are neither, unless nothing was chosen at all: then none is better.

    Args:
        images: those that were shown.
        best: in order, the best first.

    Raises:
        DatasetError: an image that was not shown, or is named twice, or an empty choice of fewer than two.

    >>> [(it.pair, it.winner) for it in statements("abc", best="b")]
    [(('a', 'b'), 'b'), (('b', 'c'), 'b')]
    >>> [(it.pair, it.outcome) for it in statements("abc", bad="bc")]
    [(('a', 'b'), 'win'), (('a', 'c'), 'win'), (('b', 'c'), 'bad')]
    """
    bad = tuple(bad)
    check_choice(images, best, bad)
    rank = dict.fromkeys(images, len(best))
    rank.update(dict.fromkeys(bad, len(best) + 1))
    rank.update((image, place) for place, image in enumerate(best))
    found = []
    for a, b in itertools.combinations(images, 2):
        pair, marked = canonical(a, b), tuple(sorted({a, b} & {*bad}))
        if rank[a] != rank[b]:
            found.append(Statement(pair, "win", a if rank[a] < rank[b] else b, marked))
        elif marked:
            found.append(Statement(pair, "bad", None, marked))
        elif not best and not bad:
            found.append(Statement(pair, "tie", None, ()))
    return found


def passed(images: Sequence[str]) -> list[Statement]:
    """A ballot that gives no answer: every pair is skipped."""
    return [Statement(canonical(a, b), "skip", None, ()) for a, b in itertools.combinations(images, 2)]


def check_choice(images: Sequence[str], best: Sequence[str], bad: Sequence[str]) -> None:
    """
    Raises:
        DatasetError: see `statements`.
    """
    named = [*best, *bad]
    if len({*images}) < max(len(images), 2):
        raise DatasetError(f"a ballot is on two different images or more, but {len(images)} are named")
    if len({*named}) < len(named):
        raise DatasetError("a ballot names an image twice; each is among the best or the bad once")
    if unknown := [image for image in named if image not in images]:
        raise DatasetError(f"a ballot names {unknown[0]!a}, which is not among the images shown")


def liked_and_disliked(votes: Sequence[Vote]) -> tuple[set[str], set[str]]:
    """The images that the votes of one ballot, or a single vote, call good and bad by themselves.

    Bad is what was marked bad. Only where something was, the others are known to be good: those that no other beat.
    """
    disliked = {image for vote in votes for image in (vote.pair if vote.outcome == "bad" else vote.bad)}
    if not disliked:
        return set(), set()
    beaten = {image for vote in votes if vote.winner for image in vote.pair if image != vote.winner}
    won = {vote.winner for vote in votes if vote.winner}
    return won - beaten - disliked, disliked
