"""What is drawn in each round of the loop: seeds that were not drawn before, and the prompts whose turn it is."""

from __future__ import annotations

from collections.abc import Sequence

SEEDS = 2**64


def seeds_of_round(first: int, count: int, round: int) -> list[int]:
    """The seeds of a round, from 1 up: `count` of them, beginning where the round before ended."""
    return seeds_from(first + (round - 1) * count, count)


def seeds_from(first: int, count: int) -> list[int]:
    """`count` seeds counted up from the first; after the largest comes 0."""
    return [(first + n) % SEEDS for n in range(count)]


def prompts_of_round(prompts: Sequence[str], count: int, round: int) -> list[str]:
    """The next `count` prompts of a round, from 1 up, beginning again after the last; all of them for 0."""
    if not count or count >= len(prompts):
        return list(prompts)
    start = (round - 1) * count
    return [prompts[(start + n) % len(prompts)] for n in range(count)]
