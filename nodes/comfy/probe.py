"""One pass through a MODEL on tensors without values: do gradients flow, and what does a step keep in memory?

The layers' weights are not touched, so that it makes no difference how they are stored, nor how large they are.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from ...dspo_train.config import LoraSpec
from ...dspo_train.exceptions import ModelError
from ...dspo_train.lora.attach import Adapter, attached
from ...dspo_train.models.conditioning import Conditioning, Frame
from ...dspo_train.runs.counting import StepCount, count_pass
from .encoder import FRAME
from .gradients import differentiable
from .predict import conds_of, raw_prediction
from .process import sigmas

# Share of the targeted layers that gradients have to reach: some models do not use all results of their last block.
_ENOUGH = 0.5
_SIDE = 16  # latent pixels


def count(wired: Any, caption: Conditioning, side: int, spec: LoraSpec, checkpointing: bool) -> StepCount:
    """What a step keeps for one image of `side` x `side` latent pixels, in the MODEL's own precision."""
    with _adapted(wired, spec, checkpointing) as adapter:
        weights = [*wired.model.model.parameters(), *adapter.parameters.values()]
        return count_pass(lambda: _predicted(wired, caption, side), weights)


def refuse_unfit(wired: Any, caption: Conditioning) -> None:
    """
    Raises:
        ModelError: the caption's encoding does not fit the MODEL, or gradients do not reach the layers that a LoRA
            would train.
    """
    title = wired.family.title
    with _quiet(), _adapted(wired, LoraSpec(rank=1, alpha=1.0), False) as adapter:
        try:
            with torch.no_grad():
                _predicted(wired, caption, _SIDE)
        except Exception as error:
            raise ModelError(
                f"what the wired CLIP gives does not fit the {title} model ({_reason(error)}); wire the text encoder "
                "that belongs to it"
            ) from error
        ups = [parameter for name, parameter in adapter.parameters.items() if name.endswith(".up")]
        try:
            with torch.enable_grad():
                result = _predicted(wired, caption, _SIDE)
                found = torch.autograd.grad(result.sum(), ups, allow_unused=True) if result.requires_grad else []
        except (RuntimeError, NotImplementedError) as error:
            raise ModelError(f"the wired {title} model cannot be trained: {_reason(error)}") from error
    reached = sum(gradient is not None for gradient in found)
    if reached < _ENOUGH * len(ups):
        raise ModelError(
            f"gradients reach {reached} of {len(ups)} layers of the wired {title} model; it cannot be trained"
        )


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, torch does not print what fails on tensors without values: it is told in our own words."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


@contextmanager
def _adapted(wired: Any, spec: LoraSpec, checkpointing: bool) -> Iterator[Adapter]:
    """The network as in training, with a LoRA, on the device where it lies, its layers without values."""
    network = wired.model.model.diffusion_model
    options = {"seed": 0, "targets": wired.family.targets, "device": _place(wired)}
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(differentiable(network, checkpointing=checkpointing, virtual=True))
        yield stack.enter_context(attached(network, spec, **options))


def _place(wired: Any) -> torch.device:
    places = (weight.device for weight in wired.model.model.diffusion_model.parameters())
    return next((place for place in places if place.type != "meta"), torch.device("cpu"))


def _predicted(wired: Any, caption: Conditioning, side: int) -> Tensor:
    model, family = wired.model.model, wired.family
    process = wired.process
    shape = (1, model.latent_format.latent_channels, *((1,) if family.frames else ()), side, side)
    given = {**caption.tensors, FRAME: torch.tensor([Frame(side * 8, side * 8, 0, 0, side * 8, side * 8)])}
    time = process.draw_evenly(torch.Generator().manual_seed(0), 0.5, 0.6)[None]
    device = _place(wired)
    sigma = sigmas(process, time).to(device)
    rows = conds_of(model, family, Conditioning(given).to(device), torch.zeros(shape, device=device))
    with FakeTensorMode(allow_non_fake_inputs=True):
        # a patch may read the noise level, which has no value here
        return raw_prediction(wired.model, torch.zeros(shape, device=device), sigma, rows, patched=False)
