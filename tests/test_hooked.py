"""The hooked LoRA layer: peft's arithmetic in float32, one cast in half precision, and nothing where it is off."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, inject_adapter_in_model
from tiny_models import tiny_unet
from torch import Tensor, nn

from dspo_train.config import LoraSpec
from dspo_train.exceptions import ModelError
from dspo_train.lora.attach import applied, attached
from dspo_train.lora.hooked import AdapterLayer, Factors, Switch, adapted
from dspo_train.lora.layers import TargetTable, adaptable_layers, target_layers
from dspo_train.models.conditioning import Conditioning
from dspo_train.models.families import FAMILIES
from dspo_train.models.unet import predict

LAYERS = {
    "linear": (nn.Linear(6, 5), torch.randn(2, 3, 6)),
    "convolution": (nn.Conv2d(6, 5, 3, stride=2, padding=1), torch.randn(2, 6, 8, 8)),
    "reflecting": (nn.Conv2d(6, 5, 3, padding=1, padding_mode="reflect"), torch.randn(2, 6, 8, 8)),
    "1x1": (nn.Conv2d(6, 5, 1), torch.randn(2, 6, 8, 8)),
}
SPEC = LoraSpec(rank=2, targets="attention+mlp+proj")


def pefts(layer: nn.Module) -> Any:
    """The layer in peft's own, with random factors of rank 2, scaled by 3."""
    model = nn.Sequential(copy.deepcopy(layer))
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["0"]), model, "policy")
    found: Any = model[0]
    found.scaling["policy"] = 3.0
    generator = torch.Generator().manual_seed(1)
    for factor in (found.lora_A["policy"], found.lora_B["policy"]):
        factor.weight = nn.Parameter(torch.randn(factor.weight.shape, generator=generator))
    return found


def hooked(layer: nn.Module, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, AdapterLayer]:
    """The layer with the same factors, by our hook."""
    theirs = pefts(layer)
    down, up = (nn.Parameter(part["policy"].weight.detach().clone()) for part in (theirs.lora_A, theirs.lora_B))
    ours = AdapterLayer(Switch("policy"), {"policy": Factors(down, up, 3.0, 6.0)})
    module = copy.deepcopy(layer).to(dtype)
    module.register_forward_hook(ours)
    return module, ours


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "reflecting"])  # where peft pads with zeros
def test_in_float32_it_is_pefts_own_to_the_bit(name: str) -> None:
    layer, x = LAYERS[name]
    ours, _ = hooked(layer)
    assert torch.equal(ours(x), pefts(layer)(x))


