"""What a model's test images show, kept as readings: any taste can be applied to them later."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from benchmarks.taste.measure import SAMPLING, SEEDS, spread
from dspo_train.models.base import Base
from dspo_train.models.sampling import sample

from .tastes import Taste
from .world import ONE_SHAPE, World

FIRST_SEED = 10**6  # never a candidate's


def look_at(model: Base, world: World = ONE_SHAPE) -> dict[str, Any]:
    """Draw the 96 test images with the model as it stands."""
    texts = [caption for caption in world.captions for _ in range(SEEDS)]
    drawn = replace(SAMPLING, width=world.side, height=world.side)
    images = sample(model, texts, range(FIRST_SEED, FIRST_SEED + len(texts)), drawn, batch_size=96)
    readings = [world.look(image) for image in images]
    return {
        "readings": [dataclasses.asdict(reading) for reading in readings],
        "fits": [reading.fits(text) for reading, text in zip(readings, texts, strict=True)],
        "spread": spread(images),
    }


def rewards(seen: Mapping[str, Any], taste: Taste) -> list[float]:
    """Of each test image."""
    return [taste.of(reading) for reading in seen["readings"]]


def reward(seen: Mapping[str, Any], taste: Taste) -> float:
    values = rewards(seen, taste)
    return sum(values) / len(values)


def fit(seen: Mapping[str, Any]) -> float:
    return sum(seen["fits"]) / len(seen["fits"])
