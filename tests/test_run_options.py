"""A form's flat options as the settings of a run."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from dspo_train.config import TrainConfig, from_dict
from dspo_train.config.options import OFF_AT_ZERO, PLAIN, SETTING, Options, limits
from dspo_train.config.specs import RANGES
from dspo_train.exceptions import ConfigError
from dspo_train.objectives import check
from dspo_train.runs.presets import Changes, configure

EVERYTHING = Options(
    labels="swapped",
    keep="best",
    held_out_share=0.1,
    held_out_every=10,
    held_out_patience=3,
    ema=0.95,
    sft_mix=0.25,
    label_smoothing=0.1,
    safeguard=0.5,
    margin_cap=0.001,
    sharpness="value",
    sharpness_value=500.0,
    moving_reference=0.99,
    min_snr=5.0,
    one_per_prompt=True,
    least_noise=0.2,
    most_noise=0.8,
)
NUMBERS = [name for name, setting in SETTING.items() if setting in RANGES]


def test_nothing_chosen_is_the_run_as_it_is_without():
    assert from_dict(PLAIN.settings()) == TrainConfig()
    assert configure("strong", "sdxl", 40, Changes(), PLAIN) == configure("strong", "sdxl", 40, Changes())


def test_each_option_arrives_at_its_setting():
    config = configure("gentle", "sd15", 40, Changes(resolution=256, flip=True), EVERYTHING)
    assert (config.labels, config.keep, config.ema, config.moving_reference) == ("swapped", "best", 0.95, 0.99)
    held_out, loss, data = config.held_out, config.loss, config.data
    assert (held_out.share, held_out.every, held_out.patience) == (0.1, 10, 3)
    assert (loss.sft_mix, loss.label_smoothing, loss.safeguard, loss.margin_cap) == (0.25, 0.1, 0.5, 0.001)
    assert (loss.sharpness, loss.min_snr) == (500.0, 5.0)
    assert (data.one_per_prompt, data.least_noise, data.most_noise) == (True, 0.2, 0.8)
    assert (data.resolution, data.flip) == (256, True), "beside what the preset and its changes say"


def test_every_option_is_one_of_these():
    assert {field.name for field in fields(Options)} == {*SETTING, "sharpness"}


@pytest.mark.parametrize(("choice", "setting"), [("off", None), ("auto", "auto"), ("value", 1000.0)])
def test_sharpness_is_off_automatic_or_a_number(choice: Any, setting: Any):
    assert from_dict(Options(sharpness=choice).settings()).loss.sharpness == setting


@pytest.mark.parametrize("name", NUMBERS)
def test_a_form_offers_the_range_that_the_library_takes(name: str):
    """Both ends are accepted, and what lies beyond is not."""
    needed: dict[str, Any] = {"sharpness": "value"} if name == "sharpness_value" else {}
    needed |= {"held_out_share": 0.1} if name == "held_out_patience" else {}
    low, high = limits(name)
    for value in (low, high):
        at_the_end: dict[str, Any] = {name: type(getattr(PLAIN, name))(value)}
        Options(**needed, **at_the_end)
    for value in (low - 1, high + 1):
        beyond: dict[str, Any] = {name: value}
        with pytest.raises(ConfigError, match=SETTING[name]):
            Options(**needed, **beyond)
    assert low <= getattr(PLAIN, name) <= high
    assert (low == 0.0) or name not in OFF_AT_ZERO


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"keep": "best"}, "keep best needs pairs to measure on; set held_out.share"),
        ({"held_out_patience": 3}, "held_out.patience needs pairs to measure on; set held_out.share"),
        ({"least_noise": 0.6, "most_noise": 0.4}, "data.least_noise 0.6 must be below data.most_noise 0.4"),
        ({"sharpness": "often"}, "sharpness: unknown value 'often'"),
        ({"labels": "mixed"}, "labels: unknown value 'mixed'"),
        ({"min_snr": 0.0001}, "loss.min_snr must be between 0.001"),
    ],
)
def test_what_does_not_go_together_is_said_when_it_is_chosen(given: dict[str, Any], words: str):
    with pytest.raises(ConfigError, match=words):
        Options(**given)


@pytest.mark.parametrize("given", [{"label_smoothing": 0.1}, {"safeguard": 0.5}, {"margin_cap": 0.001}])
def test_what_the_objective_cannot_use_is_said_with_it(given: dict[str, Any]):
    with pytest.raises(ConfigError, match=f"loss.{next(iter(given))} needs an objective that trains on the loser"):
        check(configure("balanced", "sd15", 10, Changes(objective="sft"), Options(**given)))