@pytest.mark.parametrize("name", LAYERS)
def test_it_is_the_layer_with_the_update_in_its_weight(name: str) -> None:
    """As interfaces apply the file, with whatever padding the layer has."""
    layer, x = LAYERS[name]
    ours, adapter = hooked(layer)
    factors, merged = adapter.adapters["policy"], copy.deepcopy(layer)
    with torch.no_grad():
        update = factors.up.flatten(1) @ factors.down.flatten(1)
        merged.weight += factors.scaling * update.view_as(merged.weight)  # type: ignore[operator, arg-type]
    torch.testing.assert_close(ours(x), merged(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("state", ["off", "initial"])
@pytest.mark.parametrize("name", LAYERS)
def test_switched_off_it_is_the_base_layer_to_the_bit(name: str, state: str) -> None:
    """A state that a layer has no factors for is off."""
    layer, x = LAYERS[name]
    ours, adapter = hooked(layer)
    assert not torch.equal(ours(x), layer(x))
    adapter.switch.state = state
    assert torch.equal(ours(x), layer(x))


@pytest.mark.parametrize("name", LAYERS)
def test_masters_stay_in_float32_and_results_in_the_types_of_the_base(name: str) -> None:
    layer, x = LAYERS[name]
    ours, adapter = hooked(layer, torch.bfloat16)
    result = ours(x.bfloat16())
    assert result.dtype == torch.bfloat16
    result.float().square().sum().backward()
    for factor in (adapter.adapters["policy"].down, adapter.adapters["policy"].up):
        assert factor.grad is not None
        assert factor.dtype == factor.grad.dtype == torch.float32
        assert factor.grad.abs().max() > 0


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_gradients_in_bfloat16_are_as_good_as_under_autocast(family: Any) -> None:
    """Against float32: a few per cent either way, as bfloat16 rounds at 0.4% in every layer."""
    exact, lean = (_gradients(family, dtype) for dtype in (torch.float32, torch.bfloat16))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = _gradients(family, torch.bfloat16, by_peft=True)
    of_lean, of_mixed = ((exact - found).norm() / exact.norm() for found in (lean, mixed))
    assert 0 < of_mixed < 0.15
    assert 0 < of_lean < 1.5 * of_mixed


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_gradients_in_float32_are_those_of_pefts_layers(family: Any) -> None:
    torch.testing.assert_close(
        _gradients(family, torch.float32), _gradients(family, torch.float32, by_peft=True), rtol=1e-4, atol=1e-6
    )


def _gradients(family: Any, dtype: torch.dtype, *, by_peft: bool = False) -> Tensor:
    """Of a squared error in all factors, the up factors set to noise so that the down factors have one too."""
    unet: Any = nn.Module.to(tiny_unet(family), dtype)
    draw = torch.Generator().manual_seed(0)
    shapes = FAMILIES[family].shapes(unet.config)
    named = {name: torch.randn(2, *shape, generator=draw) for name, shape in shapes.items()}
    noisy, target = torch.randn(2, 2, 4, 8, 8, generator=draw)
    with attached(unet, SPEC, seed=0) as adapter:
        parameters = adapter.parameters
        for name, parameter in parameters.items():
            if name.endswith(".up"):
                parameter.data = torch.randn(parameter.shape, generator=draw) * 0.1
        with adapter.off() if by_peft else adapter.strength(1.0):
            if by_peft:
                parameters = _injected(unet, parameters)
            result = predict(FAMILIES[family], unet, noisy, torch.tensor([100, 700]), Conditioning(named))
        assert result.dtype == dtype
        (result.float() - target).square().mean().backward()
    grads: list[Any] = [parameter.grad for parameter in parameters.values()]
    return torch.cat([grad.flatten() for grad in grads])


def _injected(unet: nn.Module, parameters: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Add peft's own layers with copies of these factors; -> the copies, by the same names."""
    paths = [name.removesuffix(".up") for name in parameters if name.endswith(".up")]
    inject_adapter_in_model(LoraConfig(r=SPEC.rank, lora_alpha=int(SPEC.alpha), target_modules=paths), unet, "policy")
    copies: dict[str, nn.Parameter] = {}
    for path in paths:
        layer: Any = unet.get_submodule(path)
        for name, part in (("down", layer.lora_A["policy"]), ("up", layer.lora_B["policy"])):
            part.weight = copies[f"{path}.{name}"] = nn.Parameter(parameters[f"{path}.{name}"].detach().clone())
    return copies


# Whatever the layer is


class Quantised(nn.Module):
    """A linear layer that is none of torch's, with whole numbers for weights."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.scale = float(linear.weight.detach().abs().max()) / 127
        self.weight = nn.Parameter((linear.weight.detach() / self.scale).round().to(torch.int8), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype) * self.scale)


def test_a_quantised_linear_layer_gets_an_adapter() -> None:
    unet: Any = tiny_unet("sd15")
    block = unet.mid_block.attentions[0].transformer_blocks[0]
    block.attn1.to_q = Quantised(block.attn1.to_q)
    path = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    assert adaptable_layers(unet)[path] is target_layers(unet, SPEC)[path] is block.attn1.to_q
    x = torch.randn(2, 3, 64)
    before = block.attn1.to_q(x)
    with attached(unet, SPEC, seed=0) as adapter:
        down, up = adapter.parameters[f"{path}.down"], adapter.parameters[f"{path}.up"]
        assert (down.shape, up.shape) == ((2, 64), (64, 2))
        assert down.dtype == up.dtype == torch.float32
        with torch.no_grad():
            up.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
        after = block.attn1.to_q(x)
        torch.testing.assert_close(after, before + SPEC.alpha / SPEC.rank * x @ down.T @ up.T)
        after.square().mean().backward()
        assert down.grad is not None and up.grad is not None and down.grad.any() and up.grad.any()
    assert torch.equal(block.attn1.to_q(x), before)


def test_layers_are_chosen_by_the_table_that_is_given() -> None:
    network = nn.ModuleDict({"a": nn.Linear(4, 3), "b": nn.Linear(4, 3), "norm": nn.LayerNorm(3)})
    assert list(adaptable_layers(network)) == ["a", "b"]
    table: TargetTable = {"attention": re.compile("b")}
    with attached(network, LoraSpec(rank=2), seed=0, targets=table) as adapter:
        assert list(adapter.parameters) == ["b.down", "b.up"]


# What is left of it


def parts(network: nn.Module) -> dict[str, Any]:
    """The objects that a reader or patcher of a network goes by."""
    modules = dict(network.named_modules())
    return {
        "modules": {path: id(module) for path, module in modules.items()},
        "tensors": {name: id(tensor) for name, tensor in network.named_parameters()},
        "keys": list(network.state_dict()),
        "own attributes": {path: set(vars(module)) for path, module in modules.items()},
        "forwards": {path: getattr(module.forward, "__func__", module.forward) for path, module in modules.items()},
    }


def hooks(network: nn.Module) -> list[object]:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")
    return [hook for module in network.modules() for kind in kinds for hook in getattr(module, kind).values()]


def test_the_networks_own_parts_stay_the_same_objects_and_every_hook_goes() -> None:
    unet = tiny_unet("sd15")
    before = parts(unet)
    assert hooks(unet) == [] and not adapted(unet)
    with attached(unet, SPEC, seed=0) as adapter:
        assert parts(unet) == before
        assert len(hooks(unet)) == len(target_layers(unet, SPEC)) and adapted(unet)
        weights = adapter.weights()
    assert parts(unet) == before
    assert hooks(unet) == [] and not adapted(unet)
    with applied(unet, weights):
        assert parts(unet) == before and adapted(unet)
    assert hooks(unet) == []


def test_every_hook_goes_after_an_exception() -> None:
    unet = tiny_unet("sd15")
    before = parts(unet)
    with pytest.raises(KeyError), attached(unet, SPEC, seed=0) as adapter, adapter.off():
        raise KeyError
    assert parts(unet) == before and hooks(unet) == []


def test_hooks_of_others_stay() -> None:
    unet, seen = tiny_unet("sd15"), []
    unet.conv_in.register_forward_hook(lambda *_: seen.append(1))
    theirs = hooks(unet)
    with attached(unet, SPEC, seed=0):
        assert len(hooks(unet)) > 1
    assert hooks(unet) == theirs


def test_pefts_adapter_is_an_adapter_too() -> None:
    unet = tiny_unet("sd15")
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["to_q"]), unet)
    assert adapted(unet)
    with pytest.raises(ModelError, match="already carries an adapter"), attached(unet, SPEC, seed=0):
        pass
