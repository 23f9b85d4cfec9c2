"""The table as Markdown and CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, Protocol

from .summary import Row, reward, share

HEAD = (
    "objective",
    "seeds",
    "hidden reward (95% over seeds)",
    "win rate over the base",
    "fit",
    "diversity",
    "drift",
    "step",
    "at the last step",
)


class Condition(Protocol):
    """Where something was measured."""

    @property
    def taste(self) -> str: ...

    @property
    def pairs(self) -> int: ...

    @property
    def flipped(self) -> float:
        """The share of wrong labels."""
        ...


def condition(row: Condition) -> str:
    labels = f", {row.flipped:.0%} of the labels flipped" if row.flipped else ""
    return f"{row.taste.replace('_', ' ')}, {row.pairs} pairs{labels}"


def markdown(rows: Sequence[Row]) -> str:
    """One table for each taste and condition."""
    lines: list[str] = []
    for name, group in groupby(rows, key=condition):
        lines += [f"### {name[0].upper()}{name[1:]}", "", "| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
        lines += ["| " + " | ".join(_cells(row)) + " |" for row in group]
        lines.append("")
    return "\n".join(lines)


def _cells(row: Row) -> Iterable[str]:
    yield row.label
    yield f"{row.seeds}"
    yield from _at_best(row) if row.gained else ("no checkpoint that keeps the fit is above the base", *["-"] * 5)
    yield f"{row.last_reward:+.2f}, fit {row.last_fit:.0%}"


def _at_best(row: Row) -> Iterable[str]:
    sure = "" if math.isnan(row.low) else f" ({row.low:+.2f} to {row.high:+.2f})"
    base = f", the base in {row.seeds - row.gained}" if row.gained < row.seeds else ""
    yield f"**{row.reward:+.2f}**{sure}{base}"
    yield f"{row.win.rate:.0%} ({row.win.low:.0%} to {row.win.high:.0%})"
    yield f"{row.fit:.1%}"
    yield f"{row.spread:.0%}"
    yield "-" if math.isnan(row.drift) else f"{row.drift:.1e}"
    yield f"{row.step:g}"


LOOKS_HEAD = ("taste", "pairs", "flipped", "label", "seed", "step", "reward", "fit", "spread", "drift")
HELD_OUT = ("held_out_accuracy", "held_out_winner_change")


def looks_csv(results: Iterable[dict[str, Any]]) -> str:
    """Every look at every run, and every measurement on held-out pairs; empty where only the other was taken."""
    return _csv([*LOOKS_HEAD, *HELD_OUT], (line for result in sorted(results, key=_where) for line in _looks(result)))


def _where(result: dict[str, Any]) -> tuple[Any, ...]:
    run = result["run"]
    return run["taste"], run["pairs"], run["flipped"], result["label"], run["seed"]


def _looks(result: dict[str, Any]) -> Iterable[Sequence[Any]]:
    looks = {look["step"]: look for look in result["looks"]}
    measured = {seen["step"]: seen for seen in result.get("held_out", ())}
    for step in sorted(looks.keys() | measured.keys()):
        drawn: Sequence[Any] = ("",) * 4
        if look := looks.get(step):
            drawn = reward(look, result["run"]["taste"]), share(look["fits"]), look["spread"], look["drift"]
        held_out = (measured.get(step, {}).get(name, "") for name in HELD_OUT)
        yield *_where(result), step, *_rounded((*drawn, *held_out), 4)


def csv_text(rows: Sequence[Row]) -> str:
    names = [field.name for field in dataclasses.fields(Row) if field.name != "win"]
    values = ((*(getattr(row, name) for name in names), row.win.rate, row.win.low, row.win.high) for row in rows)
    return _csv([*names, "win_rate", "win_low", "win_high"], (_rounded(line, 6) for line in values))


def _rounded(values: Iterable[Any], digits: int) -> list[Any]:
    return [f"{value:.{digits}g}" if isinstance(value, float) else value for value in values]


def _csv(head: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(lines)
    return out.getvalue()
