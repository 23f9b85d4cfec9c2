"""Who may read or change something, and what a request may say. Plain values in and out; no server is needed."""

from __future__ import annotations

import ipaddress
import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ...dspo_train.exceptions import ConfigError, DatasetError, DspoError
from ...dspo_train.files.names import parts_of
from ...dspo_train.preferences.entries import ID, IMAGE, PAIR_ID

LARGEST_BODY = 64 * 1024  # bytes
LONGEST_NAME = 400  # characters
ALLOWED_HOSTS = "DSPO_ALLOWED_HOSTS"  # environment variable: further names of this server, separated by commas
MARK = "X-DSPO"  # our own header: another site's page cannot send it without a CORS preflight

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(:(?P<port>[0-9]{1,5}))?")
_ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<host>[^/?#@\\]{1,270})")
_PORTS = {"http": "80", "https": "443"}
_JSON = re.compile(r'application/json(\s*;\s*charset="?utf-8"?)?\s*')

_PREVIEW = re.compile(r"step-[0-9]{6,12}\.png")


_ERRORS: tuple[tuple[type[DspoError], int, str], ...] = (
    (ConfigError, 400, "A name in the request is not valid."),
    (DatasetError, 404, "There is no such set, pair or image, or it cannot be read; see ComfyUI's log."),
    (DspoError, 500, "This failed; see ComfyUI's log."),
)


class RefusedError(Exception):
    """A request to answer with this HTTP status and one sentence, which repeats no part of the request."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


def refusal_of(error: DspoError) -> RefusedError:
    """The answer for an error whose own text, which may hold paths, belongs in the log.

    The page gives up on a status below 500 and retries after any other.
    """
    cause = error.__cause__
    if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
        return RefusedError(503, "The files of this set are locked or cannot be reached; see ComfyUI's log.")
    return next(RefusedError(status, text) for kind, status, text in _ERRORS if isinstance(error, kind))


def check_change(headers: Iterable[tuple[str, str]], known: Collection[str]) -> None:
    """Let only our own page, loaded from this server, change anything.

    Args:
        headers: as received, including repeated ones.
        known: see `is_own_name`.

    Raises:
        RefusedError: 403 for another site's page or an unknown server name, 415 for another content type.
    """
    found = Headers(headers)
    check_source(found, known)
    if found.one(MARK.lower()) != "1":
        raise RefusedError(403, "The request does not come from the DSPO panel.")
    if not _JSON.fullmatch((found.one("content-type") or "").lower()):
        raise RefusedError(415, "The request must be JSON.")


def check_source(found: Headers, known: Collection[str]) -> None:
    """Let no other site read anything, not even one whose name resolves to this machine.

    Raises:
        RefusedError: 403.
    """
    host = (found.one("host") or "").lower()
    origin, site = found.one("origin"), found.one("sec-fetch-site")
    if not is_own_name(host, known):
        raise RefusedError(
            403,
            "The server does not know the name it was called by; open ComfyUI by its IP address, "
            f"or list the name in {ALLOWED_HOSTS}.",
        )
    if origin is not None and not is_same_origin(origin.lower(), host):
        raise RefusedError(403, "The request comes from another site.")
    if site is not None and site not in ("same-origin", "none"):
        raise RefusedError(403, "The request comes from another site.")


class Headers:
    """As received, including repeated ones."""

    def __init__(self, headers: Iterable[tuple[str, str]]) -> None:
        self._all: dict[str, list[str]] = {}
        for name, value in headers:
            self._all.setdefault(name.lower(), []).append(value.strip())

    def one(self, name: str) -> str | None:
        """
        Raises:
            RefusedError: the header was sent twice, and two programs may read it differently.
        """
        values = self._all.get(name, [])
        if len(values) > 1:
            raise RefusedError(403, "A header was sent twice.")
        return values[0] if values else None


def names_of(text: str) -> set[str]:
    """
    >>> sorted(names_of("Studio.lan, .example.org"))
    ['.example.org', 'studio.lan']
    """
    return {name.strip().lower() for name in text.split(",") if name.strip(" .")}


def is_own_name(host: str, known: Collection[str]) -> bool:
    """Is a Host header, in lower case, this server's own name? A foreign site's name may resolve to this machine too.

    Args:
        known: names of this server besides IP addresses and localhost; `.example.org` includes its subdomains.
    """
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name = match["name"].strip("[]")
    return name == "localhost" or _is_address(name) or any(_is_named(name, each) for each in known)


def _is_named(name: str, known: str) -> bool:
    return name == known or (known.startswith(".") and f".{name}".endswith(known))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_same_origin(origin: str, host: str) -> bool:
    """Does an Origin header name the Host? Both in lower case; `null` names nothing."""
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        return False
    return _with_port(match["host"], match["scheme"]) == _with_port(host, match["scheme"]) is not None


def _with_port(host: str, scheme: str) -> tuple[str, str] | None:
    match = _HOST.fullmatch(host)
    return (match["name"], match["port"] or _PORTS[scheme]) if match else None


# Fields


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


def pairs(value: Any) -> frozenset[str]:
    """Separated by commas; empty for none."""
    return frozenset(pair(each) for each in value.split(",")) if value else frozenset()


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
