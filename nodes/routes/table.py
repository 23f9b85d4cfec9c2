"""Every route: its method, its handler, and the fields it takes."""

from __future__ import annotations

from . import fields, images, listing, results, runs, transfer, voting
from .fields import Field, Fields, choice, digits, optional
from .serve import Route

_SET: Fields = {"place": Field(fields.place), "set": Field(fields.name)}
_BLIND: Fields = {"place": Field(choice("blind")), "set": Field(fields.name)}
_THEME = optional(choice("light", "dark"), "light")
_TARGET: Fields = {**_SET, "target": Field(fields.target)}
_NEXT: Fields = {
    **_SET,
    "count": optional(digits(1, 64), 4),
    "skip": optional(fields.pairs, frozenset()),
    "client": optional(fields.identifier),
}
_IMAGE: Fields = {**_SET, "image": Field(fields.image), "size": optional(digits(32, 2048))}
_HISTORY: Fields = {**_SET, "offset": optional(digits(0, 10**9), 0), "limit": optional(digits(1, 500), 50)}
_RUN: Fields = {"run": Field(fields.name), "since": optional(digits(0, 10**9), 0)}
_VOTE: Fields = {
    **_SET,
    "pair": Field(fields.pair),
    "outcome": Field(choice("win", "tie", "skip")),
    "winner": optional(fields.image),
    "id": Field(fields.identifier),
    "client": Field(fields.identifier),
    "seconds": optional(fields.duration),
    "relabel": optional(fields.yes_or_no, False),
}
_UNDO: Fields = {
    **_SET,
    "client": Field(fields.identifier),
    "id": Field(fields.identifier),
    "vote": optional(fields.identifier),
}

ROUTES = (
    Route("GET", "/dspo/sets", listing.sets, {}),
    Route("GET", "/dspo/next", voting.upcoming, _NEXT),
    Route("GET", "/dspo/image", images.image, _IMAGE),
    Route("GET", "/dspo/history", voting.history, _HISTORY),
    Route("GET", "/dspo/result", results.result, _BLIND),
    Route("GET", "/dspo/result.png", results.card, {**_BLIND, "theme": _THEME}),
    Route("GET", "/dspo/card", results.run_card, {"run": Field(fields.name), "theme": _THEME}),
    Route("GET", "/dspo/runs", runs.listed, {}),
    Route("GET", "/dspo/run", runs.reports, _RUN),
    Route("GET", "/dspo/preview", runs.preview, {"run": Field(fields.name), "file": Field(fields.preview)}),
    Route("POST", "/dspo/vote", voting.vote, _VOTE),
    Route("POST", "/dspo/undo", voting.undo, _UNDO),
    Route("POST", "/dspo/remove", voting.remove, _TARGET),
    Route("POST", "/dspo/restore", voting.restore, _TARGET),
    Route("POST", "/dspo/import", transfer.take_in, {"set": Field(fields.name), "into": Field(fields.name)}),
    Route(
        "POST",
        "/dspo/export",
        transfer.give_out,
        {**_SET, "layout": Field(choice("suffix", "subfolders", "ranked", "jsonl", "csv"))},
    ),
)
