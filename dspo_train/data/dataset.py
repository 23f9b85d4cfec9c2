"""What a run trains on, encoded, and the pairs held out to measure it on."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from accelerate import Accelerator

from .. import files, objectives
from ..config import TrainConfig
from ..exceptions import ConfigError
from ..models.base import Base
from ..pairs import Opinion, OpinionScan, PreferencePair
from ..pairs.any_folder import Scan
from ..training.held_out import Bank
from . import draws
from .batches import PairSource
from .cache import EncodedPair, EncodingCache, Progress, empty_caption, encode_pairs
from .split import normalised, split
from .unpaired import UnpairedSource, encode_opinions

# The seed of which pairs are taken, cropped where and held out, and of the draws they are measured at: runs of
# different seeds are measured alike.
_RULER = 0


@dataclass(frozen=True)
class Dataset:
    """What is drawn from, and how much of it there is.

    Attributes:
        bank: of the held-out pairs, where some are.
        trained: pairs, or pictures without partners, that the training draws from.
        content: hash of all of them, the held-out ones too.
    """

    source: PairSource | UnpairedSource
    bank: Bank | None
    trained: int
    content: str


def prompts(scan: Scan) -> Iterator[str]:
    """Of each pair, or of each picture without a partner."""
    for item in scan.usable():
        yield item.prompt


def check(config: TrainConfig, scan: Scan) -> None:
    """Can these settings train on this folder?

    Raises:
        ConfigError: they cannot.
        DatasetError: nothing in the folder is fit for training.
    """
    objectives.check(config, unpaired=isinstance(scan, OpinionScan))
    pairs = scan.usable()
    if isinstance(scan, OpinionScan):
        for name, given in (
            ("held_out.share", config.held_out.share),
            ("data.one_per_prompt", config.data.one_per_prompt),
        ):
            if given:
                raise ConfigError(f"`{name}` needs pairs, and {scan.folder.name} holds images without; leave it out")
    elif config.held_out.share:
        split([pair.prompt for pair in pairs], config.held_out.share, _RULER)


def encode(
    scan: Scan, config: TrainConfig, base: Base, cache: EncodingCache, accelerator: Accelerator, on_progress: Progress
) -> Dataset:
    """Encode what the cache lacks and make ready to draw.

    Raises:
        ConfigError, DatasetError, ModelError: see `check`, `encode_pairs` and `encode_opinions`.
    """
    share = (accelerator.process_index, accelerator.num_processes)
    settings = _settings(config, base, cache, accelerator)
    if isinstance(scan, OpinionScan):
        taken = _swapped_opinions(scan) if config.labels == "swapped" else scan
        opinions = encode_opinions(
            taken, base.encoder, cache, config.data, seed=_RULER, share=share, on_progress=on_progress
        )
        content = files.digest(*(opinion.content for opinion in opinions))
        return Dataset(UnpairedSource(opinions, **settings), None, len(opinions), content)
    pairs = _chosen(scan.usable(), config)
    encoded = encode_pairs(pairs, base.encoder, cache, config.data, seed=_RULER, share=share, on_progress=on_progress)
    return _paired(pairs, encoded, config, settings)


def _chosen(pairs: Sequence[PreferencePair], config: TrainConfig) -> list[PreferencePair]:
    """The pairs that the settings ask for, with the labels that they ask for."""
    taken = one_per_prompt(pairs, _RULER) if config.data.one_per_prompt else list(pairs)
    return [_swapped_pair(pair) for pair in taken] if config.labels == "swapped" else taken


def one_per_prompt(pairs: Sequence[PreferencePair], seed: int) -> list[PreferencePair]:
    """One pair of each prompt, in the order given: the one that comes first when each draws a number by its own name.

    DSPO-nodup (Zhu et al., ICLR 2025, appendix) keeps a random pair of each prompt; here the choice depends on the
    seed and on nothing else, so that another pair in the folder leaves the others' as they were.
    """
    first: dict[str, PreferencePair] = {}
    for pair in sorted(pairs, key=lambda pair: draws.number(seed, "one per prompt", pair.key)):
        first.setdefault(normalised(pair.prompt), pair)
    kept = {pair.key for pair in first.values()}
    return [pair for pair in pairs if pair.key in kept]


def _swapped_pair(pair: PreferencePair) -> PreferencePair:
    return dataclasses.replace(
        pair, winner=pair.loser, loser=pair.winner, winner_size=pair.loser_size, loser_size=pair.winner_size
    )


def _swapped_opinions(scan: OpinionScan) -> OpinionScan:
    def other(opinions: Sequence[Opinion]) -> tuple[Opinion, ...]:
        return tuple(dataclasses.replace(opinion, liked=not opinion.liked) for opinion in opinions)

    return dataclasses.replace(scan, liked=other(scan.disliked), disliked=other(scan.liked))


def _paired(
    pairs: Sequence[PreferencePair], encoded: Sequence[EncodedPair], config: TrainConfig, settings: dict[str, Any]
) -> Dataset:
    source = PairSource(encoded, **settings)
    content = files.digest(*(pair.content for pair in encoded))
    if not config.held_out.share:
        return Dataset(source, None, len(encoded), content)
    train, hold = split([pair.prompt for pair in pairs], config.held_out.share, _RULER)
    trained, held = tuple(encoded[i] for i in train), tuple(encoded[i] for i in hold)
    bank = Bank(dataclasses.replace(source, pairs=held, seed=_RULER), config.held_out.draws)
    return Dataset(dataclasses.replace(source, pairs=trained), bank, len(trained), content)


def _settings(config: TrainConfig, base: Base, cache: EncodingCache, accelerator: Accelerator) -> dict[str, Any]:
    """What a source is told beside its pictures."""
    return {
        "cache": cache,
        "noise": base.noise,
        "data": config.data,
        "seed": config.seed,
        "per_process": config.batch_size * config.accumulate,
        "largest": config.batch_size,
        "scaling": base.encoder.scaling,
        "shift": base.encoder.shift,
        "sized": base.family == "sdxl",
        "empty_caption": empty_caption(base.encoder, cache),
        "process": accelerator.process_index,
        "processes": accelerator.num_processes,
    }


def tags(scan: Scan) -> Counter[str]:
    """How often each word stands in the prompts."""
    return Counter(word for prompt in prompts(scan) for word in prompt.replace(",", " ").split())
