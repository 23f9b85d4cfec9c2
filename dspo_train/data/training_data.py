"""The seam between a set of images on disk and a training: what can be trained on it, and what a run draws from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from ..config import TrainConfig
from .bank import Bank
from .encode import Opening, empty_caption
from .encodings import Encodings
from .source import Share, Source

# The seed of which pairs are taken, cropped where and held out, and of the draws they are measured at: runs of
# different seeds are measured alike.
RULER = 0


@dataclass(frozen=True)
class Opened:
    """Training data, encoded and ready to be drawn from.

    Attributes:
        bank: of the held-out pairs, where some are.
        size: pairs, or images without partners, that the training draws from.
        content: hash of all of them, the held-out ones too.
    """

    source: Source
    bank: Bank | None
    size: int
    content: str

    def identity(self) -> dict[str, object]:
        """What tells it from other data; recorded with a run."""
        return {"pairs": self.size, "hash": self.content}


class TrainingData(Protocol):
    """A set of one kind."""

    def check(self, config: TrainConfig) -> None:
        """Can these settings train on it? No model is needed to tell.

        Raises:
            ConfigError: they cannot.
            DatasetError: nothing in it is usable.
        """
        ...

    def open(self, config: TrainConfig, opening: Opening) -> Opened:
        """Encode what the cache lacks and make ready to draw.

        Raises:
            DatasetError: an image that cannot be decoded.
            ModelError: the VAE gave numbers that are not finite.
        """
        ...


def drawing(config: TrainConfig, opening: Opening) -> dict[str, Any]:
    """What a `Source` is given besides its images."""
    encoder, cache = opening.encoder, opening.cache
    return {
        "encodings": Encodings(cache, encoder.scaling, encoder.shift, encoder.frame, empty_caption(encoder, cache)),
        "process": opening.process,
        "data": config.data,
        "seed": config.seed,
        "share": Share(config.batch_size * config.accumulate, config.batch_size, *opening.workers),
    }
