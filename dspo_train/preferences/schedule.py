"""Which pairs of a group are asked. Pure functions: the same votes and seed give the same questions.

all         every image against every other: n (n - 1) / 2 questions
neighbours  each image against the next: n - 1
swiss       ceil(log2 n) rounds of floor(n / 2); images of equal score meet, and none meet twice
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Protocol

from ..files import digest
from .entries import ImagePair, Outcome, QuestionSchedule, canonical

_SCORES: dict[Outcome, float] = {"win": 1.0, "tie": 0.5, "skip": 0.0, "bad": 0.0}
_TRIES = 2000
"""A matching is found at once unless undone votes and removed images left an unusual history."""


class Answer(Protocol):
    """What a schedule needs to know about a vote."""

    @property
    def outcome(self) -> Outcome: ...
    @property
    def winner(self) -> str | None: ...


Answers = Mapping[ImagePair, Answer]


def expected(schedule: QuestionSchedule, count: int) -> int:
    """How many questions `count` images lead to in all.

    >>> [expected(kind, 5) for kind in ("all", "neighbours", "swiss")]
    [10, 4, 6]
    """
    if count < 2:
        return 0
    return {"all": count * (count - 1) // 2, "neighbours": count - 1, "swiss": _rounds(count) * (count // 2)}[schedule]


def questions(schedule: QuestionSchedule, images: Sequence[str], answers: Answers, seed: str) -> list[ImagePair]:
    """The pairs to ask now, in order.

    Args:
        answers: the vote that counts on each pair, in the order in which the pairs were first answered.
        seed: breaks ties between images of equal score.
    """
    if len(images) < 2:
        return []
    if schedule == "swiss":
        return _swiss(images, answers, seed)
    planned = _every_pair(images) if schedule == "all" else map(canonical, images, images[1:])
    return [pair for pair in planned if pair not in answers]


def _every_pair(images: Sequence[str]) -> Iterator[ImagePair]:
    """All pairs in rounds of a circle: each image is shown once before any is shown again."""
    seats: list[str | None] = [*images, *[None] * (len(images) % 2)]
    half = len(seats) // 2
    for _ in range(len(seats) - 1):
        for a, b in zip(seats[:half], reversed(seats[half:]), strict=True):
            if a is not None and b is not None:
                yield canonical(a, b)
        seats = [seats[0], seats[-1], *seats[1:-1]]


def _rounds(count: int) -> int:
    return (count - 1).bit_length()


def _swiss(images: Sequence[str], answers: Answers, seed: str) -> list[ImagePair]:
    """The open pairs of the first round that has any.

    Rounds are not recorded: an answered pair belongs to the first round in which neither image had met
    another. So changing a vote later never wastes other answers; only what is still free is paired anew.
    """
    played, gains = _played(images, answers)
    scores = dict.fromkeys(images, 0.0)
    for number, seen in enumerate(played):
        order = sorted(images, key=partial(_rank, scores, seed, number))
        free = [image for image in order if image not in seen]
        rested = {image for image in free if any(image not in earlier for earlier in played[:number])}
        pairs = _match(free, rested, answers)
        if pairs:
            return pairs
        for image, gain in gains[number].items():
            scores[image] += gain
    return []


def _played(images: Sequence[str], answers: Answers) -> tuple[list[set[str]], list[dict[str, float]]]:
    """For each round, the images that have met another and what each scored."""
    played: list[set[str]] = [set() for _ in range(_rounds(len(images)))]
    gains: list[dict[str, float]] = [{} for _ in played]
    for (a, b), answer in answers.items():
        number = next((n for n, seen in enumerate(played) if a not in seen and b not in seen), None)
        if number is not None:
            played[number].update((a, b))
            gains[number].update({image: _score(answer, image) for image in (a, b)})
    return played, gains


def _rank(scores: Mapping[str, float], seed: str, number: int, image: str) -> tuple[float, str]:
    return -scores[image], digest(seed, number, image)


def _score(answer: Answer, image: str) -> float:
    return 0.0 if answer.outcome == "win" and answer.winner != image else _SCORES[answer.outcome]


def _match(order: Sequence[str], rested: Iterable[str], answers: Answers) -> list[ImagePair]:
    """Pair the best with the next best it has not met, and so on; of an odd number, one that has not rested yet rests.

    This takes the first complete pairing in the order of scores. Taking answered pairs away leaves the rest of it
    the first again, so the questions of a round stay the same while it is answered.
    """
    seats: list[str] = [*order, *[""] * (len(order) % 2)]  # "" is the rest
    unfit = {*rested}

    def may_meet(a: str, b: str) -> bool:
        return a not in unfit if b == "" else canonical(a, b) not in answers

    found = _complete(seats, may_meet, iter(range(_TRIES)))
    pairs = _greedy(list(order), may_meet) if found is None else found
    return [canonical(a, b) for a, b in pairs if b]


def _complete(seats: list[str], may_meet: Callable[[str, str], bool], tries: Iterator[int]) -> list[ImagePair] | None:
    if not seats:
        return []
    first, *others = seats
    for place, other in enumerate(others):
        if may_meet(first, other):
            if next(tries, None) is None:
                return None
            rest = _complete([*others[:place], *others[place + 1 :]], may_meet, tries)
            if rest is not None:
                return [(first, other), *rest]
    return None


def _greedy(order: list[str], may_meet: Callable[[str, str], bool]) -> list[ImagePair]:
    pairs: list[ImagePair] = []
    while order:
        first = order.pop(0)
        other = next((image for image in order if may_meet(first, image)), None)
        if other is not None:
            order.remove(other)
            pairs.append((first, other))
    return pairs
