"""Whether what a taste foretells comes true, as a chart."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..drawing.charts import Chart, Line, draw_charts
from ..drawing.themes import LIGHT, Theme
from .assessment import Assessment


def reliability_chart(
    assessment: Assessment, *, title: str = "", theme: Theme = LIGHT, size: tuple[int, int] = (800, 600)
) -> Image.Image:
    """The share of answers that came true over the probability they were foretold with, and how many there were. RGB.

    Dots on the diagonal are probabilities that can be believed; below it the taste is too sure of itself, above it not
    sure enough. With too few clicks to say there are no dots.

    Raises:
        ConfigError: the image would be too small to read.
    """
    ends, strong, faint = np.array([0.5, 1.0]), theme.series[0], theme.faint
    lines, hint = [Line("diagonal", ends, ends, faint, dotted=True)], "too few clicks to tell"
    if assessment.reliability:
        columns = zip(*assessment.reliability, strict=True)
        foretold, true, counts = (np.array(column, dtype=np.float64) for column in columns)
        lines.append(Line("answers", foretold, true, strong, dotted=True))
        hint = "of " + ", ".join(f"{count:.0f}" for count in counts) + " answers, from left to right"
    chart = Chart(
        "Came true",
        tuple(lines),
        hint=hint,
        y_limits=(0.0, 1.05),  # so that a dot at 1 is whole
        x_limits=(0.5, 1.0),
        x_label="foretold with a probability of",
        x_format=".0%",
    )
    legend = [("answers to prompts that were left out", strong)] if assessment.reliability else []
    legend.append(("what can be believed", faint))
    return draw_charts([[chart]], title=title, subtitle=assessment.text, legend=legend, theme=theme, size=size)
