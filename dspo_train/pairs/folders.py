"""Layouts that say who won by file and folder names: sub-folders, suffixes, ranked sets.

Each reader takes a `Listing` and returns what it would make of it; `scan.py` chooses among them. Stems are
compared in NFC form and with their case; the words that mark a side or a source are compared without case.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

from .listing import Listing, split_suffix, stem_of
from .readings import Candidate, LayoutReading, unusable_source
from .types import Defect, Layout

SIDES = (
    ("chosen", "rejected"),
    ("win", "lose"),
    ("winner", "loser"),
    ("w", "l"),
)
_SOURCE = "source"
MAX_RANKED = 16

_SIDE_OF = {word: (family, side) for family in SIDES for side, word in enumerate(family)}
_SUFFIX = re.compile(rf"(.+)_({'|'.join(_SIDE_OF)})", re.IGNORECASE | re.DOTALL)
_SOURCE_SUFFIX = re.compile(rf"(.+)_({_SOURCE})", re.IGNORECASE | re.DOTALL)
_RANK = re.compile(r"(.+)_([0-9]{1,9})", re.DOTALL)

_Family = tuple[str, str]
_Sides = dict[tuple[str, _Family], tuple[list[str], list[str]]]
_Sources = Mapping[str, list[str]]


def read_subfolders(listing: Listing) -> LayoutReading:
    """`chosen/cat.png` and `rejected/cat.jpg`, perhaps `source/cat.png`; also inside `set1/`, and with folders below.

    The first folder of a path that is named like a side decides, and the key is the path without it.
    Caption: `chosen/cat.txt`, else `rejected/cat.txt`, else `cat.txt` beside the two folders.
    """
    sides: _Sides = defaultdict(lambda: ([], []))
    sources: dict[str, list[str]] = defaultdict(list)
    for path in listing.images:
        parts = stem_of(path).split("/")
        words = [part.casefold() for part in parts[:-1]]
        index = next((index for index, word in enumerate(words) if word in _SIDE_OF), None)
        if index is not None:
            family, side = _SIDE_OF[words[index]]
            sides[_without(parts, index), family][side].append(path)
        elif _SOURCE in words:
            sources[_without(parts, words.index(_SOURCE))].append(path)
    return _pair_up(listing, "subfolders", sides, sources)


def read_suffixes(listing: Listing) -> LayoutReading:
    """`cat_w.png` and `cat_l.png` (`_win`/`_lose`, `_winner`/`_loser`, `_chosen`/`_rejected`) in one folder.

    Source: `cat_source.png`. Caption: `cat.txt`, else the winner's, else the loser's own `.txt`.
    """
    sides: _Sides = defaultdict(lambda: ([], []))
    for path in listing.images:
        match = _match_name(_SUFFIX, path)
        if match:
            family, side = _SIDE_OF[match[1].lower()]
            sides[match[0], family][side].append(path)
    return _pair_up(listing, "suffixes", sides, _sources_by_suffix(listing))


def read_ranked(listing: Listing) -> LayoutReading:
    """`cat_0.png` (best), `cat_1.png`, ...: every better image wins against every worse one.

    A set starts at 0 and has at most 16 images, so that a folder of merely numbered files is not taken for a ranking.
    Source of all: `cat_source.png`. Caption: `cat.txt`, else the winner's, else the loser's own `.txt`.
    """
    sets: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in listing.images:
        match = _match_name(_RANK, path)
        if match:
            sets[match[0]][int(match[1])].append(path)
    reading, sources = LayoutReading("ranked"), _sources_by_suffix(listing)
    for key, ranks in sets.items():
        _account_for(
            listing, reading, key, *(path for paths in ranks.values() for path in paths), *sources.get(key, ())
        )
        _read_ranked_set(listing, reading, key, ranks, sources)
    return reading


def _without(parts: list[str], index: int) -> str:
    return "/".join(parts[:index] + parts[index + 1 :])


def _match_name(pattern: re.Pattern[str], path: str) -> tuple[str, str] | None:
    """The path without extension, split into what precedes the mark and the mark. Folders stay in front."""
    stem = stem_of(path)
    folder, slash, name = stem.rpartition("/")
    match = pattern.fullmatch(name)
    return (folder + slash + match[1], match[2]) if match else None


def _sources_by_suffix(listing: Listing) -> _Sources:
    sources: dict[str, list[str]] = defaultdict(list)
    for path in listing.images:
        match = _match_name(_SOURCE_SUFFIX, path)
        if match:
            sources[match[0]].append(path)
    return sources


def _pair_up(listing: Listing, layout: Layout, sides: _Sides, sources: _Sources) -> LayoutReading:
    reading = LayoutReading(layout)
    keys: set[str] = set()
    for (stem, family), (winners, losers) in sides.items():
        _account_for(listing, reading, stem, *winners, *losers, *sources.get(stem, ()))
        if len(winners) > 1 or len(losers) > 1:
            reading.defects.append(_ambiguous(winners if len(winners) > 1 else losers))
        elif not (winners and losers):
            reading.defects.append(_lonely((winners + losers)[0], family, bool(winners), layout))
        else:
            winner, loser = winners[0], losers[0]
            own = [stem_of(winner), stem_of(loser)]
            captions = listing.captions_at(*([*own, stem] if layout == "subfolders" else [stem, *own]))
            key = stem if stem not in keys else f"{stem}#{family[0]}"
            keys.add(key)
            source = _only_source(sources.get(stem, []), winner, reading)
            reading.pairs.append(Candidate(key, winner, winner, loser, captions, source=source))
    return reading


def _account_for(listing: Listing, reading: LayoutReading, key: str, *paths: str) -> None:
    """Images of one key, whether or not they become pairs, and their captions."""
    reading.used.update(paths, listing.captions_at(key, *map(stem_of, paths)))
    reading.stems.add(key)


def _only_source(paths: list[str], where: str, reading: LayoutReading) -> str:
    """The one path, or an empty string; several are a warning."""
    if len(paths) > 1:
        reading.defects.append(unusable_source(where, f"there are several source images ({', '.join(paths)})"))
    return paths[0] if len(paths) == 1 else ""


def _read_ranked_set(
    listing: Listing, reading: LayoutReading, key: str, ranks: dict[int, list[str]], sources: _Sources
) -> None:
    defect = _ranked_defect(key, ranks)
    if defect:
        reading.defects.append(defect)
        return
    order = sorted(ranks)
    if order[-1] != len(order) - 1:
        gaps = ", ".join(str(rank) for rank in range(order[-1]) if rank not in ranks)
        message = f"rank {gaps} is missing from the set; the other images keep their order"
        reading.defects.append(Defect("ranked_set", ranks[0][0], message, fatal=False))
    source = _only_source(sources.get(key, []), ranks[0][0], reading)
    for place, better in enumerate(order):
        for worse in order[place + 1 :]:
            winner, loser = ranks[better][0], ranks[worse][0]
            captions = listing.captions_at(key, stem_of(winner), stem_of(loser))
            name = f"{key}#{better}>{worse}"
            reading.pairs.append(Candidate(name, winner, winner, loser, captions, source=source))


def _ranked_defect(key: str, ranks: dict[int, list[str]]) -> Defect | None:
    first = ranks[min(ranks)][0]
    double = next((paths for paths in ranks.values() if len(paths) > 1), None)
    name = key.rpartition("/")[2]
    if len(ranks) > MAX_RANKED or max(ranks) >= 2 * MAX_RANKED:
        message = (
            f"{len(ranks)} files named {name}_N look numbered rather than ranked (a set has at most {MAX_RANKED} "
            "images, best first from _0); mark pairs with _w and _l instead"
        )
        return Defect("ranked_set", first, message)
    if double:
        return _ambiguous(double)
    if min(ranks) != 0:
        message = f"a ranked set starts with its best image, {name}_0, but the first here is _{min(ranks)}"
        return Defect("ranked_set", first, message + "; rename the files, best first from _0")
    if len(ranks) < 2:
        message = f"no second image to compare with; add {name}_1, or remove this one"
        return Defect("partner_missing", first, message)
    return None


def _ambiguous(paths: list[str]) -> Defect:
    others = ", ".join(path.rpartition("/")[2] for path in paths[1:])
    message = f"several images have this name (also {others}); keep one of them"
    return Defect("ambiguous_name", paths[0], message)


def _lonely(path: str, family: _Family, is_winner: bool, layout: Layout) -> Defect:
    stem = split_suffix(path)[0]
    side, other = ("winner", "loser") if is_winner else ("loser", "winner")
    word = family[1 if is_winner else 0]
    if layout == "suffixes":
        expected = f"{stem.rpartition('_')[0]}_{word}"
    else:
        parts = stem.split("/")
        index = next(i for i, part in enumerate(parts) if part.casefold() in family)
        expected = "/".join([*parts[:index], word, *parts[index + 1 :]])
    message = f"a {side} without its {other}; add {expected}.png (or .jpg, .webp), or remove this one"
    return Defect("partner_missing", path, message)
