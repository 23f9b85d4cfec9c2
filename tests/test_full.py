"""Training all of a UNet: what is trained, what the reference is, and that the base comes back untouched."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from tiny_lora import conditioning, predict, unet_inputs
from tiny_models import Family, tiny_unet
from torch import Tensor, nn

from dspo_train.exceptions import ModelError
from dspo_train.models import families
from dspo_train.models.unet import predict as denoise
from dspo_train.training.full import WholeModel, whole

FAMILIES: tuple[Family, ...] = ("sd15", "sd2", "sdxl")
SWITCHES: dict[str, Callable[[WholeModel], AbstractContextManager[None]]] = {
    "reference": WholeModel.reference,
    "origin": WholeModel.origin,
    "off": WholeModel.off,
}


def train(unet: Any, model: WholeModel, inputs: dict[str, Any], steps: int = 2) -> None:
    """Real steps, large enough to see."""
    optimiser = torch.optim.AdamW(model.parameters.values(), lr=1e-3)
    for _ in range(steps):
        unet(**inputs).sample.float().square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()


def state(unet: nn.Module) -> dict[str, Any]:
    """All that a borrower must give back."""
    return {
        "modules": [(name, id(module), module.training) for name, module in unet.named_modules()],
        "tensors": [(name, id(p), p.requires_grad, p.dtype) for name, p in unet.named_parameters()],
        "values": {name: value.clone() for name, value in unet.state_dict().items()},
        "attributes": {name: set(vars(module)) for name, module in unet.named_modules()},
    }


def assert_same_state(before: dict[str, Any], after: dict[str, Any]) -> None:
    for part in ("modules", "tensors", "attributes"):
        assert after[part] == before[part]
    assert list(after["values"]) == list(before["values"])
    assert all(torch.equal(after["values"][name], value) for name, value in before["values"].items())


@pytest.mark.parametrize("moving", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_weight_is_trained_in_float32_under_the_name_of_its_state_dict(dtype: torch.dtype, moving: bool) -> None:
    unet = tiny_unet("sdxl")
    nn.Module.to(unet, dtype)
    base = {name: value.clone() for name, value in unet.state_dict().items()}
    with whole(unet, moving=moving) as model:
        assert list(model.parameters) == list(base)
        assert all(torch.equal(p, base[name].float()) for name, p in model.parameters.items())
        assert {p.dtype for p in model.parameters.values()} == {torch.float32}
        trained = [id(p) for p in unet.parameters() if p.requires_grad]
        assert trained == [id(p) for p in model.parameters.values()]
        for switch in SWITCHES.values():
            with switch(model):
                assert not any(p.requires_grad for p in unet.parameters())


@pytest.mark.parametrize("moving", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.slow
def test_the_reference_stays_bit_identical_while_the_policy_is_trained(family: Family, moving: bool) -> None:
    unet = tiny_unet(family)
    inputs = unet_inputs(unet)
    base = predict(unet, inputs)
    with whole(unet, moving=moving) as model:
        assert torch.equal(predict(unet, inputs), base)
        train(unet, model, inputs)
        policy = predict(unet, inputs)
        assert (policy - base).abs().max() > 1e-2
        for switch in SWITCHES.values():
            with switch(model):
                assert torch.equal(predict(unet, inputs), base)
            assert torch.equal(predict(unet, inputs), policy)
    assert torch.equal(predict(unet, inputs), base)


@pytest.mark.parametrize("name", SWITCHES)
def test_the_policy_is_back_after_an_exception(name: str) -> None:
    unet = tiny_unet("sd15")
    inputs = unet_inputs(unet)
    with whole(unet) as model:
        train(unet, model, inputs, steps=1)
        policy = predict(unet, inputs)
        with pytest.raises(KeyError), SWITCHES[name](model):
            raise KeyError
        assert torch.equal(predict(unet, inputs), policy)
        assert all(p.requires_grad for p in unet.parameters())


def follow(model: WholeModel, decay: float) -> None:
    """As the trainer lets a reference follow."""
    with torch.no_grad():
        for name, value in model.reference_tensors().items():
            value.lerp_(model.parameters[name], 1 - decay)


def test_the_reference_follows_by_the_decay_and_the_origin_does_not() -> None:
    """From base b and policy p = b + 1, with decay 3/4: b + 1/4, then b + 1/4 + 3/16 = b + 7/16."""
    unet = tiny_unet("sd15")
    base = {name: value.clone() for name, value in unet.state_dict().items()}
    with whole(unet, moving=True) as model:
        with torch.no_grad():
            for parameter in model.parameters.values():
                parameter.add_(1)
        for expected in (1 / 4, 7 / 16):
            follow(model, 0.75)
            with model.reference():
                moved = {name: value - base[name] for name, value in unet.state_dict().items()}
            assert all(torch.allclose(m, torch.full_like(m, expected), atol=1e-6) for m in moved.values())
        for switch in (model.origin, model.off):
            with switch():
                assert all(torch.equal(value, base[name]) for name, value in unet.state_dict().items())
        assert all(torch.equal(p, base[name] + 1) for name, p in model.parameters.items())


def test_a_half_precision_base_is_followed_in_float32() -> None:
    """Steps of 2e-4 of the distance would all be lost in bfloat16, whose neighbours of 1 are 8e-3 away."""
    unet = tiny_unet("sd15")
    nn.Module.to(unet, torch.bfloat16)
    with whole(unet, moving=True) as model:
        with torch.no_grad():
            for parameter in model.parameters.values():
                parameter.add_(1)
        before = {name: value.clone() for name, value in model.reference_tensors().items()}
        for _ in range(10):
            follow(model, 0.9998)
        moved = [(after - before[name]).mean() for name, after in model.reference_tensors().items()]
    assert len(moved) == len(before) > 100
    assert all(abs(m - (1 - 0.9998**10)) < 1e-5 for m in moved)


def test_a_moving_reference_is_saved_and_put_back_by_its_tensors() -> None:
    unet = tiny_unet("sd15")
    inputs = unet_inputs(unet)
    with whole(unet, moving=True) as model:
        train(unet, model, inputs)
        follow(model, 0.5)
        saved = {name: value.detach().clone() for name, value in model.reference_tensors().items()}
        with model.reference():
            expected = predict(unet, inputs)
    assert not torch.equal(predict(unet, inputs), expected)
    with whole(unet, moving=True) as model:
        with torch.no_grad():
            for name, value in model.reference_tensors().items():
                value.copy_(saved[name])
        with model.reference():
            assert torch.equal(predict(unet, inputs), expected)
    assert saved.keys() == unet.state_dict().keys()


def test_a_fixed_reference_has_no_tensors_of_its_own() -> None:
    with whole(tiny_unet("sd15")) as model:
        assert model.reference_tensors() == {}


@pytest.mark.parametrize("moving", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_leaving_gives_the_unet_back_as_it_was(family: Family, dtype: torch.dtype, moving: bool) -> None:
    unet = tiny_unet(family)
    nn.Module.to(unet, dtype)
    next(unet.mid_block.parameters()).requires_grad_(True)  # type: ignore[union-attr]
    unet.down_blocks[0].train()
    before = state(unet)
    with whole(unet, moving=moving) as model:
        with torch.no_grad():
            for parameter in model.parameters.values():
                parameter.add_(1)
        with model.reference(), model.off():
            pass
    assert_same_state(before, state(unet))
    with pytest.raises(KeyError), whole(unet, moving=moving) as model, model.off():
        raise KeyError
    assert_same_state(before, state(unet))


def test_running_out_of_memory_on_the_way_in_gives_the_unet_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from dspo_train.training import full

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    unet = tiny_unet("sd15").requires_grad_(True)
    before = state(unet)
    monkeypatch.setattr(full, "_masters", fail)
    with pytest.raises(MemoryError), whole(unet):
        pass
    assert_same_state(before, state(unet))


def test_a_kept_model_holds_its_weights_and_nothing_of_the_base() -> None:
    unet = tiny_unet("sd15")
    with whole(unet, moving=True) as model:
        base = weakref.ref(unet.conv_in)
        reference = weakref.ref(model.reference_tensors()["conv_in.weight"])
    del unet
    gc.collect()
    assert base() is None and reference() is None
    assert model.parameters["conv_in.weight"].shape == (32, 4, 3, 3)
    for switch in SWITCHES.values():
        with pytest.raises(RuntimeError, match="removed from its UNet"), switch(model):
            pass


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.slow
def test_under_autocast_the_reference_is_the_base_and_the_start_has_no_drift(
    family: Family, dtype: torch.dtype
) -> None:
    """Autocast keeps the policy's casts while its context is open; the reference must not be given them."""
    unet = tiny_unet(family)
    nn.Module.to(unet, dtype)
    inputs = unet_inputs(unet)
    given = conditioning(inputs)

    def predicted() -> Tensor:
        return denoise(families.FAMILIES[family], unet, inputs["sample"], inputs["timestep"], given)

    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        base = predicted()
    with whole(unet) as model:
        optimiser = torch.optim.AdamW(model.parameters.values(), lr=1e-3)
        for step in range(2):
            with torch.autocast("cpu", torch.bfloat16):
                policy = predicted()
                with torch.no_grad(), model.reference():
                    assert torch.equal(predicted(), base)
            assert torch.equal(policy, base) == (step == 0)
            policy.float().square().mean().backward()
            optimiser.step()
            optimiser.zero_grad()


