"""Prepare numbers over steps for plotting: views, ticks, smoothing and thinning. Arrays in, arrays out."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MINUS = "\N{MINUS SIGN}"
_ABSURD = 1e30  # beyond it a value counts as not finite: the arithmetic of an axis would overflow
POINTS = 1500  # a smoothed line has no more; a plot is about that many pixels wide
_SMOOTHING = 0.025  # standard deviation of the smoother as a share of the points


def finite(values: Array) -> NDArray[np.bool_]:
    """Which values can be drawn. (n,) -> (n,)"""
    with np.errstate(invalid="ignore"):
        return np.isfinite(values) & (np.abs(values) < _ABSURD)


def view(values: Array, always: tuple[float, ...] = ()) -> tuple[float, float]:
    """The range that an axis shows: everything, unless a few outliers would flatten the rest.

    Args:
        values: of every line of a panel, (n,); those that are not finite are ignored.
        always: values that must be in view, such as a reference line.
    """
    kept = values[finite(values)]
    if not len(kept):
        kept = np.array(always or (0.0, 1.0))
    low, high = float(kept.min()), float(kept.max())
    inner_low, inner_high = (float(edge) for edge in np.percentile(kept, (1, 99)))
    reach = 0.75 * (inner_high - inner_low)
    if reach > 0:
        low, high = max(low, inner_low - reach), min(high, inner_high + reach)
    low, high = min(low, *always, math.inf), max(high, *always, -math.inf)
    span = high - low
    if span <= 1e-9 * max(abs(low), abs(high)) or span < 1e-30:
        span = max(abs(high), 1e-3)
        return low - 0.5 * span, high + 0.5 * span
    return low - 0.08 * span, high + 0.08 * span


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten) inside a range, at most `most` of them.

    >>> ticks(0.0, 1.0)
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for step in (power * factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0, 20.0)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            return [number * step for number in range(first, last + 1)]
    return [low, high]


def thinned(steps: Array, values: Array) -> tuple[Array, Array]:
    """At most `POINTS` points, each the mean step and mean finite value of a run of neighbours. (n,) -> (m,)"""
    groups = _groups(len(steps))
    return _means(steps, groups), _means(values, groups)


def gaussian_mean(values: Array) -> Array:
    """A centred Gaussian mean of the finite values; NaN where the window holds too few. (n,) -> (n,)"""
    if not len(values):
        return values
    width = max(0.4, _SMOOTHING * len(values))
    reach = min(math.ceil(3 * width), len(values) - 1)
    kernel = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / width))
    usable = finite(values)
    weight = np.convolve(usable.astype(np.float64), kernel)[reach : reach + len(values)]
    total = np.convolve(np.where(usable, values, 0.0), kernel)[reach : reach + len(values)]
    enough = weight > 0.15 * kernel.sum() if len(values) > 1 else usable
    return np.divide(total, weight, out=np.full(len(values), np.nan), where=enough)


def label(value: float, exponent: int) -> str:
    """A tick's label in units of 10^exponent.

    >>> label(0.0015, -3)
    '1.5'
    """
    text = f"{value / 10.0**exponent:.4g}"
    return "0" if text == "-0" else text.replace("-", MINUS)


def shared_exponent(values: list[float]) -> int:
    """The power of ten to factor out of an axis's labels; 0 if they are short without it."""
    largest = max((abs(value) for value in values), default=0.0)
    if largest == 0 or 0.1 <= largest < 1e5:
        return 0
    return math.floor(math.log10(largest) + 1e-9)


def compact_number(value: float) -> str:
    """A value for a legend, two or three digits: 0.71, 1.8e−3."""  # noqa: RUF002
    if not math.isfinite(value):
        return "not finite"
    text = f"{value:.2f}" if 0.1 <= abs(value) < 100 else f"{value:.3g}"
    if 0 < abs(value) < 0.1 or abs(value) >= 1e5:
        mantissa, exponent = f"{value:.1e}".split("e")
        text = f"{mantissa}e{int(exponent)}"
    return "0" if value == 0 else text.replace("-", MINUS)


def _groups(points: int) -> NDArray[np.int64]:
    """Which of at most `POINTS` groups of neighbours each point belongs to. -> (points,)"""
    return np.arange(points) * min(points, POINTS) // max(1, points)


def _means(values: Array, groups: NDArray[np.int64]) -> Array:
    usable = finite(values)
    size = int(groups[-1]) + 1 if len(groups) else 0
    count = np.bincount(groups[usable], minlength=size)
    total = np.bincount(groups[usable], weights=values[usable], minlength=size)
    return np.divide(total, count, out=np.full(size, np.nan), where=count > 0)
