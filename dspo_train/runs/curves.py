"""The training curve, which shows whether a run makes progress."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..drawing import series
from ..drawing.charts import Chart, Line, draw_charts
from ..drawing.series import Array
from ..drawing.themes import LIGHT, Colour, Theme
from ..exceptions import ConfigError
from . import alarm
from .reports import Report

_ALARM = "the error on winners is too high: image quality will suffer"
_HELD_OUT = "held_out_"
_TINT = 0.45  # of a colour in its tint; the rest is the page


def training_curve(
    reports: Sequence[Report], *, title: str = "", theme: Theme = LIGHT, size: tuple[int, int] = (1200, 900)
) -> Image.Image:
    """Margin, accuracy and error changes over the steps of a run. RGB.

    The loss is left out, because it does not distinguish a good run from a bad one. If pairs were held out, their lines
    are strong and those of training are tinted: a step's own pairs are noisy and flatter the model. Of several reports
    for one step, as after a resume, the last counts.

    Args:
        reports: one mapping per step with `step` and any of `margin`, `accuracy`, `winner_change`, `loser_change`,
            `lr`; a value that is missing, None, NaN or infinite is skipped and marked. Measurements on held-out pairs
            have the same names after `held_out_`; steps without them are not marked.

    Raises:
        ConfigError: a report has no usable `step`, or the image would be too small to read.
    """
    by_step = {_step(report, number): report for number, report in enumerate(reports)}
    ordered = [by_step[step] for step in sorted(by_step)]
    measured = [report for report in ordered if report.get(_HELD_OUT + "margin") is not None]

    def lines(*drawn: tuple[str, str, int]) -> tuple[Line, ...]:
        """Lines from (name, key, colour) each; held-out lines last, on top."""
        plain = [
            _line(name, ordered, key, _tint(theme.series[colour], theme) if measured else theme.series[colour])
            for name, key, colour in drawn
        ]
        strong = [
            _line(f"held-out {name}", measured, _HELD_OUT + key, theme.series[colour], dotted=True)
            for name, key, colour in drawn
        ]
        return (*plain, *(strong if measured else ()))

    worse = alarm.alarm(ordered) is not None
    charts = (
        Chart(
            "Margin",
            lines(("margin", "margin", 0)),
            hint="above zero, the model prefers your winners more than the base does",
            reference=0.0,
        ),
        Chart(
            "Accuracy",
            lines(("accuracy", "accuracy", 3)),
            hint="share of pairs that the model ranks as you did; 0.5 is chance",
            reference=0.5,
            y_limits=(-0.04, 1.04),
        ),
        Chart(
            "Error relative to the base",
            lines(("winner", "winner_change", 1), ("loser", "loser_change", 2)),
            hint=_ALARM if worse else "below zero, the model predicts it better than the base does",
            alarm=worse,
            reference=0.0,
            x_label="step",
        ),
    )
    return draw_charts([[chart] for chart in charts], title=title, subtitle=_summary(ordered), theme=theme, size=size)


def _line(name: str, reports: Sequence[Report], key: str, colour: Colour, dotted: bool = False) -> Line:
    return Line(name, _values(reports, "step"), _values(reports, key), colour, dotted)


def _tint(colour: Colour, theme: Theme) -> Colour:
    red, green, blue = (round(_TINT * c + (1 - _TINT) * p) for c, p in zip(colour, theme.page, strict=True))
    return red, green, blue


def _step(report: Report, number: int) -> float:
    step = report.get("step")
    if not isinstance(step, (int, float)) or not math.isfinite(step):
        raise ConfigError(f"report {number} has no usable `step`: found {step!r}; every report needs its step number")
    return float(step)


def _values(reports: Sequence[Report], key: str) -> Array:
    """One number per report; NaN if it is missing or, as NaN is written in JSON, null. -> (n,)"""
    found = (report.get(key) for report in reports)
    return np.array([math.nan if value is None else float(value) for value in found], dtype=np.float64)


def _summary(reports: Sequence[Report]) -> str:
    if not reports:
        return "no reports yet"
    rates = _values(reports, "lr")
    rates = rates[series.finite(rates)]
    lr = f" · learning rate {series.compact_number(float(rates.max()))}" if len(rates) else ""
    return f"step {reports[-1]['step']:,.0f}{lr}"
