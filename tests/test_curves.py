"""The training curve: right numbers in the right place, whatever a run leaves behind."""

from __future__ import annotations

import dataclasses
import math
import time

import numpy as np
import pytest
from PIL import Image

from dspo_train.drawing import series
from dspo_train.drawing.charts import Chart, Line, draw_charts
from dspo_train.drawing.themes import DARK, LIGHT, Theme
from dspo_train.exceptions import ConfigError
from dspo_train.runs.curves import training_curve

NAN, INF = math.nan, math.inf


def report(step: int, value: float = 1e-3, **changes: float) -> dict[str, float]:
    keys = ("loss", "margin", "winner_change", "loser_change")
    return {"step": step, "accuracy": 0.75, "lr": 1e-4, **dict.fromkeys(keys, value), **changes}


def rows_of(picture: Image.Image, colour: tuple[int, int, int], column: int) -> list[int]:
    """Where a column of pixels has exactly this colour."""
    return [y for y in range(picture.height) if picture.getpixel((column, y)) == colour]


def has(picture: Image.Image, colour: tuple[int, int, int]) -> bool:
    return any(found == colour for _, found in picture.getcolors(1 << 24) or [])


def chart(values: list[float], limits: tuple[float, float] | None = None, colour: int = 0) -> Chart:
    x, y = np.arange(len(values), dtype=np.float64), np.array(values, dtype=np.float64)
    return Chart("Chart", (Line("line", x, y, LIGHT.series[colour]),), y_limits=limits)


EDGE_CASES = {
    "nothing": [],
    "one point": [report(1)],
    "two points": [report(1), report(2, 2e-3)],
    "constant": [report(step) for step in range(40)],
    "all zero": [report(step, 0.0, accuracy=0.0) for step in range(40)],
    "nan in between": [report(step, NAN if step % 7 == 3 else 1e-3 * step) for step in range(60)],
    "all nan": [report(step, NAN, accuracy=NAN, lr=NAN) for step in range(40)],
    "infinite": [report(step, INF if step % 2 else -INF) for step in range(40)],
    "only a step": [{"step": step} for step in range(10)],
    "overflow": [report(step, 1.7e308 * (-1) ** step) for step in range(10)],
    "tiny": [report(step, 1e-310 * step) for step in range(10)],
    "huge": [report(step, 1e28 * (-1) ** step) for step in range(10)],
    "equal but for rounding": [report(step, 0.1 + 1e-17 * step) for step in range(10)],
    "large steps": [report(10**9 + step) for step in range(10)],
    "out of range accuracy": [report(step, accuracy=7.0) for step in range(10)],
}


@pytest.mark.parametrize("reports", EDGE_CASES.values(), ids=EDGE_CASES)
@pytest.mark.slow
def test_every_run_has_a_curve(reports: list[dict[str, float]]):
    picture = training_curve(reports, title="run", size=(600, 500))
    assert (picture.size, picture.mode) == ((600, 500), "RGB")
    assert has(picture, LIGHT.page)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize("size", [(480, 480), (1200, 900), (2000, 700)])
def test_size_theme_and_margins(size: tuple[int, int], theme: Theme):
    """Nothing is drawn at the very edge, so nothing can have been cut off there."""
    picture = training_curve(
        [report(step) for step in range(1, 100_001, 1000)], title="long " * 60, size=size, theme=theme
    )
    assert picture.size == size
    for strip in ((0, 0, size[0], 6), (0, size[1] - 3, size[0], size[1]), (size[0] - 3, 0, *size)):
        assert picture.crop(strip).getcolors() is not None
        assert {colour for _, colour in picture.crop(strip).getcolors() or []} == {theme.page}


def test_null_in_a_report_counts_as_missing():
    nulls = [{**report(step), "margin": None} for step in range(5)]
    nans = [report(step, margin=NAN) for step in range(5)]
    assert training_curve(nulls).tobytes() == training_curve(nans).tobytes()  # pyright: ignore[reportArgumentType]


def test_the_last_report_of_a_step_counts_and_order_does_not():
    once = [report(step, 1e-3 * step) for step in range(1, 20)]
    resumed = [report(step, 5.0) for step in range(10, 20)] + once
    assert training_curve(once).tobytes() == training_curve(resumed).tobytes()
    assert training_curve(once).tobytes() == training_curve(once[::-1]).tobytes()


