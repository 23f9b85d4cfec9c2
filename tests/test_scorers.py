"""Scorers by name, and the toy tastes among them."""

from __future__ import annotations

import pytest
from PIL import Image

from dspo_train.demo.run import TASTE
from dspo_train.evaluate.shapes import Scene, draw_scenes
from dspo_train.exceptions import ConfigError
from dspo_train.images.decode import to_images
from dspo_train.scorers.table import SCORERS, make_scorer


def scene(x: float, radius: float, tone: float) -> Image.Image:
    seen = Scene("circle", "red", x, 0.5, radius, 0.0, tone, (0.0, 0.0, 0.0))
    return to_images(draw_scenes([seen]) * 2 - 1)[0]


def test_each_taste_prefers_what_it_says():
    pairs = {
        "large_and_dark": (scene(0.5, 0.35, 0.2), scene(0.5, 0.2, 0.8)),
        "further_left": (scene(0.3, 0.25, 0.5), scene(0.7, 0.25, 0.5)),
    }
    assert list(pairs) == [name for name, row in SCORERS.items() if not row.files]
    for name, (better, worse) in pairs.items():
        scores = make_scorer(name).score([better, worse], ["a red circle"] * 2)
        assert scores.shape == (2,) and scores[0] > scores[1], name


def test_one_standard_deviation_is_the_unit():
    """Centres 0.12 apart: (0.5 - 0.38) / 0.12 = 1 above that in the middle, but for half a pixel of 64."""
    scores = make_scorer("further_left").score([scene(0.38, 0.2, 0.5), scene(0.5, 0.2, 0.5)], [""] * 2)
    assert abs(float(scores[0] - scores[1]) - 1) < 0.1


def test_an_unknown_scorer_is_refused_by_name():
    assert TASTE in SCORERS
    with pytest.raises(ConfigError, match=r"unknown scorer 'beauty'; known: pickscore, .*, further_left"):
        make_scorer("beauty")
