"""What settings are called where a person changes them.

Messages of the library write a setting as its dotted name in backticks; the front end that shows a message puts its
own words there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .run import SETTINGS

_QUOTED = re.compile(r"`([a-z]\w*(?:\.\w+)*)`")


def rendered(message: str, names: Mapping[str, str] | None = None) -> str:
    """The message with every known setting in the caller's words.

    Args:
        names: dotted name to the caller's; a setting that is not in it keeps its dotted name. Whatever else stands
            in backticks is left as it is.

    >>> rendered("lower `data.resolution` or `batch_size`", {"batch_size": "pairs_at_once"})
    'lower data.resolution or pairs_at_once'
    """

    def word(found: re.Match[str]) -> str:
        name, known = found[1], names or {}
        is_setting = name in SETTINGS or name.startswith("objective_args.")
        return known.get(name, name if is_setting else found[0])

    return _QUOTED.sub(word, message)


def names_in_graph() -> dict[str, str]:
    """The inputs of the nodes that offer settings, by the settings' dotted names."""
    return {name: one.shown.name or one.key for name, one in SETTINGS.items() if one.shown is not None}