def test_what_is_not_finite_is_marked():
    good = [report(step) for step in range(30)]
    assert not has(training_curve(good[:3]), LIGHT.bad)
    assert has(training_curve([*good[:15], report(15, margin=INF), *good[16:]]), LIGHT.bad)


def test_a_winner_that_gets_worse_raises_the_alarm():
    """As in `alarm`: above zero with an accuracy near 1, or far above zero."""

    def curve(change: float, accuracy: float) -> Image.Image:
        return training_curve([report(step, winner_change=change, accuracy=accuracy) for step in range(60)])

    assert has(curve(1e-3, 0.96), LIGHT.bad)
    assert has(curve(0.5, 0.6), LIGHT.bad)
    assert not has(curve(0.1, 0.6), LIGHT.bad)  # carried past the winners
    assert not has(curve(-1e-3, 1.0), LIGHT.bad)


def well(step: int) -> dict[str, float]:
    """A report of a step whose own winners do well."""
    return report(step, winner_change=-1e-3)


def measured(step: int, winner_change: float = -1e-3, **changes: float) -> dict[str, float]:
    """A report of a step after which held-out pairs were measured."""
    held = {"held_out_margin": 2e-3, "held_out_accuracy": 0.7, "held_out_winner_change": winner_change}
    return {**well(step), **held, "held_out_loser_change": 1e-3, **changes}


def test_a_dotted_line_goes_through_every_value_with_a_dot():
    """A single 1 among zeros, limits 0 to 1: smoothed it stays low; dotted, the strong colour reaches the top edge."""
    values = np.zeros(41)
    values[20] = 1.0

    def top(dotted: bool) -> int:
        line = Line("line", np.arange(41, dtype=np.float64), values, LIGHT.series[0], dotted)
        picture = draw_charts([[Chart("Chart", (line,), y_limits=(0.0, 1.0))]], size=(600, 400))
        box = np.argwhere((np.asarray(picture) == LIGHT.series[0]).all(-1) & (np.arange(600) > 200))
        return int(box[:, 0].min())  # right of the legend

    assert top(dotted=True) < top(dotted=False) - 40


def lines_of(picture: Image.Image, colour: tuple[int, int, int]) -> int:
    """How many pixels have this colour."""
    return sum(count for count, found in picture.getcolors(1 << 24) or [] if found == colour)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.slow
def test_held_out_lines_are_strong_and_the_training_s_tinted(theme: Theme):
    """One strong line of each colour either way: without measurements the training's, with them theirs."""
    run = [report(step) for step in range(1, 101)]
    plain = training_curve(run, theme=theme)
    both = training_curve(
        [measured(s, held_out_margin=0.0) if s % 25 == 0 else run[s - 1] for s in range(1, 101)], theme=theme
    )
    colour = theme.series[0]
    red, green, blue = (round(0.45 * c + 0.55 * p) for c, p in zip(colour, theme.page, strict=True))
    tint = (red, green, blue)
    assert has(plain, colour) and has(both, colour) and lines_of(both, tint) > 1000
    assert lines_of(plain, tint) < 100 < lines_of(both, colour) < lines_of(plain, colour)


def test_steps_without_a_measurement_are_nothing_to_mark():
    nulls = {f"held_out_{name}": None for name in ("margin", "accuracy", "winner_change", "loser_change")}
    run = [measured(step) if step % 10 == 0 else {**well(step), **nulls} for step in range(1, 60)]
    assert not has(training_curve(run), LIGHT.bad)  # pyright: ignore[reportArgumentType]
    absent = [measured(step) if step % 10 == 0 else well(step) for step in range(1, 60)]
    assert training_curve(run).tobytes() == training_curve(absent).tobytes()
    assert has(training_curve([*absent, measured(60, held_out_margin=NAN)]), LIGHT.bad)


@pytest.mark.parametrize(
    ("changes", "alarmed"), [((0.5, 0.5), True), ((-1e-3, 0.5), False), ((0.5, -1e-3), False), ((0.5,), False)]
)
def test_two_measurements_of_worse_winners_raise_the_alarm(changes: tuple[float, ...], alarmed: bool):
    run = [well(step) for step in range(20)]
    curve = training_curve([*run, *(measured(20 + n, change) for n, change in enumerate(changes))])
    assert has(curve, LIGHT.bad) is alarmed


