"""Before the first step: a base that is read by the wrong prediction type, and predictions that are not finite."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_runs import config, write_base, write_pairs

import dspo_train
from dspo_train.exceptions import ModelError
from dspo_train.models.families import Prediction
from dspo_train.runs.diffusers_model import DiffusersSource
from dspo_train.runs.first_look import Readings, first_look
from dspo_train.runs.job import Job
from dspo_train.runs.session import open_session
from dspo_train.training.denoiser import TrainedDenoiser

EMBEDDED = Path(dspo_train.__file__).parent / "demo" / "model"  # predicts v
EXAMPLE = Path(dspo_train.__file__).parents[1] / "example_pairs" / "shapes-large-and-dark"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write_base(folder / "base")
    write_pairs(folder / "pairs")
    return folder


def readings(base: Path, pairs: Path, out: Path, prediction: Prediction | None = None) -> Readings:
    job = Job(DiffusersSource(base, prediction=prediction), pairs, out, config(steps=1), cache=out.parent / "cache")
    with open_session(job) as session:
        found = first_look(
            TrainedDenoiser(session.model, session.trained), session.data.encoded, session.training.accelerator
        )
    assert found is not None
    return found


@pytest.mark.slow
def test_the_readings_of_one_model_swap_with_what_it_declares(tmp_path):
    right = readings(EMBEDDED, EXAMPLE, tmp_path / "a")
    wrong = readings(EMBEDDED, EXAMPLE, tmp_path / "b", "epsilon")
    assert (right.declared, wrong.declared) == ("v_prediction", "epsilon")
    assert (right.share, right.other_share) == pytest.approx((wrong.other_share, wrong.share), rel=1e-4)
    assert right.share < 0.6 < 1.2 < wrong.share
    assert right.mismatch == ""
    assert wrong.mismatch.startswith("the base is read as epsilon, but predicts like v_prediction: read as the former,")
    assert wrong.mismatch.endswith("Set `prediction` to v_prediction")


def test_a_model_that_has_learned_nothing_raises_no_alarm(inputs, tmp_path):
    assert readings(inputs / "base", inputs / "pairs", tmp_path / "a").mismatch == ""
    assert readings(inputs / "base", inputs / "pairs", tmp_path / "b", "v_prediction").mismatch == ""


@pytest.mark.parametrize(
    ("share", "other", "warned"), [(1.5, 0.4, True), (1.5, 0.7, False), (0.7, 0.4, False), (0.01, 0.9, False)]
)
def test_only_a_clear_mismatch_is_a_warning(share, other, warned):
    """The other reading explains over 40% of its target, and leaves less than half of what the declared one leaves."""
    assert bool(Readings("epsilon", share, other).mismatch) is warned


def test_the_run_says_it_once_and_before_its_first_step(tmp_path):
    job = Job(DiffusersSource(EMBEDDED, prediction="epsilon"), EXAMPLE, tmp_path / "run", config(steps=2, save_every=1))
    with open_session(job) as session:
        reports = session.reports()
        next(reports)
        assert [text[:26] for text in session.notes.texts] == ["the base is read as epsilon"[:26]]
        reports.close()
    with open_session(job) as session:
        list(session.reports())
        assert session.training.step == 2 and session.notes.texts == []


def test_a_prediction_that_is_not_finite_is_blamed_on_the_unet_before_any_step(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(TrainedDenoiser, "predict", lambda self, noisy, *_: torch.full_like(noisy, float("nan")))
    with open_session(
        Job(DiffusersSource(inputs / "base"), inputs / "pairs", tmp_path / "run", config(steps=1))
    ) as session:
        with pytest.raises(ModelError, match="the model's prediction is not finite before anything was trained"):
            list(session.reports())
        assert session.training.step == 0
    assert not list((tmp_path / "run").glob("checkpoints/*"))
