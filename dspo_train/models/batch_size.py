"""How many images go through a device at once, and what to do if they are too many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest number from 1 to `most` that fits, or 1; whatever is smaller than one that fits must fit too."""
    low, high = 1, max(1, most)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def in_batches(
    items: Sequence[Item],
    size: int,
    work: Callable[[Sequence[Item]], Result],
    out_of_memory: tuple[type[BaseException], ...],
    relieve: Callable[[], None] = lambda: None,
) -> tuple[list[Result], int]:
    """Do the work in batches of at most `size`; a batch that exceeds the memory is halved and tried again.

    Args:
        relieve: called after a failure, once no frame holds the tensors of the failed batch.

    Returns:
        The results, and the size that worked.

    Raises:
        A type of `out_of_memory`: `work` ran out of memory on a single item.
    """
    results: list[Result] = []
    done = 0
    while done < len(items):
        batch = items[done : done + size]
        try:
            results.append(work(batch))
            done += len(batch)
            continue
        except out_of_memory:
            if len(batch) == 1:
                raise
        size = (len(batch) + 1) // 2
        relieve()
    return results, size