def gradients(unet: Any, model: WholeModel, inputs: dict[str, Any], *, switched: bool) -> dict[str, Tensor]:
    loss = unet(**inputs).sample.float().square().mean()
    if switched:
        with torch.no_grad(), model.reference():
            predict(unet, inputs)
    loss.backward()
    found = {name: p.grad.clone() for name, p in model.parameters.items() if p.grad is not None}
    for parameter in model.parameters.values():
        parameter.grad = None
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_neither_a_switch_nor_checkpointing_changes_a_gradient(family: Family) -> None:
    unet = tiny_unet(family)
    inputs = unet_inputs(unet)
    with whole(unet) as model:
        train(unet, model, inputs, steps=1)  # so that the reference's weights would give other gradients
        plain = gradients(unet, model, inputs, switched=False)
        switched = gradients(unet, model, inputs, switched=True)
        unet.enable_gradient_checkpointing()
        recomputed = gradients(unet, model, inputs, switched=True)
    assert plain.keys() == switched.keys() == recomputed.keys() == dict(unet.named_parameters()).keys()
    assert all(torch.equal(plain[name], switched[name]) for name in plain)
    assert all(torch.equal(plain[name], recomputed[name]) for name in plain)


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(ModelError, match="ReLU has no weights"), whole(nn.ReLU()):
        pass
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    with pytest.raises(ModelError, match="one weight in two places"), whole(tied):
        pass
