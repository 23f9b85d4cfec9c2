"""A note to whoever runs a graph: in the console, and on the node."""

from __future__ import annotations

import logging

from server import PromptServer

log = logging.getLogger("dspo")


def note(text: str, node_id: str) -> None:
    """`text`: a sentence without its full stop."""
    log.warning(text)
    PromptServer.instance.send_progress_text(f"Note: {text}", node_id)
