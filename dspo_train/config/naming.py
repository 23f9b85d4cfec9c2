"""The names that a front end gives to settings.

The library's messages write a setting as its dotted name in backticks; the front end that shows a message puts its own
name there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .run import SETTINGS

_QUOTED = re.compile(r"`([a-z]\w*(?:\.\w+)*)`")


def rendered(message: str, names: Mapping[str, str] | None = None) -> str:
    """A message with every known setting under the caller's name.

    Args:
        names: dotted name -> the caller's; a setting without an entry keeps its dotted name. Other text in backticks
            is left alone.

    >>> rendered("lower `data.resolution` or `batch_size`", {"batch_size": "pairs_at_once"})
    'lower data.resolution or pairs_at_once'
    """

    def word(found: re.Match[str]) -> str:
        name, known = found[1], names or {}
        is_setting = name in SETTINGS or name.startswith("objective_args.")
        return known.get(name, name if is_setting else found[0])

    return _QUOTED.sub(word, message)


def names_in_graph() -> dict[str, str]:
    """Names of the nodes' inputs by dotted setting name."""
    return {name: one.shown.name or one.key for name, one in SETTINGS.items() if one.shown is not None}
