"""Every route: its method, its handler, and the fields it takes."""

from __future__ import annotations

from ..gather_sources import SOURCES
from . import ballots, bin, drop, fields, gather, images, listing, results, runs, tastes, transfer, voting
from .fields import Field, Fields, choice, digits, optional
from .serve import Route

_SET: Fields = {"place": Field(fields.place), "set": Field(fields.name)}
_BLIND: Fields = {"place": Field(choice("blind")), "set": Field(fields.name)}
_THEME = optional(choice("light", "dark"), "light")
_TARGET: Fields = {**_SET, "target": Field(fields.target)}
_NEXT: Fields = {
    **_SET,
    "count": optional(digits(1, 64), 4),
    "skip": optional(fields.questions, frozenset()),
    "client": optional(fields.identifier),
    "find": optional(fields.sought, ""),
}
_IMAGE: Fields = {**_SET, "image": Field(fields.image), "size": optional(digits(32, 2048))}
_HISTORY: Fields = {**_SET, "offset": optional(digits(0, 10**9), 0), "limit": optional(digits(1, 500), 50)}
_RANKED: Fields = {
    "set": Field(fields.name),
    "offset": optional(digits(0, 10**9), 0),
    "limit": optional(digits(1, 500), 60),
}
_RUN: Fields = {"run": Field(fields.name), "since": optional(digits(0, 10**9), 0)}
_PREVIEW: Fields = {"run": Field(fields.name), "file": Field(fields.preview), "size": optional(digits(32, 2048))}
_VOTE: Fields = {
    **_SET,
    "pair": Field(fields.pair),
    "outcome": Field(choice("win", "tie", "skip", "bad")),
    "winner": optional(fields.image),
    "id": Field(fields.identifier),
    "client": Field(fields.identifier),
    "seconds": optional(fields.duration),
    "relabel": optional(fields.yes_or_no, False),
}
_JUDGE: Fields = {
    **_SET,
    "group": Field(fields.identifier),
    "images": Field(fields.images),
    "best": optional(fields.images, []),
    "bad": optional(fields.images, []),
    "skip": optional(fields.yes_or_no, False),
    "id": Field(fields.identifier),
    "client": Field(fields.identifier),
    "seconds": optional(fields.duration),
}
_UNDO: Fields = {
    **_SET,
    "client": Field(fields.identifier),
    "id": Field(fields.identifier),
    "vote": optional(fields.identifier),
    "earlier": optional(fields.clients, []),
}

_KIND = Field(choice("sets", "blind", "runs"))
_NAMED: Fields = {"kind": _KIND, "name": Field(fields.name)}
_ENTRY: Fields = {"kind": _KIND, "entry": Field(fields.name)}
_GATHER: Fields = {
    "source": Field(choice(*SOURCES)),
    "folder": optional(gather.folder_name, ""),
    "set": optional(fields.loose_name, ""),
    "group": optional(fields.identifier),
    "offset": optional(digits(0, 10**9), 0),
    "limit": optional(digits(1, 500), 24),
}
_GATHER_IMAGE: Fields = {
    "source": Field(choice(*SOURCES)),
    "image": Field(fields.name),
    "size": optional(digits(32, 2048), 256),
    "stamp": optional(fields.identifier, ""),
}
_COLLECT: Fields = {
    "source": Field(choice(*SOURCES)),
    "folder": optional(gather.folder_name, ""),
    "set": Field(fields.name),
    "schedule": optional(choice(*gather.SCHEDULES), "auto"),
    "everything": optional(fields.yes_or_no, False),
    "groups": optional(gather.choices, {}),
}

ROUTES = (
    Route("GET", "/dspo/sets", listing.sets, {}),
    Route("GET", "/dspo/next", voting.upcoming, _NEXT),
    Route("GET", "/dspo/groups", ballots.upcoming, _NEXT),
    Route("GET", "/dspo/about", ballots.about, {**_SET, "group": Field(fields.identifier)}),
    Route("GET", "/dspo/image", images.image, _IMAGE),
    Route("GET", "/dspo/history", voting.history, _HISTORY),
    Route("GET", "/dspo/taste", tastes.told, {"set": Field(fields.name)}),
    Route("GET", "/dspo/ranked", tastes.ranked, _RANKED),
    Route("GET", "/dspo/result", results.result, _BLIND),
    Route("GET", "/dspo/result.png", results.card, {**_BLIND, "theme": _THEME}),
    Route("GET", "/dspo/card", results.run_card, {"run": Field(fields.name), "theme": _THEME}),
    Route("GET", "/dspo/look", images.look, {"set": Field(fields.name)}),
    Route(
        "GET",
        "/dspo/thumbnail",
        images.thumbnail,
        {"set": Field(fields.name), "index": Field(digits(0, 9)), "size": Field(digits(32, 512))},
    ),
    Route("GET", "/dspo/bin", bin.listed, {}),
    Route("GET", "/dspo/runs", runs.listed, {}),
    Route("GET", "/dspo/run", runs.reports, _RUN),
    Route("GET", "/dspo/preview", runs.preview, _PREVIEW),
    Route("GET", "/dspo/workflow", runs.workflow, {"run": Field(fields.name)}),
    Route("POST", "/dspo/stop", runs.stop, {"run": Field(fields.name)}),
    Route("POST", "/dspo/vote", voting.vote, _VOTE),
    Route("POST", "/dspo/judge", ballots.judge, _JUDGE),
    Route("POST", "/dspo/undo", voting.undo, _UNDO),
    Route("POST", "/dspo/remove", voting.remove, _TARGET),
    Route("POST", "/dspo/restore", voting.restore, _TARGET),
    Route("POST", "/dspo/rename", bin.rename, {**_NAMED, "to": Field(fields.name)}),
    Route("POST", "/dspo/delete", bin.delete, _NAMED),
    Route("POST", "/dspo/undelete", bin.undelete, _ENTRY),
    Route("POST", "/dspo/erase", bin.erase, _ENTRY),
    Route("POST", "/dspo/import", transfer.take_in, {"set": Field(fields.name), "into": Field(fields.name)}),
    Route(
        "POST",
        "/dspo/export",
        transfer.give_out,
        {**_SET, "layout": Field(choice("suffix", "subfolders", "ranked", "jsonl", "csv", "opinions"))},
    ),
    Route("GET", "/dspo/gather", gather.listed, _GATHER),
    Route("GET", "/dspo/gather.image", gather.image, _GATHER_IMAGE),
    Route("GET", "/dspo/gather.status", gather.status, {}),
    Route("POST", "/dspo/gather", gather.collect, _COLLECT, largest=gather.LARGEST_ORDER),
    Route("POST", "/dspo/gather.cancel", gather.cancel, {"job": Field(fields.identifier)}),
    Route(
        "POST",
        "/dspo/drop",
        drop.take,
        {"name": optional(fields.loose_name, "")},
        largest=drop.LARGEST_FILE,
        receives=drop.tray,
    ),
)