@pytest.mark.parametrize("reports", [[measured(1)], [measured(s, NAN, held_out_margin=INF) for s in range(9)]])
def test_few_and_broken_measurements_have_a_curve_too(reports: list[dict[str, float]]):
    assert training_curve(reports, size=(480, 480)).size == (480, 480)


def test_a_hundred_thousand_points_are_quick_and_keep_their_spike():
    values = np.zeros(100_000)
    values[61_803] = 1.0
    started = time.process_time()
    line = Line("x", np.arange(100_000.0), values, LIGHT.series[0])
    picture = draw_charts([[Chart("x", (line,), y_limits=(-0.1, 1.1))]])
    assert time.process_time() - started < 10
    left, right = 84, 1200 - 40
    column = round(left + (right - left) * 61_803 / 99_999)
    upper = picture.crop((column - 3, 200, column + 4, 400))
    assert len(upper.getcolors() or []) > 1  # the raw spike crosses what is otherwise empty page


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
def test_a_value_is_drawn_at_its_height(value: float):
    """Grid lines at 1.5, 1, 0.5, 0 and -0.5, from the top."""
    column = 900
    grid = rows_of(draw_charts([[chart([-0.4] * 50, (-0.5, 1.5))]]), LIGHT.rule, column)
    assert len(grid) == 5
    one, zero = grid[1], grid[3]
    ink = rows_of(draw_charts([[chart([value] * 50, (-0.5, 1.5))]]), LIGHT.series[0], column)
    assert ink and abs(sum(ink) / len(ink) - (zero + value * (one - zero))) <= 1


def test_charts_stand_in_rows_and_columns_as_given():
    """Each a level line at the middle of its axis, in a colour of its own; the legends are left of the middle."""
    image = np.asarray(
        draw_charts([[chart([0.5] * 9, colour=2 * row + column) for column in (0, 1)] for row in (0, 1)])
    )
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        ys, xs = np.nonzero((image == LIGHT.series[2 * row + column]).all(-1))
        assert (ys.mean() > 480, xs.mean() > 600) == (bool(row), bool(column))


def test_a_descending_axis_puts_the_larger_number_left():
    """A dot at 0.9 of an axis from 1 to 0.5 is a fifth of the way to the right: 84 + 0.2 (1160 - 84) = 299."""
    line = Line("fit", np.array([0.9]), np.array([0.0]), LIGHT.series[0], dotted=True)
    falling = Chart("Fit", (line,), x_limits=(1.0, 0.5), x_label="fit", x_format=".0%")
    image = np.asarray(draw_charts([[falling]]))[200:]  # below the legend
    _, xs = np.nonzero((image == LIGHT.series[0]).all(-1))
    assert xs.mean() == pytest.approx(299.2, abs=1)


def test_the_range_that_is_shaded_has_a_darker_ground():
    """From 2 to 4 of 0 to 4: the right half, 622 to 1160."""
    image = draw_charts([[dataclasses.replace(chart([], (0.1, 0.2)), x_limits=(0.0, 4.0), shaded=(2.0, 4.0))]])
    row = [x for x in range(image.width) if image.getpixel((x, 300)) == LIGHT.mat]
    assert (row[0], row[-1]) == (622, 1160)


def test_one_legend_stands_for_all_charts():
    entries = [(f"an objective with a long name {n}", LIGHT.series[n % 6]) for n in range(9)]
    with_legend = draw_charts([[chart([], (0.0, 1.0))]], legend=entries)
    assert all(has(with_legend, colour) for colour in LIGHT.series)
    assert not has(draw_charts([[chart([], (0.0, 1.0))]]), LIGHT.series[1])


