"""What a single file says of its own noise process: by marker tensors, metadata, or the `.yaml` beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ..exceptions import ModelError
from .families import Prediction
from .single_file import SingleFile, template

PREDICTIONS: dict[str, Prediction] = {
    "epsilon": "epsilon",
    "eps": "epsilon",
    "v": "v_prediction",
    "v_prediction": "v_prediction",
    "v-prediction": "v_prediction",
}
_LARGEST = 1 << 16  # bytes of a .yaml
# The configs of the original trainers are read by the two lines that matter, as A1111 and Forge do.
_PARAMETERISATION = re.compile(r"\b(?:parameterization|prediction_type)[\"']?\s*:\s*[\"']?(\w+)")  # eps, v
_SCALING = re.compile(r"\b(EpsScaling|VScaling|VScalingWithEDMcNoise|EDMScaling)\b")  # sgm
_ZERO_SNR = re.compile(r"\b(?:rescale_betas_zero_snr|zero_terminal_snr|use_zsnr|ztsnr)[\"']?\s*:\s*[Tt]rue")
_SCALINGS: dict[str, Prediction] = {"EpsScaling": "epsilon", "VScaling": "v_prediction"}


class Declared(NamedTuple):
    """A prediction type and whether the schedule ends in pure noise."""

    prediction: Prediction
    zero_snr: bool = False


def scheduler_config(file: SingleFile) -> dict[str, Any]:
    """The published schedule with the file's prediction type: the first of its own declarations, else the family's
    guess.

    Raises:
        ModelError: the `.yaml` declares a noise process that is not supported.
    """
    declared = next(filter(None, _declarations(file)), None) or Declared(file.family.prediction_of(file.tensors))
    config = template(file.family, "scheduler")
    return {**config, "prediction_type": declared.prediction, "rescale_betas_zero_snr": declared.zero_snr}


def _declarations(file: SingleFile) -> Iterable[Declared | None]:
    """SDXL's marker tensors; `modelspec.prediction_type` in the metadata; the `.yaml` of the same name."""
    if "v_pred" in file.shapes:
        yield Declared("v_prediction", "ztsnr" in file.shapes)
    noted = PREDICTIONS.get(file.metadata.get("modelspec.prediction_type", "").lower())
    yield noted and Declared(noted, noted == "v_prediction" and "ztsnr" in file.shapes)
    for suffix in (".yaml", ".yml", ".YAML"):
        yield read_yaml(file.path.with_suffix(suffix))
        yield read_yaml(file.path.with_name(file.path.name + suffix))


def read_yaml(path: Path) -> Declared | None:
    """What an original config declares; None if there is none, or it says nothing of the prediction type.

    Raises:
        ModelError: it declares a noise process that is not supported.
    """
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            text = re.sub(r"(?m)^\s*#.*", "", file.read(_LARGEST))
    except OSError:
        return None
    named = _PARAMETERISATION.search(text) or _SCALING.search(text)
    if named is None:
        return None
    prediction = PREDICTIONS.get(named[1].lower()) or _SCALINGS.get(named[1])
    if prediction is None:
        raise ModelError(f"{path} declares {named[1]}, a noise process that is not supported; epsilon and v are")
    return Declared(prediction, prediction == "v_prediction" and bool(_ZERO_SNR.search(text)))
