"""The lines of `preferences.jsonl`: one JSON object each, checked the same way when written and when read.

    {"kind": "set", "id", "time", "version": 1, "seed"}
    {"kind": "group", "id", "time", "prompt", "schedule", "images": [{"image", "seed", "arm"}, ...], "settings"}
    {"kind": "vote", "id", "time", "group", "pair": [a, b], "outcome", "winner", "left", "seconds", "client", ...}
    {"kind": "vote", ..., "ballot", "bad": [b]}   one of the votes that a ballot on the whole group means
    {"kind": "vote", ..., "guided": true}         on a question that was chosen for what its answer would tell
    {"kind": "undo", "id", "time", "vote"}        with a vote of a ballot, all of that ballot
    {"kind": "remove" or "restore", "id", "time", "image" or "group"}

An image is only ever named `images/<16 hex digits>.<png|jpg|webp>`, so no line can lead out of the folder. Who won
is named and never follows from order: `pair` is sorted, `left` says which of the two was shown on the left.
"""

from __future__ import annotations

import json
import math
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Literal, TypeGuard, get_args

from ..exceptions import DatasetError

LOG_VERSION = 1
MAX_IMAGES = 64
"""All pairs of 64 images are 2,016 questions, more than anyone answers about one prompt."""
MAX_PROMPT = 16_384
"""Characters: in UTF-8 at most the 64 KB that a caption file may have."""

Outcome = Literal["win", "tie", "skip", "bad"]
"""`bad`: neither image is any good."""
QuestionSchedule = Literal["all", "neighbours", "swiss"]
ImagePair = tuple[str, str]

_OUTCOMES: Mapping[Any, Outcome] = {word: word for word in get_args(Outcome)}
_SCHEDULES: Mapping[Any, QuestionSchedule] = {word: word for word in get_args(QuestionSchedule)}
ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
IMAGE = re.compile(r"images/[0-9a-f]{16}\.(?:png|jpg|webp)")
PAIR_ID = re.compile(rf"{ID.pattern}\.[0-9a-f]{{16}}\.[0-9a-f]{{16}}")
"""What `pair_id` makes."""


class EntryError(Exception):
    """Why a line cannot be used, in words for a user."""


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a set. `seed` decides the hidden order of sides and of Swiss rounds."""

    id: str
    time: str
    seed: str


@dataclass(frozen=True, slots=True)
class StoredImage:
    """One candidate: its stored name, and where known the noise seed and the arm (`base`, `lora`) that drew it."""

    image: str
    seed: int | None = None
    arm: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """The candidates of one prompt that are compared with each other."""

    id: str
    time: str
    prompt: str
    schedule: QuestionSchedule
    images: tuple[StoredImage, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(image.image for image in self.images)


@dataclass(frozen=True, slots=True)
class Vote:
    """One click.

    Attributes:
        winner: the better image; None for a tie or a skip.
        left: the image shown on the left, None where nothing was shown.
        seconds: from showing the pair to the click.
        client: the tab that sent it.
        source: None for a person's click, else where the vote comes from (`import`).
        relabel: meant to replace an earlier vote on the pair.
        ballot: the ballot that this vote is a part of; a group with one is closed.
        bad: those of the pair that the ballot calls bad.
        guided: on a question that was chosen for what its answer would tell.
    """

    id: str
    time: str
    group: str
    pair: ImagePair
    outcome: Outcome
    winner: str | None = None
    left: str | None = None
    seconds: float | None = None
    client: str | None = None
    source: str | None = None
    relabel: bool = False
    ballot: str | None = None
    bad: tuple[str, ...] = ()
    guided: bool = False


@dataclass(frozen=True, slots=True)
class Undo:
    """Takes one vote back, and with it the rest of its ballot."""

    id: str
    time: str
    vote: str


@dataclass(frozen=True, slots=True)
class Removal:
    """Takes an image (from all groups) or a group out of the set, or puts it back."""

    kind: Literal["remove", "restore"]
    id: str
    time: str
    image: str | None = None
    group: str | None = None


Entry = Header | Group | Vote | Undo | Removal


def canonical(a: str, b: str) -> ImagePair:
    """The one order in which a pair is stored."""
    return (a, b) if a < b else (b, a)


def pair_id(group: str, pair: ImagePair) -> str:
    """The name of a question: `group.<hex>.<hex>`. It does not reveal sides, seeds or arms."""
    return f"{group}.{digits(pair[0])}.{digits(pair[1])}"


def digits(image: str) -> str:
    """The hash in an image's name: the same for the same pixels, whatever the type of the file."""
    return image[7:23]


def clean_prompt(prompt: str) -> str:
    """Zero bytes, which no caption file may hold, go; everything else is kept as it was typed."""
    return prompt.replace("\0", "").strip()


def new_id() -> str:
    return uuid.uuid4().hex


