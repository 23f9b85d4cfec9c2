"""The training curve: what tells an artist whether a run is getting somewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from ..drawing import series
from ..drawing.charts import Line, LinePanel, draw_panels
from ..drawing.series import Array
from ..drawing.themes import LIGHT, Colour, Theme
from ..exceptions import ConfigError
from . import alarm

__all__ = ["Line", "LinePanel", "draw_panels", "training_curve"]

Report = Mapping[str, Any]

_ALARM = "the winner's line is too high: pictures will suffer"
_HELD_OUT = "held_out_"
_TINT = 0.45  # of a colour in its tint; the rest is the page


def training_curve(
    reports: Sequence[Report], *, title: str = "", theme: Theme = LIGHT, size: tuple[int, int] = (1200, 900)
) -> Image.Image:
    """Margin, accuracy and error changes over the steps of a run. RGB.

    The loss is left out: it does not tell a good run from a bad one. Where pairs were held out, their lines are the
    strong ones and the training's are tinted: what a step says of its own pairs is noisy and flatters. Of several
    reports of one step, as a resumed run leaves them, the last counts.

    Args:
        reports: one mapping per step with `step` and any of `margin`, `accuracy`, `winner_change`, `loser_change`,
            `lr`; a value that is missing, None, NaN or infinite is skipped and marked. Measurements on held-out pairs
            are those of the same names after `held_out_`; steps without are nothing to mark.

    Raises:
        ConfigError: a report without a usable `step`, or a picture too small to read.
    """
    by_step = {_step(report, number): report for number, report in enumerate(reports)}
    ordered = [by_step[step] for step in sorted(by_step)]
    steps = np.array(sorted(by_step), dtype=np.float64)
    measured = [report for report in ordered if report.get(_HELD_OUT + "margin") is not None]

    def lines(*drawn: tuple[str, str, int]) -> tuple[Line, ...]:
        """Of (name, key, colour) each, the training's before those of held-out pairs."""
        tint = len(theme.series) if measured else 0
        training = [Line(name, steps, _values(ordered, key), colour + tint) for name, key, colour in drawn]
        return (*training, *(_held_out_line(measured, *line) for line in drawn if measured))

    worse = alarm.alarm(ordered) is not None
    panels = (
        LinePanel(
            "Margin",
            lines(("margin", "margin", 0)),
            hint="above zero: it prefers your winners more than the base does",
            reference=0.0,
        ),
        LinePanel(
            "Accuracy",
            lines(("accuracy", "accuracy", 3)),
            hint="share of pairs it ranks as you did; 0.5 is chance",
            reference=0.5,
            limits=(-0.04, 1.04),
        ),
        LinePanel(
            "Error against the base",
            lines(("winner", "winner_change", 1), ("loser", "loser_change", 2)),
            hint=_ALARM if worse else "below zero it is predicted better than by the base",
            alarm=worse,
            reference=0.0,
        ),
    )
    return draw_panels(panels, title=title, subtitle=_summary(ordered, steps), theme=_with_tints(theme), size=size)


def _held_out_line(measured: Sequence[Report], name: str, key: str, colour: int) -> Line:
    steps = np.array([report["step"] for report in measured], dtype=np.float64)
    return Line(f"held-out {name}", steps, _values(measured, _HELD_OUT + key), colour, marked=True)


def _with_tints(theme: Theme) -> Theme:
    """The theme with a tint of each series colour after them all."""

    def tint(colour: Colour) -> Colour:
        red, green, blue = (round(_TINT * c + (1 - _TINT) * p) for c, p in zip(colour, theme.page, strict=True))
        return red, green, blue

    return replace(theme, series=(*theme.series, *map(tint, theme.series)))


def _step(report: Report, number: int) -> float:
    step = report.get("step")
    if not isinstance(step, (int, float)) or not math.isfinite(step):
        raise ConfigError(f"report {number} has no usable step, found {step!r}; every report needs its step number")
    return float(step)


def _values(reports: Sequence[Report], key: str) -> Array:
    """One number per report; NaN for what is missing. A JSON file writes NaN as null. -> (n,)"""
    found = (report.get(key) for report in reports)
    return np.array([math.nan if value is None else float(value) for value in found], dtype=np.float64)


def _summary(reports: Sequence[Report], steps: Array) -> str:
    if not reports:
        return "no reports yet"
    rates = _values(reports, "lr")
    rates = rates[series.finite(rates)]
    lr = f" · learning rate {series.short(float(rates.max()))}" if len(rates) else ""
    return f"step {steps[-1]:,.0f}{lr}"
