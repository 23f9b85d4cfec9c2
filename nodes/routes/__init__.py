"""What the page asks of the pack over HTTP, below `/dspo/`."""

from __future__ import annotations

from typing import Any


def register(server: Any) -> None:
    """Add the routes to ComfyUI's PromptServer; core adds `/api` before each of them too.

    A route that is there already stays: aiohttp ends ComfyUI's start where the pack is installed twice.
    """
    from .serve import handler
    from .table import ROUTES

    taken = {(it.method, it.path) for it in server.routes if hasattr(it, "method")}
    for route in ROUTES:
        if (route.method, route.path) in taken:
            continue
        server.routes.route(route.method, route.path)(handler(route))