def now() -> str:
    """UTC, such as 2025-01-31T12:00:00.000Z."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def encode_entry(kind: str, **values: Any) -> bytes:
    """A line with its newline, without the values that are None; stamped with the time and, if need be, an id.

    Raises:
        DatasetError: a value that JSON cannot represent.
    """
    row = {"kind": kind, "id": values.pop("id", None) or new_id(), "time": now()}
    row.update((name, value) for name, value in values.items() if value is not None)
    try:
        text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise DatasetError(
            f"a {kind} cannot be written as JSON ({error}); pass plain strings, numbers and lists"
        ) from error
    return text.encode("utf-8", "replace") + b"\n"  # half a surrogate pair, which a browser may send, becomes "?"


def parse(line: bytes) -> Entry:
    """Read one line.

    Raises:
        EntryError: the line is damaged, or no version of this program writes such a line.
        DatasetError: a newer program made the set.
    """
    try:
        row = json.loads(line.removeprefix(b"\xef\xbb\xbf").decode("utf-8"))
    except UnicodeDecodeError as error:
        raise EntryError("is not UTF-8 text; restore the line from a backup, or leave it") from error
    except (ValueError, RecursionError) as error:
        raise EntryError(f"is not valid JSON ({error}); restore the line from a backup, or leave it") from error
    kind = row.get("kind") if isinstance(row, dict) else None
    read = _READ.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise EntryError(f"has the unknown kind {_short(kind)}; expected one of {', '.join(_READ)}")
    return read(row)


def _header(row: Mapping[str, Any]) -> Header:
    version = row.get("version")
    if isinstance(version, int) and version > LOG_VERSION:
        raise DatasetError(
            f"preferences.jsonl has format version {version}, and this program reads up to {LOG_VERSION}; "
            "update the program"
        )
    if version != LOG_VERSION:
        raise _wrong(row, "version", str(LOG_VERSION))
    return Header(_id(row, "id"), _text(row, "time"), _text(row, "seed"))


def _group(row: Mapping[str, Any]) -> Group:
    images, settings, schedule = row.get("images"), row.get("settings", {}), row.get("schedule")
    if not isinstance(images, list) or not 2 <= len(images) <= MAX_IMAGES:
        raise _wrong(row, "images", f"a list of 2 to {MAX_IMAGES} images")
    if not isinstance(schedule, str) or schedule not in _SCHEDULES:
        raise _wrong(row, "schedule", ", ".join(_SCHEDULES))
    if not isinstance(settings, dict):
        raise _wrong(row, "settings", "an object")
    found = tuple(_image_entry(image) for image in images)
    if len({digits(image.image) for image in found}) < len(found):
        raise EntryError("names one image twice; the images of a group must differ")
    prompt = _text(row, "prompt", MAX_PROMPT, empty=True)
    return Group(_id(row, "id"), _text(row, "time"), prompt, _SCHEDULES[schedule], found, settings)


def _image_entry(row: Any) -> StoredImage:
    if not isinstance(row, dict):
        raise EntryError(f"has the image {_short(row)} instead of an object with 'image'")
    seed = row.get("seed")
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
        raise _wrong(row, "seed", "a whole number")
    return StoredImage(_image(row), seed, _optional(row, "arm"))


def _vote(row: Mapping[str, Any]) -> Vote:
    pair, outcome, seconds = row.get("pair"), row.get("outcome"), row.get("seconds")
    if not isinstance(pair, list) or len(pair) != 2:
        raise _wrong(row, "pair", "two images")
    first, second = pair
    if not (_is_image(first) and _is_image(second) and first != second):
        raise _wrong(row, "pair", "two different images of the set")
    winner, left = row.get("winner"), row.get("left")
    if not isinstance(outcome, str) or outcome not in _OUTCOMES:
        raise _wrong(row, "outcome", ", ".join(_OUTCOMES))
    if (winner is None) == (outcome == "win") or winner not in (None, first, second):
        raise _wrong(row, "winner", "one of the pair where the outcome is win, and left out otherwise")
    if left not in (None, first, second):
        raise _wrong(row, "left", "one of the pair")
    if seconds is not None and not _is_duration(seconds):
        raise _wrong(row, "seconds", "a number from 0 up")
    bad = row.get("bad", [])
    if not isinstance(bad, list) or any(image not in (first, second) for image in bad):
        raise _wrong(row, "bad", "a list of images of the pair")
    return Vote(
        _id(row, "id"),
        _text(row, "time"),
        _id(row, "group"),
        canonical(first, second),
        _OUTCOMES[outcome],
        winner,
        left,
        seconds,
        None if row.get("client") is None else _id(row, "client"),
        _optional(row, "source"),
        row.get("relabel") is True,
        None if row.get("ballot") is None else _id(row, "ballot"),
        tuple(bad),
        row.get("guided") is True,
    )


def _undo(row: Mapping[str, Any]) -> Undo:
    return Undo(_id(row, "id"), _text(row, "time"), _id(row, "vote"))


def _removal(row: Mapping[str, Any]) -> Removal:
    image = None if row.get("image") is None else _image(row)
    group = None if row.get("group") is None else _id(row, "group")
    if (image is None) == (group is None):
        raise EntryError("must name either an image or a group")
    return Removal(row["kind"], _id(row, "id"), _text(row, "time"), image, group)


_READ = {"set": _header, "group": _group, "vote": _vote, "undo": _undo, "remove": _removal, "restore": _removal}


def _id(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not ID.fullmatch(value):
        raise _wrong(row, name, "1 to 64 letters, digits, - or _")
    return value


def _image(row: Mapping[str, Any]) -> str:
    value = row.get("image")
    if not _is_image(value):
        raise _wrong(row, "image", "an image of the set, such as images/0123456789abcdef.png")
    return value


def _is_image(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and IMAGE.fullmatch(value) is not None


def _text(row: Mapping[str, Any], name: str, longest: int = 200, *, empty: bool = False) -> str:
    value = row.get(name)
    if not isinstance(value, str) or len(value) > longest or not (value or empty):
        raise _wrong(row, name, f"text of at most {longest} characters")
    return value


def _optional(row: Mapping[str, Any], name: str) -> str | None:
    return None if row.get(name) is None else _text(row, name)


def _is_duration(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _wrong(row: Mapping[str, Any], name: str, allowed: str) -> EntryError:
    return EntryError(f"has the {name} {_short(row.get(name))}; it must be {allowed}")


def _short(value: Any) -> str:
    text = "nothing" if value is None else ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."
