"""Margins in what words do, and labels that are trusted by degree."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from dspo_train import objectives
from dspo_train.config import from_names
from dspo_train.objectives.errors import PairErrors
from dspo_train.objectives.options import doubted, in_unit, slope_at_reference


def errors(scale: float = 1.0) -> PairErrors:
    """Two pairs; `scale` as if the same model predicted another target."""
    rows = ([0.4, 0.5], [0.6, 0.5], [0.5, 0.5], [0.5, 0.4], [0.1, 0.2], [0.3, 0.1], [0.05, -0.1])
    return PairErrors(*(scale * torch.tensor(row) for row in rows))


@pytest.mark.parametrize("name", ["dspo", "diffusion_dpo", "ipo"])
def test_a_loss_in_its_unit_does_not_depend_on_the_size_of_errors(name):
    loss = objectives.bind(name, {"tau": 2.0} if name == "ipo" else {"sharpness": 1.4})
    one, other = in_unit(loss, 0.35)(errors()), in_unit(loss, 3.5)(errors(10))
    torch.testing.assert_close(other, 10 * one)
    if name != "dspo":  # in the model's own unit it does
        assert not torch.allclose(loss(errors(10)), 10 * loss(errors()))


def test_a_unit_keeps_the_size_of_the_gradient():
    """dspo's slope in the winner's error is 1 at the reference whatever the unit, that of DPO half its sharpness."""
    for name, given, slope in (("dspo", {}, 1.0), ("diffusion_dpo", {"sharpness": 6.0}, 3.0), ("sft", {}, 1.0)):
        loss = objectives.bind(name, given)
        assert slope_at_reference(loss) == pytest.approx(slope)
        assert slope_at_reference(in_unit(loss, 0.2)) == pytest.approx(slope)


def test_the_unit_is_the_objectives_own_unless_one_is_given():
    units = {name: objectives.unit_of(from_names({"objective": name})) for name in ("dspo", "diffusion_dpo")}
    assert units == {"dspo": "words", "diffusion_dpo": "model"}
    assert objectives.unit_of(from_names({"loss.unit": "model"})) == "model"


def test_a_doubted_label_is_the_mean_over_both_ways_round():
    loss = objectives.bind("diffusion_dpo", {"sharpness": 3.0})
    found = doubted(loss, errors(), torch.tensor([0.0, 0.25]), has_loser=True)
    one, other = loss(errors()), loss(errors().swapped())
    torch.testing.assert_close(found, torch.stack([one[0], 0.75 * one[1] + 0.25 * other[1]]))
    undecided = doubted(loss, errors(), torch.full((2,), 0.5), has_loser=True)
    swapped = doubted(loss, errors().swapped(), torch.full((2,), 0.5), has_loser=True)
    torch.testing.assert_close(undecided, swapped)


def test_without_a_loser_an_undecided_pair_counts_for_nothing():
    loss = objectives.bind("sft", {})
    found = doubted(loss, errors(), torch.tensor([0.5, 0.1]), has_loser=False)
    torch.testing.assert_close(found, torch.tensor([0.0, 0.8 * 0.5]))


def test_every_error_is_scaled():
    assert all(torch.equal(getattr(errors(2), f.name), 2 * getattr(errors(), f.name)) for f in fields(PairErrors))
