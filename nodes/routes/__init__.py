"""The HTTP routes of the panel, below `/dspo/`."""

from __future__ import annotations

from typing import Any


def register(server: Any) -> None:
    """Add the routes to ComfyUI's PromptServer; core also serves each of them under `/api`.

    A route that exists is left alone: with the pack installed twice, aiohttp would abort ComfyUI's start.
    """
    from .serve import handler
    from .table import ROUTES

    taken = {(it.method, it.path) for it in server.routes if hasattr(it, "method")}
    for route in ROUTES:
        if (route.method, route.path) in taken:
            continue
        server.routes.route(route.method, route.path)(handler(route))
