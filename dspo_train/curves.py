"""The training curve: what tells an artist whether a run is getting somewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from .drawing import series
from .drawing.panels import Line, LinePanel, draw_panels
from .drawing.series import Array
from .drawing.themes import LIGHT, Theme
from .exceptions import ConfigError

__all__ = ["Line", "LinePanel", "draw_panels", "training_curve"]

Report = Mapping[str, float]

_ALARM = "the winner's line is above zero: pictures may be getting worse"


def training_curve(
    reports: Sequence[Report], *, title: str = "", theme: Theme = LIGHT, size: tuple[int, int] = (1200, 900)
) -> Image.Image:
    """Margin, accuracy and error changes over the steps of a run. RGB.

    The loss is left out: it does not tell a good run from a bad one. Of several reports of one step, as a resumed
    run leaves them, the last counts.

    Args:
        reports: one mapping per step with `step` and any of `margin`, `accuracy`, `winner_change`, `loser_change`,
            `lr`; a value that is missing, None, NaN or infinite is skipped and marked.

    Raises:
        ConfigError: a report without a usable `step`, or a picture too small to read.
    """
    by_step = {_step(report, number): report for number, report in enumerate(reports)}
    ordered = [by_step[step] for step in sorted(by_step)]
    steps = np.array(sorted(by_step), dtype=np.float64)

    def line(name: str, key: str, colour: int) -> Line:
        return Line(name, steps, _values(ordered, key), colour)

    worse = _is_above_zero(_values(ordered, "winner_change"))
    panels = (
        LinePanel(
            "Margin",
            (line("margin", "margin", 0),),
            hint="above zero: it prefers your winners more than the base does",
            reference=0.0,
        ),
        LinePanel(
            "Accuracy",
            (line("accuracy", "accuracy", 3),),
            hint="share of pairs it ranks as you did; 0.5 is chance",
            reference=0.5,
            limits=(-0.04, 1.04),
        ),
        LinePanel(
            "Error against the base",
            (line("winner", "winner_change", 1), line("loser", "loser_change", 2)),
            hint=_ALARM if worse else "the winner's line should stay below zero",
            alarm=worse,
            reference=0.0,
        ),
    )
    return draw_panels(panels, title=title, subtitle=_summary(ordered, steps), theme=theme, size=size)


def _step(report: Report, number: int) -> float:
    step = report.get("step")
    if not isinstance(step, (int, float)) or not math.isfinite(step):
        raise ConfigError(f"report {number} has no usable step, found {step!r}; every report needs its step number")
    return float(step)


def _values(reports: Sequence[Report], key: str) -> Array:
    """One number per report; NaN for what is missing. A JSON file writes NaN as null. -> (n,)"""
    found = (report.get(key) for report in reports)
    return np.array([math.nan if value is None else float(value) for value in found], dtype=np.float64)


def _is_above_zero(values: Array) -> bool:
    """Whether the last tenth of the run lies above zero by more than its noise, two standard errors."""
    last = values[-max(8, len(values) // 10) :]
    last = last[series.finite(last)]
    return len(last) >= 4 and float(last.mean()) > 2 * float(last.std()) / math.sqrt(len(last))


def _summary(reports: Sequence[Report], steps: Array) -> str:
    if not reports:
        return "no reports yet"
    rates = _values(reports, "lr")
    rates = rates[series.finite(rates)]
    lr = f" · learning rate {series.short(float(rates.max()))}" if len(rates) else ""
    return f"step {steps[-1]:,.0f}{lr}"
