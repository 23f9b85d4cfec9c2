"""The runs, with the titles that were given to them."""

from __future__ import annotations

from typing import Any

from ...dspo_train.files.titles import title_of
from .. import places
from . import runs


def listed() -> dict[str, Any]:
    found = runs.listed()
    return {**found, "runs": [{**row, "title": title_of(places.runs() / row["run"])} for row in found["runs"]]}
