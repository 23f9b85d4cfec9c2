"""Labelled pairs as training data: which are used, with which labels, and which are held out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from .. import files
from ..config import DataSpec, TrainConfig
from ..images.buckets import make_buckets, nearest_bucket
from ..pairs import PreferencePair, Scan
from . import draws
from .bank import Bank
from .encode import Opening, Wanted, encode_wanted
from .pair_source import EncodedPair, PairSource
from .split import normalised, split
from .training_data import RULER, Opened, drawing, encode_rival, refuse_wordless


@dataclass(frozen=True)
class PairedData:
    """Implements `training_data.TrainingData`."""

    scan: Scan

    def check(self, config: TrainConfig) -> None:
        """See `TrainingData.check`."""
        self.scan.usable()
        refuse_wordless(self.scan, config)
        if config.held_out.share:
            split(self.scan.prompts, config.held_out.share, RULER)

    def open(self, config: TrainConfig, opening: Opening) -> Opened:
        """See `TrainingData.open`."""
        pairs = _chosen(self.scan.pairs, config)
        encoded = encode_pairs(pairs, config.data, opening)
        source = PairSource(pairs=encoded, **drawing(config, opening))
        content = files.digest(*(pair.content for pair in encoded))
        if not config.held_out.share:
            encode_rival((pair.prompt for pair in pairs), opening)
            return Opened(source, None, len(encoded), content)
        train, hold = split([pair.prompt for pair in pairs], config.held_out.share, RULER)
        encode_rival((pairs[i].prompt for i in train), opening)
        trained, held = tuple(encoded[i] for i in train), tuple(encoded[i] for i in hold)
        bank = Bank(dataclasses.replace(source, pairs=held, seed=RULER), config.held_out.draws)
        return Opened(dataclasses.replace(source, pairs=trained), bank, len(trained), content)


def encode_pairs(
    pairs: Sequence[PreferencePair], data: DataSpec, opening: Opening, *, seed: int = RULER
) -> list[EncodedPair]:
    """Encode what the cache lacks and return where everything is.

    Args:
        seed: for the place of random crops.

    Raises:
        DatasetError, ModelError: see `encode_wanted`.
    """
    buckets = make_buckets(data.resolution, data.bucket_step, data.max_aspect)
    wanted = [
        Wanted(
            pair.key,
            pair.prompt,
            (pair.winner, pair.loser),
            pair.winner_size,
            nearest_bucket(*pair.winner_size, buckets),
        )
        for pair in pairs
    ]
    found = encode_wanted(wanted, opening, data, seed=seed)
    return [
        EncodedPair(
            key=item.key,
            content=files.digest(item.key, item.prompt, *encoded.hashes, *([pair.doubt] if pair.doubt else [])),
            bucket=item.bucket,
            winner=encoded.images[0],
            loser=encoded.images[1],
            caption=encoded.caption,
            frame=encoded.frame,
            doubt=pair.doubt,
            prompt=pair.prompt,
        )
        for pair, item, encoded in zip(pairs, wanted, found, strict=True)
    ]


def _chosen(pairs: Sequence[PreferencePair], config: TrainConfig) -> list[PreferencePair]:
    """The pairs that the settings select, labelled as they say."""
    taken = one_per_prompt(pairs, RULER) if config.data.one_per_prompt else list(pairs)
    return [_swapped(pair) for pair in taken] if config.labels == "swapped" else taken


def one_per_prompt(pairs: Sequence[PreferencePair], seed: int) -> list[PreferencePair]:
    """One pair per prompt, in the order given: the one whose hash of seed and key is smallest.

    DSPO-nodup (Zhu et al., ICLR 2025, appendix) keeps a random pair of each prompt; here the choice depends only on the
    seed and the prompt's own pairs, so that adding a pair does not change the choice for other prompts.
    """
    first: dict[str, PreferencePair] = {}
    for pair in sorted(pairs, key=lambda pair: draws.number(seed, "one per prompt", pair.key)):
        first.setdefault(normalised(pair.prompt), pair)
    kept = {pair.key for pair in first.values()}
    return [pair for pair in pairs if pair.key in kept]


def _swapped(pair: PreferencePair) -> PreferencePair:
    return dataclasses.replace(
        pair, winner=pair.loser, loser=pair.winner, winner_size=pair.loser_size, loser_size=pair.winner_size
    )
