"""What a request may say. Plain values in and out; no server is needed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ...dspo_train.exceptions import ConfigError
from ...dspo_train.files.names import parts_of
from ...dspo_train.preferences.entries import ID, IMAGE, MAX_IMAGES, PAIR_ID
from .refusals import RefusedError

LARGEST_BODY = 64 * 1024  # bytes
LONGEST_NAME = 400  # characters
_MOST_CLIENTS = 100  # pages that one browser remembers
_PREVIEW = re.compile(r"step-[0-9]{6,12}\.png")


@dataclass(frozen=True)
class Field:
    """One value of a request.

    Attributes:
        read: converts the received value; raises ValueError if it is invalid.
        default: of an optional field.
    """

    read: Callable[[Any], Any]
    default: Any = None
    required: bool = True


Fields = Mapping[str, Field]


def optional(read: Callable[[Any], Any], default: Any = None) -> Field:
    """An optional field; null is accepted if the default is None."""

    def read_or_none(value: Any) -> Any:
        return None if value is None and default is None else read(value)

    return Field(read_or_none, default, required=False)


def read_fields(fields: Fields, values: Mapping[str, Any]) -> dict[str, Any]:
    """
    Raises:
        RefusedError: 400 for a field that is missing, unknown or invalid.
    """
    if unknown := [name for name in values if name not in fields]:
        raise RefusedError(400, f"The request has {len(unknown)} unknown fields.")
    found = {}
    for name, field in fields.items():
        if name not in values:
            if field.required:
                raise RefusedError(400, f"The field '{name}' is missing.")
            found[name] = field.default
            continue
        try:
            found[name] = field.read(values[name])
        except (ValueError, TypeError):
            raise RefusedError(400, f"The field '{name}' is invalid.") from None
    return found


def read_query(pairs: Iterable[tuple[str, str]], fields: Fields) -> dict[str, Any]:
    """Unknown fields are ignored: the page adds one to bypass caches.

    Raises:
        RefusedError: see `read_fields`; also for a field sent twice.
    """
    values: dict[str, str] = {}
    for name, value in pairs:
        if name in values:
            raise RefusedError(400, "A field was sent twice.")
        values[name] = value
    return read_fields(fields, {name: value for name, value in values.items() if name in fields})


def read_body(data: bytes, fields: Fields) -> dict[str, Any]:
    """
    Raises:
        RefusedError: 400 for anything but a JSON object; see `read_fields`.
    """
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise RefusedError(400, "The request is not valid JSON.") from None
    if not isinstance(value, dict):
        raise RefusedError(400, "The request must be a JSON object.")
    return read_fields(fields, value)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def place(value: Any) -> str:
    return choice("sets", "blind")(value)


def name(value: Any) -> str:
    """Of a set, a run or a test: a relative path without `..`."""
    if not isinstance(value, str) or len(value) > LONGEST_NAME:
        raise ValueError
    try:
        return "/".join(parts_of(value))
    except ConfigError as error:
        raise ValueError from error


def loose_name(value: Any) -> str:
    """What somebody calls a file; not to be used as a path."""
    if not isinstance(value, str) or len(value) > LONGEST_NAME:
        raise ValueError
    return value


def matching(pattern: re.Pattern[str]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise ValueError
        return value

    return read


identifier, image, pair, preview = (matching(pattern) for pattern in (ID, IMAGE, PAIR_ID, _PREVIEW))


def target(value: Any) -> str:
    """An image or a group."""
    return image(value) if isinstance(value, str) and "/" in value else identifier(value)


def choice(*words: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or value not in words:
            raise ValueError
        return value

    return read


def question(value: Any) -> str:
    """A pair, or a group that is shown whole."""
    return pair(value) if isinstance(value, str) and "." in value else identifier(value)


def questions(value: Any) -> frozenset[str]:
    """Separated by commas; empty for none."""
    return frozenset(question(each) for each in value.split(",")) if value else frozenset()


def images(value: Any) -> list[str]:
    """Names of a ballot: at most as many as a group holds."""
    return _list(value, image, MAX_IMAGES)


def clients(value: Any) -> list[str]:
    return _list(value, identifier, _MOST_CLIENTS)


def _list(value: Any, read: Callable[[Any], str], most: int) -> list[str]:
    if not isinstance(value, list) or len(value) > most:
        raise ValueError
    return [read(each) for each in value]


sought = loose_name  # a part of a prompt


def digits(least: int, most: int) -> Callable[[Any], int]:
    """A whole number in a query string, clamped to the limits."""

    def read(value: Any) -> int:
        if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,12}", value):
            raise ValueError
        return min(max(int(value), least), most)

    return read


def yes_or_no(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def duration(value: Any) -> float:
    """Seconds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1e6:
        raise ValueError
    return float(value) if math.isfinite(value) else 0.0
