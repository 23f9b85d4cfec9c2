"""Who may read or change something. Plain values in and out; no server is needed."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable

from .refusals import RefusedError

ALLOWED_HOSTS = "DSPO_ALLOWED_HOSTS"  # environment variable: further names of this server, separated by commas
MARK = "X-DSPO"  # our own header: another site's page cannot send it without a CORS preflight

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(:(?P<port>[0-9]{1,5}))?")
_ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<host>[^/?#@\\]{1,270})")
_PORTS = {"http": "80", "https": "443"}
JSON = re.compile(r'application/json(\s*;\s*charset="?utf-8"?)?\s*')
FILE = re.compile(r"application/octet-stream")  # as JSON, nothing that a form of another site can send


def check_change(headers: Iterable[tuple[str, str]], known: Collection[str], content: re.Pattern[str] = JSON) -> None:
    """Let only our own page, loaded from this server, change anything.

    Args:
        headers: as received, including repeated ones.
        known: see `is_own_name`.
        content: the content type, in lower case.

    Raises:
        RefusedError: 403 for another site's page or an unknown server name, 415 for another content type.
    """
    found = Headers(headers)
    check_source(found, known)
    if found.one(MARK.lower()) != "1":
        raise RefusedError(403, "The request does not come from the DSPO panel.")
    if not content.fullmatch((found.one("content-type") or "").lower()):
        raise RefusedError(415, "The request must be JSON." if content is JSON else "The request must be a file.")


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
