"""Who won a row of a table. A value that leaves any doubt is refused.

    preference        names the winning image: 0, 1, or a tie ("tie" or 0.5); also `label`
    label_0, label_1  how much each image won: 1 and 0, 0 and 1, or 0.5 and 0.5; one of them is enough
    prefer_0/1        true for the winner (invoke-training)
    has_label         false: nobody has judged this row yet (Pick-a-Pic)
    doubt             the share of the label that is believed wrong, 0 to 0.5; 0 where it is empty

`preference: 0` and `label_0: 1` therefore mean the same: image_0 won.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

WINNER_COLUMNS = ("preference", "label")
SCORE_COLUMNS = (("label_0", "label_1"), ("prefer_0", "prefer_1"))
DOUBT_COLUMN = "doubt"
LABEL_COLUMNS = (*WINNER_COLUMNS, *SCORE_COLUMNS[0], *SCORE_COLUMNS[1])

TableRow = Mapping[str, Any]
RowOutcome = Literal["0", "1", "tie", "unlabelled"]

_OUTCOMES: dict[float, RowOutcome] = {0.0: "0", 1.0: "1", 0.5: "tie"}
_WINNER_WORDS = {"image_0": 0.0, "image_1": 1.0, "tie": 0.5}
_SCORE_WORDS = {"true": 1.0, "false": 0.0, "tie": 0.5}


class RowError(Exception):
    """Why one row cannot be used, in words for a user."""


def judge_row(row: TableRow) -> RowOutcome:
    """Who won this row. Every label column that is filled in has a say, and they must agree.

    Raises:
        RowError: a value that is not a preference, contradicting columns, or no label column at all.
    """
    if as_number(row.get("has_label"), _SCORE_WORDS) == 0.0:
        return "unlabelled"
    votes = _votes(row)
    if not votes:
        if any(column in row for column in LABEL_COLUMNS):
            return "unlabelled"
        raise RowError(f"has no preference; add a 'preference' of 0, 1 or \"tie\" (columns: {column_names(row)})")
    if len(set(votes.values())) > 1:
        values = ", ".join(f"{column} = {row[column]}" for column in votes)
        raise RowError(f"its columns disagree on who won ({values}); keep one of them, or correct them")
    return _OUTCOMES[next(iter(votes.values()))]


def doubt_of(row: TableRow) -> float:
    """The share of a row's label that is believed wrong.

    Raises:
        RowError: it is not a number from 0 to one half.
    """
    if not filled(row, DOUBT_COLUMN):
        return 0.0
    number = as_number(row[DOUBT_COLUMN], {})
    if number is None or not 0 <= number <= 0.5:
        raise RowError(f"doubt is {as_json(row[DOUBT_COLUMN])}; it must be a number from 0 to 0.5")
    return number


def filled(row: TableRow, column: str) -> bool:
    """Whether the row has a value there; an empty CSV cell is not one."""
    value = row.get(column)
    return value is not None and not (isinstance(value, str) and not value.strip())


def as_number(value: Any, words: Mapping[str, float]) -> float | None:
    """A number from a JSON value or a CSV cell, or None where it is not a number from -1 to 1."""
    if isinstance(value, str):
        word = value.strip().casefold()
        if word in words:
            return words[word]
        try:
            return float(word)
        except ValueError:
            return None
    return float(value) if isinstance(value, (bool, int, float)) and abs(value) <= 1 else None


def column_names(row: TableRow) -> str:
    """The columns of a row, for an error message."""
    return ", ".join(str(name) for name in list(row)[:12]) or "none"


def as_json(value: Any) -> str:
    """A value in JSON, shortened to fit an error message."""
    if value is None:
        return "empty"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def _votes(row: TableRow) -> dict[str, float]:
    """Column -> the image it names as the winner: 0.0, 1.0, or 0.5 for a tie."""
    votes: dict[str, float] = {}
    for column in WINNER_COLUMNS:
        # A bare true or false does not say which image it means.
        if filled(row, column) and isinstance(row[column], bool):
            raise RowError(f"{column} is {as_json(row[column])}; it must be 0, 1 or tie")
        if filled(row, column):
            votes[column] = _value(row, column, _WINNER_WORDS, "0 (image_0 won), 1 (image_1 won) or tie")
    for columns in SCORE_COLUMNS:
        for index, column in enumerate(columns):
            if filled(row, column):
                score = _value(row, column, _SCORE_WORDS, "1 (won), 0 (lost) or 0.5 (tie)")
                votes[column] = score if index else 1.0 - score
    if (votes.get("prefer_0"), votes.get("prefer_1")) == (1.0, 0.0):
        # invoke-training writes false twice where neither was preferred: a tie, not a contradiction.
        votes["prefer_0"] = votes["prefer_1"] = 0.5
    return votes


def _value(row: TableRow, column: str, words: Mapping[str, float], allowed: str) -> float:
    number = as_number(row[column], words)
    if number is None or number not in _OUTCOMES:
        raise RowError(f"{column} is {as_json(row[column])}; it must be {allowed}")
    return number
