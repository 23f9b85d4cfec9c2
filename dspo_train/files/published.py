"""Checks of what is written into files that users share: only text, and no path on anybody's disk."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from ..exceptions import LoraFileError

_WORD = r"[\w.@-]+"
_ABSOLUTE = re.compile(
    rf"^/{_WORD}$"  # the whole value is a folder of the root
    rf"|(?:^|[\s\"'=(\[,;])(?:/{_WORD}/{_WORD}|~[/\\]{_WORD}|file:/|[A-Za-z]:[\\/][^\s/]|\\\\[^\\\s]|//[\w.-]+/)"
)


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Refuse values that are not strings, or that reveal a path on somebody's disk.

    Raises:
        LoraFileError: there is such a value; the message gives its key and content.
    """
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise LoraFileError(f"LoRA metadata {key!r} must be text, got {type(value).__name__}")
        for text in (key, *_texts(value)):
            if looks_like_a_path(text):
                raise LoraFileError(
                    f"LoRA metadata {key!r} holds an absolute path, which would be published with the file: "
                    f"{text[:80]!r}; give a name without its folder"
                )


def looks_like_a_path(text: str) -> bool:
    """Would this reveal a path on somebody's disk?"""
    return _ABSOLUTE.search(text) is not None


def _texts(value: str) -> Iterator[str]:
    """The strings in a value: those inside JSON, so that its escapes are not mistaken for a path, or the value."""
    try:
        inner = json.loads(value)
    except ValueError:
        yield value
        return
    waiting = [inner]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            waiting += item
        elif isinstance(item, str):
            yield item
