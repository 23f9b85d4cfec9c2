"""What the owner of a run should know: logged once, and kept for the front end."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

log = logging.getLogger("dspo")


@dataclass
class Notes:
    """The warnings of one run, in order.

    Attributes:
        main: whether this process speaks; of several, one does.
    """

    main: bool = True
    texts: list[str] = field(default_factory=list)

    def __call__(self, text: str) -> None:
        if self.main:
            log.warning("%s", text)
        self.texts.append(text)
