"""Counts in sentences, and long lists cut short."""

from __future__ import annotations

from collections.abc import Sequence


def many(count: int, noun: str) -> str:
    """`1 pair`, `2 pairs`; the noun is given in the singular and takes an s.

    >>> many(1, "image"), many(0, "defect")
    ('1 image', '0 defects')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def shortened(items: Sequence[object], most: int) -> list[str]:
    """The first items as text, and how many more there are.

    >>> shortened("abc", 2)
    ['a', 'b', 'and 1 more']
    """
    shown = [str(item) for item in items[:most]]
    return [*shown, f"and {len(items) - most} more"] if len(items) > most else shown
