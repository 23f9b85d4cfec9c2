"""A taste as a file: the head, what it was learned from, and how well it is known.

The file is safetensors, with the tensors `mean`, `scale` (F,) and `weights` (E, F) in float64, and one entry of
metadata, `dspo.taste`, in JSON.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from .. import files
from ..exceptions import ConfigError
from ..files.tensor_file import TensorHeader, read_header
from .assessment import Assessment
from .comparisons import Comparisons
from .features import ImageFeatures
from .head import Head, fit_head

TASTE_VERSION = 1
_KEY = "dspo.taste"
_FIGURES = ("accuracy", "low", "high", "log_loss")
_AGAIN = "fit it again with `taste fit`, or copy the file again"


@dataclass(frozen=True)
class TasteModel:
    """A person's taste on the features of one network.

    Attributes:
        identity: of the features, `ImageFeatures.identity`.
        name: for people.
        trained_on: comparisons that the head was fitted to.
        seen_by: what the features are of, for people: the name of a model.
        judged: the lowest and the highest score, in logits, of the images that were judged; NaN where an earlier
            version wrote the file.
    """

    head: Head
    identity: str
    assessment: Assessment
    name: str
    trained_on: int
    seen_by: str = ""
    judged: tuple[float, float] = (math.nan, math.nan)

    def save(self, path: Path) -> None:
        """Write the file whole or not at all; equal tastes give equal bytes.

        Raises:
            ConfigError: the name does not end in `.safetensors`.
            RunError: the disk is full, or the folder cannot be written.
        """
        if path.suffix != ".safetensors":
            raise ConfigError(f"{path}: a taste's file must end in .safetensors, or no list will show it")
        tensors = {"mean": self.head.mean, "scale": self.head.scale, "weights": self.head.weights}
        arrays = {name: np.ascontiguousarray(value, dtype=np.float64) for name, value in tensors.items()}
        files.write_bytes(path, safetensors.numpy.save(arrays, {_KEY: json.dumps(self._about(), sort_keys=True)}))

    def check(self, features: ImageFeatures) -> None:
        """
        Raises:
            ConfigError: the features are not those that the taste was learned on.
        """
        if features.identity != self.identity:
            seen = f" ({self.seen_by})" if self.seen_by else ""
            raise ConfigError(
                f"the taste {self.name!r} was learned on what another model sees in images: features "
                f"{self.identity[:12]}{seen}, but this one gives {features.identity[:12]}; use the model and the size "
                "that it was learned with, or learn the taste again with this model"
            )

    def opposite(self) -> TasteModel:
        """Of a person who would prefer every image that this one does not."""
        low, high = self.judged
        head = dataclasses.replace(self.head, weights=-self.head.weights)
        return dataclasses.replace(self, head=head, judged=(-high, -low))

    def _about(self) -> dict[str, Any]:
        known = dataclasses.asdict(self.assessment)
        known |= {name: None for name in _FIGURES if math.isnan(known[name])}  # JSON has no NaN
        return {
            "version": TASTE_VERSION,
            "identity": self.identity,
            "name": self.name,
            "seen_by": self.seen_by,
            "trained_on": self.trained_on,
            "temperature": self.head.temperature,
            "prior": self.head.prior,
            "judged": None if math.isnan(self.judged[0]) else list(self.judged),
            "assessment": known,
        }


def load_taste(path: Path) -> TasteModel:
    """Read a taste.

    Raises:
        ConfigError: the file is missing, damaged or something else, or a newer program wrote it.
    """
    try:
        about = _about(path, read_header(path, ConfigError))
        tensors = safetensors.numpy.load_file(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error}); give the file of a taste") from error
    except SafetensorError as error:
        raise ConfigError(f"{path}: this taste is damaged ({error}); {_AGAIN}") from error
    try:
        mean, scale, weights = (tensors[name] for name in ("mean", "scale", "weights"))
        head = Head(mean, scale, weights, float(about["temperature"]), float(about["prior"]))
        if not head.mean.shape == head.scale.shape == head.weights.shape[1:] or not len(head.weights):
            raise ValueError(f"tensors of shapes {head.mean.shape}, {head.scale.shape} and {head.weights.shape}")
        known = _assessment(about["assessment"])
        low, high = about.get("judged") or (math.nan, math.nan)
        told = about["name"], about["trained_on"], about["seen_by"]
        return TasteModel(head, about["identity"], known, *told, (float(low), float(high)))
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: this taste is damaged ({error}); {_AGAIN}") from error


def fit_taste(
    comparisons: Comparisons, features: np.ndarray, identity: str, name: str, seed: int = 0, *, seen_by: str = ""
) -> TasteModel:
    """See `fit_head`; the other arguments are `TasteModel`'s."""
    head, assessment = fit_head(comparisons, features, seed=seed)
    scores = head.scores(features)[:, 0]
    judged = float(scores.min()), float(scores.max())
    return TasteModel(head, identity, assessment, name, len(comparisons), seen_by, judged)


def _about(path: Path, header: TensorHeader) -> dict[str, Any]:
    """The file's own entry."""
    if _KEY not in header.metadata:
        raise ConfigError(f"{path}: this is not the file of a taste; give one that `taste fit` wrote")
    try:
        about: Any = json.loads(header.metadata[_KEY])
        version = int(about["version"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: this taste is damaged ({error}); {_AGAIN}") from error
    if version > TASTE_VERSION:
        raise ConfigError(
            f"{path}: a newer program wrote this taste, in version {version}, and this one reads up to "
            f"{TASTE_VERSION}; update the program"
        )
    return about


def _assessment(row: dict[str, Any]) -> Assessment:
    figures = {name: math.nan if row[name] is None else row[name] for name in _FIGURES}
    bins = tuple((foretold, true, count) for foretold, true, count in row["reliability"])
    return Assessment(**{**row, **figures, "reliability": bins})
