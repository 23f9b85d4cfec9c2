"""The lean LoRA layer: peft's arithmetic in float32, one cast in half precision, and nothing at all where it is off."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from tiny_models import tiny_unet
from torch import Tensor, nn

from dspo_train.config import LoraSpec
from dspo_train.lora import attach
from dspo_train.lora.attach import attached
from dspo_train.lora.lean import LeanConv2d, LeanLinear, lean_config
from dspo_train.models.conditioning import Conditioning
from dspo_train.models.families import FAMILIES
from dspo_train.models.unet import predict

LAYERS = {
    "linear": (nn.Linear(6, 5), torch.randn(2, 3, 6)),
    "convolution": (nn.Conv2d(6, 5, 3, stride=2, padding=1), torch.randn(2, 6, 8, 8)),
    "reflecting": (nn.Conv2d(6, 5, 3, padding=1, padding_mode="reflect"), torch.randn(2, 6, 8, 8)),
    "1x1": (nn.Conv2d(6, 5, 1), torch.randn(2, 6, 8, 8)),
}


def wrapped(layer: nn.Module, config: LoraConfig, dtype: torch.dtype = torch.float32) -> Any:
    """The layer with an adapter of random factors of rank 2, scaled by 3."""
    model = nn.Sequential(copy.deepcopy(layer)).to(dtype)
    inject_adapter_in_model(config, model, "policy")
    found: Any = model[0]
    found.scaling["policy"] = 3.0
    generator = torch.Generator().manual_seed(1)
    for factor in (found.lora_A["policy"], found.lora_B["policy"]):
        factor.weight = nn.Parameter(torch.randn(factor.weight.shape, generator=generator))
    return found


@pytest.mark.parametrize("name", LAYERS)
def test_in_float32_it_is_pefts_own_to_the_bit(name: str) -> None:
    layer, x = LAYERS[name]
    ours, theirs = wrapped(layer, lean_config(["0"])), wrapped(layer, LoraConfig(r=2, target_modules=["0"]))
    assert isinstance(ours, (LeanLinear, LeanConv2d)) and not isinstance(theirs, (LeanLinear, LeanConv2d))
    for factors in (ours, theirs):  # our configuration asks for rank 1, and the ranks are set afterwards
        factors.lora_A["policy"].weight = nn.Parameter(theirs.lora_A["policy"].weight.detach().clone())
        factors.lora_B["policy"].weight = nn.Parameter(theirs.lora_B["policy"].weight.detach().clone())
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("name", LAYERS)
def test_switched_off_it_is_the_base_layer_to_the_bit(name: str) -> None:
    layer, x = LAYERS[name]
    ours = wrapped(layer, lean_config(["0"]))
    assert not torch.equal(ours(x), layer(x))
    ours.enable_adapters(False)
    assert torch.equal(ours(x), layer(x))


@pytest.mark.parametrize("name", LAYERS)
def test_masters_stay_in_float32_and_results_in_the_types_of_the_base(name: str) -> None:
    layer, x = LAYERS[name]
    ours = wrapped(layer, lean_config(["0"]), torch.bfloat16)
    result = ours(x.bfloat16())
    assert result.dtype == torch.bfloat16
    result.float().square().sum().backward()
    for factor in (ours.lora_A["policy"].weight, ours.lora_B["policy"].weight):
        assert factor.dtype == factor.grad.dtype == torch.float32
        assert factor.grad.abs().max() > 0


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_gradients_in_bfloat16_are_as_good_as_under_autocast(family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against float32: a few per cent either way, as bfloat16 rounds at 0.4% in every layer."""
    exact, lean = (_gradients(family, dtype) for dtype in (torch.float32, torch.bfloat16))
    monkeypatch.setattr(attach, "lean_config", lambda names: LoraConfig(r=1, lora_alpha=1, target_modules=names))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = _gradients(family, torch.bfloat16)
    of_lean, of_mixed = ((exact - found).norm() / exact.norm() for found in (lean, mixed))
    assert 0 < of_mixed < 0.15
    assert 0 < of_lean < 1.5 * of_mixed


def _gradients(family: Any, dtype: torch.dtype) -> Tensor:
    """Of a squared error in all factors, the up factors set to noise so that the down factors have one too."""
    unet: Any = nn.Module.to(tiny_unet(family), dtype)
    draw = torch.Generator().manual_seed(0)
    shapes = FAMILIES[family].shapes(unet.config)
    named = {name: torch.randn(2, *shape, generator=draw) for name, shape in shapes.items()}
    noisy, target = torch.randn(2, 2, 4, 8, 8, generator=draw)
    with attached(unet, LoraSpec(rank=2, targets="attention+mlp+proj"), seed=0) as adapter:
        for name, parameter in adapter.parameters.items():
            if name.endswith(".up"):
                parameter.data = torch.randn(parameter.shape, generator=draw) * 0.1
        result = predict(FAMILIES[family], unet, noisy, torch.tensor([100, 700]), Conditioning(named))
        assert result.dtype == dtype
        (result.float() - target).square().mean().backward()
        grads: list[Any] = [parameter.grad for parameter in adapter.parameters.values()]
        return torch.cat([grad.flatten() for grad in grads])
