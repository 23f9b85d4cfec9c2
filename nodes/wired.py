"""The weights of a MODEL wire, read as core's CheckpointSave reads them, and copied."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import comfy.model_management as mm
import comfy.model_sampling as kinds
import torch

from ..dspo_train.exceptions import ModelError
from ..dspo_train.models.families import UNET_PREFIX, Prediction
from ..dspo_train.models.single_file import UnetWeights

PREDICTIONS: tuple[tuple[type, Prediction], ...] = ((kinds.EPS, "epsilon"), (kinds.V_PREDICTION, "v_prediction"))
ZERO_SNR = 100.0  # a maximum sigma above this means zero terminal SNR; an ordinary process ends at 14.6


def fingerprint(model: Any) -> str:
    """sha256 over the patched UNet and its prediction type, one tensor at a time."""
    digest = hashlib.sha256(f"{_prediction(model)} {_zero_snr(model)}".encode())
    for key, value in _tensors(model):
        plain = value.detach().contiguous().view(torch.uint8)
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(plain.numpy().data)
    return digest.hexdigest()


def copy(model: Any) -> UnetWeights:
    """The patched UNet on the CPU, as tensors that autograd may save; call it outside inference mode.

    Raises:
        ModelError: a kind of model or noise process that cannot be trained.
    """
    tensors = {}
    for key, value in _tensors(model):
        empty = torch.empty(value.shape, dtype=value.dtype, device="cpu")
        with torch.no_grad():
            tensors[key] = empty.copy_(value)
    clear_device()  # reading loaded the model onto it
    return UnetWeights(tensors, _prediction(model), _zero_snr(model))


def clear_device() -> None:
    """Unload ComfyUI's models: training needs the device to itself."""
    with torch.inference_mode():  # as core does it: outside, newer cores put ordinary tensors into the models
        mm.unload_all_models()
    mm.soft_empty_cache()


def _tensors(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """The UNet's tensors on the CPU, patched, one after the other."""
    with torch.inference_mode():  # as in core, so that the model keeps its inference tensors
        state = _state(model)
    for key in sorted(state):
        if key.startswith(UNET_PREFIX):
            with torch.inference_mode():
                value = state[key].to("cpu")  # newer cores patch a weight here, when it is moved
            yield key, value


def _state(model: Any) -> dict[str, torch.Tensor]:
    if hasattr(model, "state_dict_for_saving"):  # newer cores, some of whose loaders refuse to patch ahead
        mm.load_models_gpu([model])
        return model.state_dict_for_saving()
    mm.load_models_gpu([model], force_patch_weights=True)
    return model.model.state_dict_for_saving()


def _prediction(model: Any) -> Prediction:
    """Core builds the class of a noise process from two: its noise levels and its prediction type."""
    bases = type(model.get_model_object("model_sampling")).__bases__
    predicted = [name for kind, name in PREDICTIONS if kind in bases]
    if kinds.ModelSamplingDiscrete not in bases or not predicted:
        found = " and ".join(base.__name__ for base in bases)
        raise ModelError(
            f"the wired model samples by {found}, which cannot be trained; "
            "use a Stable Diffusion 1.x, 2.x or XL model with epsilon or v prediction"
        )
    return predicted[0]


def _zero_snr(model: Any) -> bool:
    return float(model.get_model_object("model_sampling").sigma_max) > ZERO_SNR
