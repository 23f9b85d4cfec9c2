"""What is known of the taste behind each set."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from . import collecting

if TYPE_CHECKING:
    from ..dspo_train.taste.current import CurrentTastes


@cache
def tastes() -> CurrentTastes:
    """One of the whole process; made when it is first asked for, as scipy takes a moment to import."""
    from ..dspo_train.taste.current import CurrentTastes

    return CurrentTastes(collecting.stores.get, lambda name, taste: collecting.send("taste", set=name, taste=taste))
