"""Warnings for the user of a run: logged once, and kept for the front end."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

log = logging.getLogger("dspo")


@dataclass
class Notes:
    """The warnings of one run, in order.

    Attributes:
        main: whether this process logs them; one of several does.
    """

    main: bool = True
    texts: list[str] = field(default_factory=list)

    def __call__(self, text: str) -> None:
        if self.main:
            log.warning("%s", text)
        self.texts.append(text)
