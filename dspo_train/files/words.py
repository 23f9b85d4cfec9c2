"""Counts in sentences."""

from __future__ import annotations


def many(count: int, noun: str) -> str:
    """`1 pair`, `2 pairs`; the noun is given in the singular and takes an s.

    >>> many(1, "image"), many(0, "defect")
    ('1 image', '0 defects')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
