"""The seam between a set of images on disk and a run: what can be trained on it, and what a run draws from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from ..config import TrainConfig
from ..exceptions import ConfigError
from ..pairs import Scan
from .bank import Bank
from .encode import Opening, empty_caption, encode_empty
from .encodings import Encodings
from .on_policy import OnPolicySource
from .source import Share, Source

# The seed for which pairs are taken and held out, where they are cropped, and at which draws they are measured, so that
# runs with different seeds are measured alike.
RULER = 0


@dataclass(frozen=True)
class Opened:
    """Training data, encoded and ready to draw from.

    Attributes:
        bank: of the held-out pairs, if there are any.
        size: number of pairs, or of unpaired images, to train on.
        content: hash of all of them, including the held-out ones.
    """

    source: Source[Any] | OnPolicySource
    bank: Bank | None
    size: int
    content: str

    @property
    def encoded(self) -> Source[Any]:
        """What is encoded, where the run draws images of its own too."""
        return self.source.rows if isinstance(self.source, OnPolicySource) else self.source

    def identity(self) -> dict[str, object]:
        """What distinguishes it from other data; recorded with a run."""
        return {"pairs": self.size, "hash": self.content}


class TrainingData(Protocol):
    """A preference set of one kind."""

    def check(self, config: TrainConfig) -> None:
        """Check, without a model, that these settings can train on it.

        Raises:
            ConfigError: they cannot.
            DatasetError: nothing in it is usable.
        """
        ...

    def open(self, config: TrainConfig, opening: Opening) -> Opened:
        """Encode what the cache lacks and prepare to draw.

        Raises:
            DatasetError: an image cannot be decoded.
            ModelError: the VAE gave numbers that are not finite.
        """
        ...


def drawing(config: TrainConfig, opening: Opening) -> dict[str, Any]:
    """The arguments of a `Source` besides its images."""
    encoder, cache = opening.encoder, opening.cache
    return {
        "encodings": Encodings(cache, encoder.scaling, encoder.shift, encoder.frame, empty_caption(encoder, cache)),
        "process": opening.process,
        "data": config.data,
        "seed": config.seed,
        "share": Share(config.batch_size * config.accumulate, config.batch_size, *opening.workers),
        "words_every": config.loss.word_every if config.loss.word_budget is not None else 0,
    }


def encode_rival(prompts: Iterable[str], opening: Opening) -> None:
    """Encode the empty caption if these are all prompts to train on and there is only one: it has nothing else to be
    compared with.
    """
    if len(set(prompts)) < 2:
        encode_empty(opening)


def refuse_wordless(scan: Scan, config: TrainConfig) -> None:
    """
    Raises:
        ConfigError: what the words do is to be held, and there are none.
    """
    if config.loss.word_budget is not None and not any(prompt.strip() for prompt in scan.prompts):
        raise ConfigError(
            f"`loss.word_budget` holds what the words of the prompts do, but none of the {scan.noun} in "
            f"{scan.folder.name} has a prompt; leave it out"
        )
