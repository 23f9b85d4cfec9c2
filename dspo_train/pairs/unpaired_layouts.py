"""Layouts of images that were liked or disliked one by one: two sub-folders, or a table with a label."""

from __future__ import annotations

from dataclasses import dataclass

from . import tables, unpaired_tables
from .folders import SIDES
from .labels import RowError
from .listing import Listing, nfc, stem_of
from .readers import Readers
from .readings import LayoutReading, RatedCandidate
from .types import Defect, Layout
from .unpaired_tables import CAPTION_TABLES, RATING_TABLES, has_labels, names_single_images

RATED_SIDES = {"liked": True, "like": True, "good": True, "disliked": False, "dislike": False, "bad": False}
_PAIR_WORDS = {word: side == 0 for family in SIDES for side, word in enumerate(family)}


def unpaired_layout(readers: Readers) -> Layout | None:
    """Which layout of liked and disliked images a folder has; None where it is one for pairs, or none at all.

    Whatever can be read as pairs stays pairs, with one exception: between `liked/` and `disliked/` the names
    `cat_0.png`, `cat_1.png` are a generator's numbering, not a ranking.

    Raises:
        DatasetError: a log of votes that cannot be read.
    """
    if _has_pair_table(readers):
        return None
    if _rating_table(readers):
        return "table"
    if readers.subfolders.pairs or readers.suffixes.pairs:
        return None
    places = _places(readers.listing)
    if {place.liked for place in places if place.own} == {True, False}:
        return "folders"
    if readers.ranked.pairs:
        return None
    both = {place.liked for place in places} == {True, False}
    return "folders" if both or any(place.own for place in places) else None


def surely_unpaired(readers: Readers) -> bool:
    """Whether it is a layout of liked and disliked images, and not pairs whose names merely fail to match.

    Raises:
        DatasetError: a log of votes that cannot be read.
    """
    layout = unpaired_layout(readers)
    return layout == "table" or (layout == "folders" and any(place.own for place in _places(readers.listing)))


def read_unpaired(readers: Readers, layout: Layout) -> LayoutReading:
    """Every image that the layout calls liked or disliked.

    Raises:
        DatasetError: a table that cannot be read.
    """
    return _read_table(readers) if layout == "table" else _read_folders(readers)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an image lies: on which side, in a folder named liked or disliked or in one for pairs, under what stem."""

    liked: bool
    own: bool
    stem: str


def _place(path: str) -> _Place | None:
    """The first folder that is named like a side decides; the stem is the path without it, in NFC form."""
    parts = stem_of(path).split("/")
    for index, part in enumerate(parts[:-1]):
        word = part.casefold()
        if word in RATED_SIDES or word in _PAIR_WORDS:
            own = word in RATED_SIDES
            liked = RATED_SIDES[word] if own else _PAIR_WORDS[word]
            return _Place(liked, own, "/".join(parts[:index] + parts[index + 1 :]))
    return None


def _places(listing: Listing) -> list[_Place]:
    return [place for path in listing.images if (place := _place(path))]


def _has_pair_table(readers: Readers) -> bool:
    if readers.collected is not None or readers.parquet_files:
        return True
    tables = map(readers.table, readers.top_tables(*CAPTION_TABLES))
    return any(not names_single_images(table.columns) for table in tables)


def _rating_table(readers: Readers) -> str | None:
    """The table that says what was liked: one named for it, or metadata with a label column."""
    named = readers.top_tables(*RATING_TABLES)
    labelled = (name for name in readers.top_tables(*CAPTION_TABLES) if has_labels(readers.table(name).columns))
    return named[0] if named else next(labelled, None)


def _read_table(readers: Readers) -> LayoutReading:
    listing, name = readers.listing, _rating_table(readers)
    assert name is not None, "this layout has a table"
    reading, table = LayoutReading("table", used={name}), readers.table(name)
    unpaired_tables.check_columns(table)
    unlabelled: list[str] = []
    for number, row in table.rows():
        where = f"{name}:{number}"
        try:
            if isinstance(row, RowError):
                raise row
            path = unpaired_tables.image_of(listing, row)
            reading.used |= {path, *listing.captions_at(stem_of(path))}
            prompt = tables.prompt_of(row)
            liked = _settle_side(unpaired_tables.liked_by(row), path)
            if liked is None:
                unlabelled.append(where)
            else:
                reading.images.append(_candidate(listing, path, where, liked, prompt))
        except RowError as error:
            reading.defects.append(tables.defect_of(error, where, unpaired_tables.EXAMPLE))
    if unlabelled:
        message = f"{tables.rows_from_here(unlabelled)} no label yet; write 1 (liked) or 0 (disliked), or remove it"
        reading.defects.append(Defect("unlabelled", unlabelled[0], message, fatal=False))
    return reading


def _settle_side(label: bool | None, path: str) -> bool | None:
    """The row's label; an image in `liked/` or `disliked/` needs none, and a row must not contradict its folder."""
    place = _place(path)
    if place is None or not place.own:
        return label
    if label is not None and label != place.liked:
        row, folder = ("liked", "disliked") if label else ("disliked", "liked")
        raise RowError(f"the label says {row}, but {path} is in the folder of {folder} images; correct one of them")
    return place.liked


def _read_folders(readers: Readers) -> LayoutReading:
    listing, reading = readers.listing, LayoutReading("folders")
    prompts = _table_prompts(readers, reading)
    for path in listing.images:
        place = _place(path)
        if place is not None:
            reading.images.append(_candidate(listing, path, path, place.liked, prompts.get(path, "")))
    return reading


def _table_prompts(readers: Readers, reading: LayoutReading) -> dict[str, str]:
    """Captions from `metadata.jsonl` or `.csv` beside the images or above them, by path on disk."""
    prompts: dict[str, str] = {}
    for name in readers.listing.tables:
        folder, slash, own = name.rpartition("/")
        if own.lower() not in CAPTION_TABLES or not names_single_images(readers.table(name).columns):
            continue
        reading.used.add(name)
        for number, row in readers.table(name).rows():
            try:
                if isinstance(row, RowError):
                    raise row
                path = unpaired_tables.image_of(readers.listing, row, folder + slash)
                prompts.setdefault(path, tables.prompt_of(row))
            except RowError as error:
                reading.defects.append(tables.defect_of(error, f"{name}:{number}", unpaired_tables.EXAMPLE))
    return prompts


def _candidate(listing: Listing, path: str, where: str, liked: bool, prompt: str) -> RatedCandidate:
    """Caption files: `liked/cat.txt`, else `cat.txt` beside the two folders."""
    stem, place = stem_of(path), _place(path)
    captions = listing.captions_at(stem, *([place.stem] if place else []))
    return RatedCandidate(nfc(path), where, path, liked, captions, prompt)
