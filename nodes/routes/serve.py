"""From an HTTP request to a handler and back: checks first, then the work in a thread, answers as JSON."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from aiohttp import web
from comfy.cli_args import args

from ...dspo_train.exceptions import DspoError
from .access import ALLOWED_HOSTS, FILE, Headers, check_change, check_source, names_of
from .fields import LARGEST_BODY, Fields, read_body, read_query
from .receiving import in_thread, received, too_large
from .refusals import RefusedError, refusal_of

log = logging.getLogger("dspo")

_KEEP = "private, max-age=31536000, immutable"


@dataclass(frozen=True)
class ImageAnswer:
    """An answer that is not JSON.

    Attributes:
        keep: the content of this name never changes, so the browser may cache it forever.
    """

    data: bytes
    kind: Literal["png", "jpeg", "webp"]
    keep: bool = False


Handler = Callable[..., "dict[str, Any] | ImageAnswer"]


@dataclass(frozen=True)
class Route:
    """A handler gets its fields by name, runs in a thread, and may raise RefusedError or a DspoError.

    Attributes:
        largest: bytes of a body.
        receives: the folder into which a body that is a file is received; the handler gets it as `file`, and the
            fields are in the query.
    """

    method: Literal["GET", "POST"]
    path: str
    handle: Handler
    fields: Fields
    largest: int = LARGEST_BODY
    receives: Callable[[], Path] | None = None


def handler(route: Route) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        try:
            return _answer(await _handled(request, route))
        except RefusedError as refusal:
            return _refusal(refusal)
        except DspoError as error:
            log.warning("%s: %s", route.path, error)
            return _refusal(refusal_of(error))
        except Exception:
            log.exception("%s failed", route.path)
            return _refusal(RefusedError(500, "This failed; see ComfyUI's log."))

    return handle


async def _handled(request: web.Request, route: Route) -> dict[str, Any] | ImageAnswer:
    if route.receives is None:
        return await in_thread(partial(route.handle, **await _fields(request, route)))
    check_change(request.headers.items(), _known(), FILE)
    fields = read_query(request.query.items(), route.fields)
    if (request.content_length or 0) > route.largest:
        raise too_large(route.largest)
    folder = await in_thread(route.receives)
    async with received(request.content, folder, route.largest) as file:
        return await in_thread(partial(route.handle, file=file, **fields))


async def _fields(request: web.Request, route: Route) -> dict[str, Any]:
    if route.method == "GET":
        check_source(Headers(request.headers.items()), _known())
        return read_query(request.query.items(), route.fields)
    check_change(request.headers.items(), _known())
    return read_body(await _body(request, route.largest), route.fields)


def _known() -> set[str]:
    """The addresses the server listens on, and further names from the environment."""
    return names_of(f"{args.listen},{os.environ.get(ALLOWED_HOSTS, '')}")


async def _body(request: web.Request, largest: int) -> bytes:
    """
    Raises:
        RefusedError: 413, without reading past the limit.
    """
    data = bytearray()
    async for part in request.content.iter_any():
        data += part
        if len(data) > largest:
            raise RefusedError(413, "The request is too large.")
    return bytes(data)


def _answer(value: dict[str, Any] | ImageAnswer) -> web.Response:
    if isinstance(value, ImageAnswer):
        kept = _KEEP if value.keep else "no-store"
        return web.Response(body=value.data, content_type=f"image/{value.kind}", headers=_headers(kept))
    return _json(200, value)


def _refusal(refusal: RefusedError) -> web.Response:
    return _json(refusal.status, {"error": refusal.sentence})


def _json(status: int, value: dict[str, Any]) -> web.Response:
    text = json.dumps(value, allow_nan=False)  # ASCII: a lone surrogate cannot be encoded otherwise
    return web.Response(
        status=status, text=text, content_type="application/json", charset="utf-8", headers=_headers("no-store")
    )


def _headers(cache: str) -> dict[str, str]:
    return {
        "Cache-Control": cache,
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-site",  # no other site may embed our images
    }
