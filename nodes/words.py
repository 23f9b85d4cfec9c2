"""What the library's settings are called on the nodes."""

from __future__ import annotations

import re
from collections.abc import Mapping

WORDS: Mapping[str, str] = {
    "batch_size": "pairs_at_once",
    "data.resolution": "resolution",
    "lora.rank": "rank",
    "lora.targets": "targets",
    "previews": "preview_every",
}


def render(text: str) -> str:
    """A message of the library with the settings in it, which stand in backticks, in the nodes' words."""
    return re.sub(r"`([a-z_.]+)`", lambda match: WORDS.get(match[1], match[1]), text)
