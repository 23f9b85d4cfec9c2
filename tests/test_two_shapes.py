"""The world of two shapes: what is drawn is read back; and a widened network is the narrow one."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from diffusers import UNet2DConditionModel

from benchmarks.rounds import two_shapes
from benchmarks.rounds.tastes import Taste
from benchmarks.rounds.two_shapes import KINDS, Scene, draw, random_scene, read
from benchmarks.rounds.wider import TIMES, apart, widened
from benchmarks.rounds.world import ONE_SHAPE, TWO_SHAPES
from dspo_train.evaluate import shapes as one

LEFT = one.Scene("circle", "red", 0.25, 0.5, 0.2, 0.0, 0.5, (0.0, 0.0, 0.0))
RIGHT = dataclasses.replace(LEFT, radius=0.1, x=0.75)
NARROW = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "cross_attention_dim": 16,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
}


def test_two_shapes_worked_by_hand():
    """Circles of radius 0.9 * 0.2 and 0.9 * 0.1 cover pi (0.18^2 + 0.09^2) = 0.1272, whose root is 0.3567."""
    reading = read(draw(Scene(LEFT, RIGHT)))
    assert reading.fits("a red circle twice") and reading.count == 2
    assert reading.size == pytest.approx(0.3567, abs=0.01)
    assert reading.darkness == pytest.approx(0.5, abs=0.01)
    assert (reading.x, reading.y) == pytest.approx((0.5, 0.5), abs=0.01)


@pytest.mark.parametrize("change", [{"color": "blue"}, {"shape": "square"}])
def test_two_that_differ_are_known_and_do_not_fit(change):
    seen = read(draw(Scene(LEFT, dataclasses.replace(RIGHT, **change))))
    assert seen.shape is not None and " and a " in seen.shape
    assert not seen.fits("a red circle twice")


def test_shapes_that_touch_are_not_known():
    assert read(draw(Scene(LEFT, dataclasses.replace(RIGHT, x=0.5)))).shape is None


def test_how_many_there_are_is_told_and_not_asked():
    seen = read(draw(Scene(LEFT, dataclasses.replace(RIGHT, radius=0.01))))
    assert seen.count == 1 and seen.fits("a red circle twice")


def test_every_kind_and_color_is_recognised():
    lefts = [dataclasses.replace(LEFT, shape=kind, color=color) for kind in KINDS for color in one.COLORS]
    scenes = [Scene(left, dataclasses.replace(left, radius=0.1, x=0.75)) for left in lefts]
    missed = [scene.caption for scene in scenes if not read(draw(scene)).fits(scene.caption)]
    assert len(scenes) == 72 and missed == []


def test_random_scenes_are_recognised_and_tastes_have_their_spread_as_a_unit():
    generator = torch.Generator().manual_seed(5)
    scenes = [random_scene(generator) for _ in range(300)]
    readings = [read(draw(scene)) for scene in scenes]
    assert sum(reading.fits(scene.caption) for scene, reading in zip(scenes, readings, strict=True)) >= 298
    for name in ("size", "darkness", "x", "y"):
        mean, unit = TWO_SHAPES.quantities[name]
        seen = torch.tensor([getattr(reading, name) for reading in readings])
        assert abs(seen.mean().item() - mean) < 0.25 * unit and seen.std().item() == pytest.approx(unit, rel=0.2)


def test_captions_are_the_same_every_time_and_all_different():
    found = two_shapes.captions()
    assert found == two_shapes.captions() and len(set(found)) == 48


def test_a_taste_is_the_same_weights_in_each_world():
    assert Taste(3).weights == Taste(3, TWO_SHAPES).weights
    typical = {name: mean for name, (mean, _) in TWO_SHAPES.quantities.items()}
    assert Taste(3, TWO_SHAPES).of(typical) == 0
    moved = {**typical, "x": typical["x"] + TWO_SHAPES.quantities["x"][1]}
    assert Taste(3, TWO_SHAPES).of(moved) == pytest.approx(Taste(3).weights["x"])
    assert ONE_SHAPE.quantities.keys() == TWO_SHAPES.quantities.keys()


def test_a_network_of_four_times_the_width_predicts_the_same():
    torch.manual_seed(0)
    narrow = UNet2DConditionModel(**NARROW).eval()  # type: ignore[arg-type]
    wide = widened(narrow, torch.Generator().manual_seed(1))
    assert list(wide.config["block_out_channels"]) == [16 * TIMES, 32 * TIMES]
    assert apart(narrow, wide) < 1e-5
    with torch.no_grad():
        wide.conv_out.weight.mul_(1.1)
    assert apart(narrow, wide) > 1e-2