def test_many_lines_share_a_chart_and_a_legend():
    lines = tuple(
        Line("a comparison with a long name", np.arange(9.0), np.full(9, float(i)), LIGHT.series[i % 6])
        for i in range(7)
    )
    picture = draw_charts([[Chart("Comparison", lines, hint="of seven")]], size=(700, 400))
    assert all(has(picture, colour) for colour in LIGHT.series)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: draw_charts([]), "at least one chart"),
        (lambda: draw_charts([[]]), "at least one chart in every row"),
        (lambda: draw_charts([[chart([1.0])]], size=(100, 900)), "need at least 480 x 160 pixels, got 100 x 900"),
        (lambda: training_curve([], size=(1200, 300)), "3 rows of charts need at least 480 x 480"),
        (lambda: training_curve([{"step": 1.0}, {"loss": 1.0}]), "report 1 has no usable `step`: found None"),
        (lambda: training_curve([{"step": NAN}]), "report 0 has no usable `step`"),
        (lambda: Line("x", np.zeros(3), np.zeros(4), LIGHT.ink), "equally long"),
        (lambda: Line("x", np.array([NAN]), np.zeros(1), LIGHT.ink), "every x must be a finite number"),
    ],
)
def test_what_cannot_be_drawn_is_named(act, message: str):
    with pytest.raises(ConfigError, match=message):
        act()


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.25, 0.5, 0.75, 1.0]),
        (-0.04, 1.04, [0.0, 0.25, 0.5, 0.75, 1.0]),
        (-2.3e-3, 5.1e-3, [-2e-3, 0.0, 2e-3, 4e-3]),
        (99.0, 101.5, [99.0, 100.0, 101.0]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]):
    assert series.ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("span", [1e-29, 3e-12, 0.7, 9.99, 1.0, 123456.0, 1e29])
@pytest.mark.parametrize("start", [-0.37, 0.0, 0.5])
def test_ticks_are_few_and_inside(span: float, start: float):
    low, high = start * span, (start + 1) * span
    found = series.ticks(low, high)
    assert 2 <= len(found) <= 5
    assert all(low - 1e-6 * span <= value <= high + 1e-6 * span for value in found)


@pytest.mark.parametrize(
    ("values", "exponent", "labels"),
    [
        ([0.0, 0.25, 1.0], 0, ["0", "0.25", "1"]),
        ([-2e-3, 0.0, 2e-3], -3, ["\N{MINUS SIGN}2", "0", "2"]),
        ([0.0, 5e-4, 1e-3], -3, ["0", "0.5", "1"]),
        ([0.0, 2e7], 7, ["0", "2"]),
        ([0.0], 0, ["0"]),
    ],
)
def test_labels_share_a_power_of_ten(values: list[float], exponent: int, labels: list[str]):
    assert series.shared_exponent(values) == exponent
    assert [series.label(value, exponent) for value in values] == labels


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.712, "0.71"),
        (1.84e-3, "1.8e\N{MINUS SIGN}3"),
        (-6.3e-4, "\N{MINUS SIGN}6.3e\N{MINUS SIGN}4"),
        (0.0, "0"),
        (123.4, "123"),
        (2.5e6, "2.5e6"),
        (NAN, "not finite"),
    ],
)
def test_legend_values_are_short(value: float, text: str):
    assert series.compact_number(value) == text


def test_outliers_do_not_flatten_the_view():
    values = np.sin(np.arange(1000.0))
    assert series.view(values) == pytest.approx((-1.16, 1.16), abs=0.01)  # 8% of the span of 2 on either side
    values[500] = 1e6
    assert series.view(values)[1] < 4
    assert series.view(values, always=(10.0,))[1] > 10


def test_smoothing_keeps_a_line_straight_and_halves_noise():
    line = np.linspace(0, 1, 200)
    np.testing.assert_allclose(series.gaussian_mean(line)[30:-30], line[30:-30], atol=1e-12)
    noise = np.random.default_rng(0).normal(size=400)
    assert series.gaussian_mean(noise).std() < 0.5 * noise.std()


def test_smoothing_skips_single_gaps_and_shows_long_ones():
    values = np.ones(400)
    values[100] = NAN
    values[200:300] = NAN
    smooth = series.gaussian_mean(values)
    assert smooth[100] == pytest.approx(1.0)
    assert np.isnan(smooth[250])


def test_thinning_keeps_the_mean():
    steps, values = np.arange(60_000.0), np.random.default_rng(0).normal(size=60_000)
    values[7] = NAN
    few, means = series.thinned(steps, values)
    assert len(few) == len(means) == 1500
    assert means.mean() == pytest.approx(np.nanmean(values), abs=1e-3)
