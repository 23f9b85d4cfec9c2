"""Layouts of pictures that were liked or disliked one by one: two sub-folders, or a table with a label."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..preferences.log import LOG_NAME
from . import tables, unpaired_tables
from .collected import read_collected
from .folders import SIDES, read_ranked, read_subfolders, read_suffixes
from .labels import RowError
from .listing import Listing, nfc, split_suffix
from .types import Candidate, Defect
from .unpaired_tables import CAPTION_TABLES, OPINION_TABLES, columns_of, names_single_pictures, top_tables

OpinionLayout = Literal["table", "folders"]

OPINION_SIDES = {"liked": True, "like": True, "good": True, "disliked": False, "dislike": False, "bad": False}
_PAIR_WORDS = {word: side == 0 for family in SIDES for side, word in enumerate(family)}


@dataclass(frozen=True, slots=True)
class Judgement:
    """A picture and what was thought of it, before it was looked at; the candidate names it on both sides."""

    candidate: Candidate
    liked: bool


@dataclass
class OpinionReading:
    """What the reader of one layout found."""

    layout: OpinionLayout
    judgements: list[Judgement] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)


def opinion_layout(listing: Listing) -> OpinionLayout | None:
    """Which layout of liked and disliked pictures a folder has; None where it is one for pairs, or none at all.

    Whatever the scan for pairs reads stays pairs, with one exception: between `liked/` and `disliked/` the names
    `cat_0.png`, `cat_1.png` are a generator's numbers and no ranking.

    Raises:
        DatasetError: a log of votes that cannot be read.
    """
    if _has_pair_table(listing):
        return None
    if _opinion_table(listing):
        return "table"
    if read_subfolders(listing).candidates or read_suffixes(listing).candidates:
        return None
    places = [place for path in listing.images if (place := _place(path))]
    if {place.liked for place in places if place.own} == {True, False}:
        return "folders"
    if read_ranked(listing).candidates:
        return None
    one_sided = any(place.own for place in places)
    return "folders" if one_sided or {place.liked for place in places} == {True, False} else None


def surely_unpaired(listing: Listing) -> bool:
    """Is it a layout of liked and disliked pictures, and not pairs whose names merely fail to match?

    Raises:
        DatasetError: a log of votes that cannot be read.
    """
    layout = opinion_layout(listing)
    own = any(place.own for path in listing.images if (place := _place(path)))
    return layout == "table" or (layout == "folders" and own)


def read_opinions(listing: Listing, layout: OpinionLayout) -> OpinionReading:
    """Every picture that the layout calls liked or disliked.

    Raises:
        DatasetError: a table that cannot be read.
    """
    return _read_table(listing) if layout == "table" else _read_folders(listing)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a picture lies: on which side, in a folder of our own words or of those for pairs, and under what stem."""

    liked: bool
    own: bool
    stem: str


def _place(path: str) -> _Place | None:
    """The first folder that is named like a side decides; the stem is the path without it, in NFC form."""
    parts = nfc(split_suffix(path)[0]).split("/")
    for index, part in enumerate(parts[:-1]):
        word = part.casefold()
        if word in OPINION_SIDES or word in _PAIR_WORDS:
            own = word in OPINION_SIDES
            liked = OPINION_SIDES[word] if own else _PAIR_WORDS[word]
            return _Place(liked, own, "/".join(parts[:index] + parts[index + 1 :]))
    return None


def _has_pair_table(listing: Listing) -> bool:
    if LOG_NAME in listing.tables and read_collected(listing) is not None:
        return True
    if any(name.lower().endswith(".parquet") and name.count("/") <= 1 for name in listing.tables):
        return True
    return any(not names_single_pictures(columns_of(listing, name)) for name in top_tables(listing, CAPTION_TABLES))


def _opinion_table(listing: Listing) -> str | None:
    """The table that says what was liked: one named for it, or metadata with a label column."""
    named = top_tables(listing, OPINION_TABLES)
    labelled = (
        name
        for name in top_tables(listing, CAPTION_TABLES)
        if not columns_of(listing, name).isdisjoint(unpaired_tables.LABEL_COLUMNS)
    )
    return named[0] if named else next(labelled, None)


def _read_table(listing: Listing) -> OpinionReading:
    reading = OpinionReading("table")
    name = _opinion_table(listing)
    assert name is not None, "this layout has a table"
    unlabelled: list[str] = []
    for number, row in unpaired_tables.read_rows(listing, name):
        where = f"{name}:{number}"
        try:
            if isinstance(row, RowError):
                raise row
            path, prompt = unpaired_tables.picture_of(listing, row), tables.prompt_of(row)
            liked = _settle_side(unpaired_tables.liked_by(row), path)
            if liked is None:
                unlabelled.append(where)
            else:
                reading.judgements.append(_judgement(listing, path, where, liked, prompt))
        except RowError as error:
            reading.defects.append(tables.defect_of(error, where))
    if unlabelled:
        count = f"{len(unlabelled)} rows from here on have" if len(unlabelled) > 1 else "this row has"
        message = f"{count} no label yet and stayed out; write 1 (liked) or 0 (disliked), or remove the row"
        reading.defects.append(Defect("unlabelled", unlabelled[0], message, fatal=False))
    return reading


def _settle_side(told: bool | None, path: str) -> bool | None:
    """The row's word; a picture in `liked/` or `disliked/` needs none, and a row must not contradict its folder."""
    place = _place(path)
    if place is None or not place.own:
        return told
    if told is not None and told != place.liked:
        says, lies = ("liked", "disliked") if told else ("disliked", "liked")
        raise RowError(f"the label says {says}, but {path} lies with the {lies} pictures; mend one of them")
    return place.liked


def _read_folders(listing: Listing) -> OpinionReading:
    reading = OpinionReading("folders")
    prompts = _table_prompts(listing, reading.defects)
    ignored: list[str] = []
    for path in listing.images:
        place = _place(path)
        if place is None:
            ignored.append(path)
        else:
            reading.judgements.append(_judgement(listing, path, path, place.liked, prompts.get(path, "")))
    if ignored:
        count = f"{len(ignored)} pictures lie" if len(ignored) > 1 else "this picture lies"
        message = f"{count} neither with the liked nor with the disliked pictures and stayed out"
        reading.defects.append(Defect("ignored_files", ignored[0], message, fatal=False))
    return reading


def _table_prompts(listing: Listing, defects: list[Defect]) -> dict[str, str]:
    """Captions from `metadata.jsonl` or `.csv` beside the pictures or above them, by path on disk."""
    prompts: dict[str, str] = {}
    for name in listing.tables:
        folder, slash, own = name.rpartition("/")
        if own.lower() not in CAPTION_TABLES or not names_single_pictures(columns_of(listing, name)):
            continue
        for number, row in unpaired_tables.read_rows(listing, name):
            try:
                if isinstance(row, RowError):
                    raise row
                path = unpaired_tables.picture_of(listing, row, folder + slash)
                prompts.setdefault(path, tables.prompt_of(row))
            except RowError as error:
                defects.append(tables.defect_of(error, f"{name}:{number}"))
    return prompts


def _judgement(listing: Listing, path: str, where: str, liked: bool, prompt: str) -> Judgement:
    """Caption files: `liked/cat.txt`, else `cat.txt` beside the two folders."""
    stem, place = nfc(split_suffix(path)[0]), _place(path)
    captions = listing.captions_at(stem, *([place.stem] if place else []))
    return Judgement(Candidate(nfc(path), where, path, path, captions, prompt), liked)
