"""What ranks and watches the steps of a run that trains on its own: made while the network is still untrained."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ..config import TrainConfig
from ..config.stepwise import StepwiseSpec
from ..data.on_policy import Drawing, OnPolicySource, StepScorer
from ..exceptions import ConfigError, DspoError
from ..models.conditioning import Conditioning
from ..models.denoiser import Denoiser
from ..models.guided import Guided
from ..pairs import Scan
from ..scorers.table import make_pixel_scorer, make_scorer, scorer_row
from ..scorers.weights import find_all
from ..taste.features import DenoiserFeatures
from ..taste.looking import fit_scan
from ..taste.model import TasteModel, load_taste
from ..training.model import Model
from .scoring import CautiousTaste, DecodedScorer, PixelStepScorer, TasteScorer, Untrained

BY_TASTE = "taste"
BY_CAUTION = "cautious"  # a taste's lower estimate, which watches it where nothing else is named
ON_LATENTS = (BY_TASTE, BY_CAUTION)  # by the network's own features: no image is decoded


def check_steering(config: TrainConfig) -> None:
    """
    Raises:
        ConfigError: a scorer is unknown, or cannot do what is asked of it; or a setting is of the pairs' images.
        ModelError: a file of a scorer is not on this machine.
    """
    spec = config.stepwise
    if spec.method == "off":
        return
    for name in (spec.scorer, spec.watch):
        if name and name != BY_TASTE:
            row = scorer_row(name, BY_TASTE)
            if row.files:
                find_all(row.title, row.files, None)
    if spec.watch == spec.scorer:
        raise ConfigError(
            f"{spec.watch!r} ranks the steps and is to watch that ranking too, from which it would never part; name "
            "another scorer to watch, or leave it out"
        )
    _check_others(config)
    if config.labels == "swapped" and spec.scorer not in ON_LATENTS:
        raise ConfigError(
            f"`labels` swapped turns round what the pairs say, which the scorer {spec.scorer!r} does not read; use "
            f"{BY_TASTE}, or set `labels` to given"
        )
    if spec.plan.push and spec.scorer not in ON_LATENTS and not scorer_row(spec.scorer).differentiable:
        raise ConfigError(
            f"`stepwise.push` moves along the scorer's gradient, and {spec.scorer!r} has none; set it to 0, or use "
            f"another scorer, such as {BY_TASTE}"
        )


def _check_others(config: TrainConfig) -> None:
    data = config.data
    of_images = {"flip": data.flip, "crop": data.crop != "center", "caption_dropout": data.caption_dropout > 0}
    for name in (name for name, given in of_images.items() if given):
        raise ConfigError(
            f"`data.{name}` is about the pairs' images, which a run on its own steps does not train on; leave it out"
        )
    if config.loss.unit == "words":
        raise ConfigError(
            "margins in what words do are for errors of images; those of own steps are differences of "
            "log-probabilities and have no unit: leave it out"
        )


@dataclass(frozen=True)
class Steering:
    """The scorers of a run, before there is a policy.

    Attributes:
        taste: as it was when the run began; None if no scorer uses it.
        swapped: whether it is the opposite of what the pairs showed.
    """

    spec: StepwiseSpec
    model: Model
    features: DenoiserFeatures | None = None
    taste: TasteModel | None = None
    swapped: bool = False

    @property
    def note(self) -> str:
        """How well it is known what ranks; empty where that is not learned from the pairs."""
        if self.taste is None:
            return ""
        watching = f"steps are ranked by {self.spec.scorer} and watched by your taste"
        ranking = f"steps are ranked by {'the opposite of ' * self.swapped}your taste"
        return f"{ranking if self.spec.scorer == BY_TASTE else watching}. {self.taste.assessment.text}"

    @property
    def ceiling(self) -> float:
        """The highest score of an image that was judged; NaN where it is not a taste that ranks."""
        if self.taste is None or self.spec.scorer != BY_TASTE:
            return math.nan
        return self.taste.judged[1]

    def bound(self, source: OnPolicySource, denoiser: Denoiser) -> OnPolicySource:
        """The source with a policy to draw from it: with guidance, if there is any."""
        empty = Conditioning(source.rows.encodings.cache.read(source.rows.encodings.empty_caption))
        guidance = self.spec.guidance
        policy = Guided(denoiser, guidance, empty) if guidance > 1 else denoiser
        watch = watch_of(self.spec)
        drawing = Drawing(
            policy,
            self._scorer(self.spec.scorer, denoiser.base),
            self._scorer(watch, denoiser.base) if watch else None,
            self.model.device,
        )
        return source.by(drawing)

    def _scorer(self, name: str, untrained: Untrained) -> StepScorer:
        if name not in ON_LATENTS:
            decode = getattr(self.model.encoder, "decode", None)
            if decode is None:
                raise ConfigError(f"{name!r} judges pixels, which a wired model's steps do not become; use {BY_TASTE}")
            row = scorer_row(name)
            if row.differentiable:
                return PixelStepScorer(decode, make_pixel_scorer(name, device=self.model.device), row.odds)
            return DecodedScorer(decode, make_scorer(name), row.odds)
        assert self.features is not None and self.taste is not None
        taste = TasteScorer(self.features, self.taste.head, untrained)
        return taste if name == BY_TASTE else CautiousTaste(taste)


def steering(
    config: TrainConfig, model: Model, scan: Scan, kept: Path | None, cache: Path, without: Collection[str] = ()
) -> Steering:
    """Learn what the steps are ranked by.

    Args:
        without: prompts, normalised, whose pairs are held out.
        kept: where an earlier part of the run left the taste that it was ranked by, if there is one.
        cache: a folder for the features of the pairs' images.

    Raises:
        ConfigError: the kept taste is damaged, or was learned on another model.
        DatasetError: an image cannot be read.
    """
    spec = config.stepwise
    if not {spec.scorer, watch_of(spec)} & set(ON_LATENTS):
        return Steering(spec, model)
    features = DenoiserFeatures(model, config.data.resolution)
    if kept is not None and kept.exists():
        taste = _read(kept, features)
    else:
        taste = fit_scan(scan, features, cache, seen_by=model.name, without=without)
        taste = taste.opposite() if config.labels == "swapped" else taste
    return Steering(spec, model, features, taste, config.labels == "swapped")


def _read(kept: Path, features: DenoiserFeatures) -> TasteModel:
    try:
        taste = load_taste(kept)
        taste.check(features)
    except DspoError as error:
        raise type(error)(f"{error}; delete it, and the taste is learned from the pairs again") from error
    return taste


def watch_of(spec: StepwiseSpec) -> str:
    """The second scorer; empty for none."""
    return spec.watch or (BY_CAUTION if spec.scorer == BY_TASTE else "")
