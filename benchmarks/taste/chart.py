"""Two charts a taste: hidden reward over the steps, and against the caption fit; one line an objective."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dspo_train.drawing.charts import Chart, Line, draw_charts
from dspo_train.drawing.themes import Colour

from .summary import FIT_LOST, reward, share

SIZE = (1560, 1120)
COLOURS: Mapping[str, Colour] = {
    "dspo": (79, 70, 205), "diffusion_dpo": (201, 62, 40), "dspo_e": (214, 146, 20), "sft": (30, 30, 34),
    "dspo_paper": (150, 150, 158), "dspo_implicit": (14, 124, 160), "mapo": (22, 132, 82),
    "diffusion_kto": (176, 52, 128), "ipo": (140, 90, 210), "dspo_sdxl": (60, 160, 150), "dspo_ref": (190, 160, 140),
}  # fmt: skip

Curves = Mapping[str, NDArray[np.float64]]  # by objective: step, reward and fit, from the base at step 0 on; (n, 3)


def curves(results: Sequence[dict[str, Any]], base: dict[str, Any]) -> dict[str, Curves]:
    """By taste: means over the seeds, of runs in one condition at one setting per objective."""
    groups: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        groups[result["run"]["taste"]][result["run"]["objective"]].append(result)
    return {
        taste: {name: _means(runs, base) for name, runs in by_name.items()}
        for taste, by_name in sorted(groups.items(), reverse=True)
    }


def _means(runs: Sequence[dict[str, Any]], base: dict[str, Any]) -> NDArray[np.float64]:
    taste = runs[0]["run"]["taste"]
    steps = zip(*(({"step": 0, **base}, *run["looks"]) for run in runs), strict=True)
    return np.array(
        [
            (
                looks[0]["step"],
                statistics.fmean(reward(look, taste) for look in looks),
                statistics.fmean(share(look["fits"]) for look in looks),
            )
            for looks in steps
        ]
    )


def draw(tastes: Mapping[str, Curves]) -> Image.Image:
    """RGB, a row per taste."""
    names = {name for found in tastes.values() for name in found}
    return draw_charts(
        [_row(taste, found) for taste, found in tastes.items()],
        title="Which objective learns the taste, and what it costs the image",
        subtitle="400 pairs, mean over the seeds; dspo at its default, the others at the best setting tried. "
        "From the base, a dot per checkpoint.",
        legend=[(name, colour) for name, colour in COLOURS.items() if name in names],
        size=SIZE,
    )


def _row(taste: str, found: Curves) -> tuple[Chart, Chart]:
    title = taste.replace("_", " ").capitalize()
    worst = min(float(curve[:, 2].min()) for curve in found.values())
    left = math.floor(20 * min(worst, 0.95)) / 20  # the fit at the right edge, in twentieths
    over_steps = Chart(title, _lines(found, 0), hint="hidden reward over the steps", x_label="step")
    against_fit = Chart(
        title,
        _lines(found, 2),
        hint="reward against caption fit; shaded: not counted",
        x_limits=(1.0, left),
        x_label="share of images that show what the caption names",
        x_format=".0%",
        shaded=(1 - FIT_LOST, left),
    )
    return over_steps, against_fit


def _lines(found: Curves, column: int) -> tuple[Line, ...]:
    """Reward over a column of the curves; `dspo` last, on top."""
    names = [name for name in reversed(list(COLOURS)) if name in found]
    return tuple(Line(name, found[name][:, column], found[name][:, 1], COLOURS[name], dotted=True) for name in names)
