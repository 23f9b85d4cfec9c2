"""The weights of a MODEL wire, read as core's CheckpointSave reads them, and copied."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import comfy.model_management as mm
import comfy.model_sampling as kinds
import torch

from ..dspo_train.exceptions import ModelError
from ..dspo_train.models.families import Prediction
from ..dspo_train.models.single_file import UnetWeights

UNET = "model.diffusion_model."
PREDICTIONS: tuple[tuple[type, Prediction], ...] = ((kinds.EPS, "epsilon"), (kinds.V_PREDICTION, "v_prediction"))
ZERO_SNR = 100.0  # a largest sigma above this is a process that ends in pure noise; an ordinary one ends at 14.6


def fingerprint(model: Any) -> str:
    """sha256 over the patched UNet and what it predicts; reads one tensor after the other."""
    digest = hashlib.sha256(f"{_prediction(model)} {_zero_snr(model)}".encode())
    for key, value in _tensors(model):
        plain = value.detach().contiguous().view(torch.uint8)
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(plain.numpy().data)
    return digest.hexdigest()


def copy(model: Any) -> UnetWeights:
    """The patched UNet on the CPU, as tensors that autograd may save: call it outside inference mode.

    Raises:
        ModelError: a kind of model or noise process that is not trained.
    """
    tensors = {}
    for key, value in _tensors(model):
        empty = torch.empty(value.shape, dtype=value.dtype, device="cpu")
        with torch.no_grad():
            tensors[key] = empty.copy_(value)
    clear_device()  # reading brought the model onto it
    return UnetWeights(tensors, _prediction(model), _zero_snr(model))


def clear_device() -> None:
    """Have ComfyUI's models leave the device, which a training has to itself."""
    with torch.inference_mode():  # as core does it: outside, newer cores put ordinary tensors into the models
        mm.unload_all_models()
    mm.soft_empty_cache()


def _tensors(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """The UNet's tensors on the CPU, patched, one after the other."""
    with torch.inference_mode():  # as core does it: the model's own tensors stay of the kind they were
        state = _state(model)
    for key in sorted(state):
        if key.startswith(UNET):
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
    """Core makes the class of a noise process from two: how noise is spread, and what the model predicts."""
    bases = type(model.get_model_object("model_sampling")).__bases__
    predicted = [name for kind, name in PREDICTIONS if kind in bases]
    if kinds.ModelSamplingDiscrete not in bases or not predicted:
        found = " and ".join(base.__name__ for base in bases)
        raise ModelError(
            f"the model to train works by {found}, which is not trained; "
            "Stable Diffusion 1.x, 2.x and XL models with epsilon or v prediction are"
        )
    return predicted[0]


def _zero_snr(model: Any) -> bool:
    return float(model.get_model_object("model_sampling").sigma_max) > ZERO_SNR
