"""Scorers of latents: the same as of images, and with a gradient."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import pytest
import torch
from PIL import Image
from tiny_runs import write_base, write_pairs
from torch import Tensor

from dspo_train.images.decode import to_tensor
from dspo_train.models.base import load_base
from dspo_train.models.conditioning import Frame
from dspo_train.pairs import scan_folder
from dspo_train.runs.diffusers_model import DiffusersModel
from dspo_train.scorers.toys import ToyTaste
from dspo_train.stepwise.scoring import CautiousTaste, DecodedScorer, PixelStepScorer, TasteScorer
from dspo_train.taste.features import DenoiserFeatures
from dspo_train.taste.looking import fit_scan


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> DiffusersModel:
    folder = write_base(tmp_path_factory.mktemp("base") / "base")
    return DiffusersModel(load_base(folder), torch.device("cpu"), folder)


def latents(model: DiffusersModel, image: Image.Image) -> Tensor:
    mean = model.encoder.moments(to_tensor(image)[None]).chunk(2, dim=1)[0]
    return (mean - model.encoder.shift) * model.encoder.scaling


def test_a_tastes_score_of_latents_is_that_of_the_image(model, tmp_path):
    features = DenoiserFeatures(model, 64)
    taste = fit_scan(scan_folder(write_pairs(tmp_path / "pairs")), features)
    image = Image.open(tmp_path / "pairs" / "pair1_w.png").convert("RGB")
    clean = latents(model, image).requires_grad_()
    conditioning = model.encoder.prompts(["red dog 1"]).adding(model.encoder.frame([Frame(64, 64, 0, 0, 64, 64)]))
    scorer = TasteScorer(features, taste.head, nullcontext)
    with model.training(checkpointing=False):
        found, least = (each.score(clean, ["red dog 1"], conditioning) for each in (scorer, CautiousTaste(scorer)))
        (slope,) = torch.autograd.grad(found.sum(), clean)
        step = 1e-2 * slope / slope.norm()
        with torch.no_grad():
            ends = [float(scorer.score(clean + sign * step, ["red dog 1"], conditioning)) for sign in (1, -1)]
    vectors = features.of([image], ["red dog 1"])
    assert found.item() == pytest.approx(taste.head.score(vectors)[0], abs=1e-3)
    members = taste.head.scores(vectors)[0, 1:]
    assert least.item() == pytest.approx(members.mean() - members.std(ddof=1), abs=1e-3)
    assert (ends[0] - ends[1]) / 2e-2 == pytest.approx(float(slope.norm()), rel=0.05)


class Redness:
    """Implements `PixelScorer`."""

    def score_pixels(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        assert pixels.min() >= 0 and pixels.max() <= 1
        return pixels[:, 0].mean((1, 2))

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Tensor:
        raise AssertionError("the gradient's path is wanted")


def test_a_score_of_pixels_has_its_gradient_through_the_vae(model):
    clean = 0.5 * torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    scorer = PixelStepScorer(model.encoder.decode, Redness())
    nothing = model.encoder.prompts(["", ""])
    slope = scorer.slope(clean, ["", ""], nothing)
    assert (slope.flatten(1).norm(dim=1) > 0).all()
    with torch.no_grad():
        found = scorer.score(clean, ["", ""], nothing)
        assert (scorer.score(clean + 0.1 * slope / slope.norm(), ["", ""], nothing) > found).all()


def test_any_image_scorer_sees_what_the_vae_decodes(model):
    clean = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    seen = DecodedScorer(model.encoder.decode, ToyTaste(lambda reading: reading.darkness))
    with torch.no_grad():
        found = seen.score(clean, ["", ""], model.encoder.prompts(["", ""]))
    assert found.shape == (2,) and found.dtype == torch.float32
