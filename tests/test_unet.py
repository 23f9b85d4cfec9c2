"""The denoiser around a diffusers UNet."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from diffusers import UNet2DConditionModel
from fakes import ddpm
from tiny_lora import conditioning, random_lora, unet_inputs
from tiny_models import Family, tiny_unet
from torch import nn

from dspo_train.config import LoraSpec
from dspo_train.exceptions import ModelError
from dspo_train.lora.attach import attached
from dspo_train.models.base import Base
from dspo_train.models.conditioning import Conditioning
from dspo_train.models.denoiser import Denoiser
from dspo_train.models.families import FAMILIES
from dspo_train.runs.diffusers_model import DiffusersModel
from dspo_train.training.denoiser import TrainedDenoiser

PROCESS = ddpm()
SPEC = LoraSpec(rank=2)


def based(family: Family, unet: UNet2DConditionModel) -> DiffusersModel:
    """A model with what predictions take of a base."""
    base = cast(Base, SimpleNamespace(family=FAMILIES[family], unet=unet, process=PROCESS))
    return DiffusersModel(base, torch.device("cpu"), Path("base"))


@pytest.mark.parametrize("family", ["sd15", "sd2", "sdxl"])
def test_predictions_are_the_unets_own(family: Family) -> None:
    unet = tiny_unet(family)
    inputs = unet_inputs(unet)
    with torch.no_grad(), attached(unet, SPEC, seed=0, initial=random_lora(unet)) as adapter:
        denoiser: Denoiser = TrainedDenoiser(based(family, unet), adapter)
        expected = unet(**inputs).sample
        assert torch.equal(denoiser.predict(inputs["sample"], inputs["timestep"], conditioning(inputs)), expected)
    assert denoiser.process is PROCESS


def test_the_reference_is_the_adapters() -> None:
    unet = tiny_unet("sd15")
    inputs = unet_inputs(unet)
    with torch.no_grad():
        base = unet(**inputs).sample
        with attached(unet, SPEC, seed=0) as adapter:
            denoiser = TrainedDenoiser(based("sd15", unet), adapter)
            for parameter in adapter.parameters.values():
                parameter.fill_(0.1)
            policy = denoiser.predict(inputs["sample"], inputs["timestep"], conditioning(inputs))
            with denoiser.reference():
                reference = denoiser.predict(inputs["sample"], inputs["timestep"], conditioning(inputs))
    assert torch.equal(reference, base)
    assert not torch.equal(policy, base)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_inputs_are_cast_to_the_base_not_to_the_adapter(family: Family, dtype: torch.dtype) -> None:
    unet = tiny_unet(family)
    inputs = unet_inputs(unet)
    with torch.no_grad():
        exact = unet(**inputs).sample
        nn.Module.to(unet, dtype)
        with attached(unet, SPEC, seed=0) as adapter:
            denoiser = TrainedDenoiser(based(family, unet), adapter)
            prediction = denoiser.predict(inputs["sample"], inputs["timestep"], conditioning(inputs))
    assert prediction.dtype == dtype
    torch.testing.assert_close(prediction.float(), exact, rtol=0.05, atol=0.05)


def test_sdxl_without_its_size_conditioning_is_refused() -> None:
    unet = tiny_unet("sdxl")
    inputs = unet_inputs(unet)
    text = Conditioning({"context": inputs["encoder_hidden_states"]})
    with attached(unet, SPEC, seed=0) as adapter:
        denoiser = TrainedDenoiser(based("sdxl", unet), adapter)
        with pytest.raises(ModelError, match="needs the conditioning 'pooled'; found only context"):
            denoiser.predict(inputs["sample"], inputs["timestep"], text)
