"""How well a taste is known, in words and as a chart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..drawing.charts import Chart, Line, draw_charts
from ..drawing.themes import LIGHT, Theme

if TYPE_CHECKING:
    from .head import Assessment

_CERTAIN = np.array([0.5, 1.0])


def report_text(assessment: Assessment) -> str:
    """The assessment's sentence, what it rests on, and how often it was right where it said how sure it was."""
    lines = [assessment.text, f"From {assessment.pairs} pairs of {assessment.prompts} prompts."]
    if assessment.reliability:
        lines += ["", "Sure to, on prompts it had not seen: right"]
        lines += [f"{said:.0%}: {right:.0%} of {count}" for said, right, count in assessment.reliability]
    return "\n".join(lines)


def reliability_chart(
    assessment: Assessment, *, title: str = "", theme: Theme = LIGHT, size: tuple[int, int] = (900, 700)
) -> Image.Image:
    """The share of pairs that were ranked right over how sure the taste was of them, on prompts it had not seen. RGB.

    A taste that knows what it knows stays on the diagonal.
    """
    diagonal = Line("as it should be", _CERTAIN, _CERTAIN, theme.faint)
    lines = (diagonal,)
    if assessment.reliability:
        said, right, _ = (np.array(column, dtype=np.float64) for column in zip(*assessment.reliability, strict=True))
        lines = (diagonal, Line("as it was", said, right, theme.series[0], dotted=True))
    chart = Chart(
        "Ranked as you did",
        lines,
        hint="the share of pairs, over how sure it was" if assessment.reliability else "too few clicks to tell",
        y_limits=(0.0, 1.04),
        x_limits=(0.5, 1.0),
        x_label="how sure it was",
        x_format=".0%",
    )
    return draw_charts([[chart]], title=title, subtitle=assessment.text, theme=theme, size=size)
