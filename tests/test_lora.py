"""The adapter: what it trains, what the reference is, and that the base comes back untouched."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from tiny_lora import full_size_unet, predict, random_lora, unet_inputs
from tiny_models import Family, tiny_unet
from torch import nn

from dspo_train.config import LoraSpec, Targets
from dspo_train.exceptions import LoraFileError, ModelError
from dspo_train.lora.attach import TARGETS, Adapter, LoraLayer, applied, attached
from dspo_train.lora.layers import target_layers

SPEC = LoraSpec(rank=4, alpha=2.0)
QUERY = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
FAMILIES: tuple[Family, ...] = ("sd15", "sdxl")


def randomize(adapter: Adapter, seed: int = 0) -> None:
    """Give the policy an effect, as training does."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters.values():
            parameter.normal_(0, 0.1, generator=generator)


def state(unet: nn.Module) -> dict[str, Any]:
    """All that a borrower must give back."""
    return {
        "modules": [(name, type(module), id(module), module.training) for name, module in unet.named_modules()],
        "tensors": [(name, id(p), p.requires_grad, p.dtype) for name, p in unet.named_parameters()],
        "values": {name: value.clone() for name, value in unet.state_dict().items()},
        "attributes": set(vars(unet)),
        "hooks": [(name, list(module._forward_hooks.values())) for name, module in unet.named_modules()],
    }


def assert_same_state(before: dict[str, Any], after: dict[str, Any]) -> None:
    for part in ("modules", "tensors", "attributes", "hooks"):
        assert after[part] == before[part]
    assert list(after["values"]) == list(before["values"])
    assert all(torch.equal(after["values"][name], value) for name, value in before["values"].items())


@pytest.mark.parametrize(
    ("family", "targets", "count"),
    [
        ("sd15", "attention", 128),  # 16 transformers of 1 block: 2 attentions of 4 layers
        ("sd15", "attention+mlp", 160),
        ("sd15", "attention+mlp+proj", 192),
        ("sd2", "attention", 128),
        ("sdxl", "attention", 560),  # 70 blocks
        ("sdxl", "attention+mlp", 700),
        ("sdxl", "attention+mlp+proj", 722),  # 11 transformers
    ],
)
def test_targets_name_the_expected_layers_of_the_full_models(family: str, targets: Targets, count: int) -> None:
    layers = target_layers(full_size_unet(family), LoraSpec(targets=targets))
    assert len(layers) == count
    assert all(isinstance(module, (nn.Linear, nn.Conv2d)) for module in layers.values())


def test_the_presets_grow() -> None:
    unet = tiny_unet("sd15")
    sets = [set(target_layers(unet, LoraSpec(targets=t))) for t in ("attention", "attention+mlp", "attention+mlp+proj")]
    assert sets[0] < sets[1] < sets[2]
    assert {path.rpartition(".")[2] for path in sets[2] - sets[1]} == {"proj_in", "proj_out"}
    assert set(TARGETS) == {"attention", "attention+mlp", "attention+mlp+proj"}


@pytest.mark.parametrize("refining", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_adapter_is_float32_and_alone_in_requiring_a_gradient(dtype: torch.dtype, refining: bool) -> None:
    unet = tiny_unet("sd15").requires_grad_(True)
    nn.Module.to(unet, dtype)
    with attached(unet, SPEC, seed=0, initial=random_lora(unet) if refining else None) as adapter:
        assert not any(p.requires_grad for p in unet.parameters())
        assert all(p.requires_grad for p in adapter.parameters.values())
        assert {p.dtype for p in adapter.parameters.values()} == {torch.float32}
        assert f"{QUERY}.down" in adapter.parameters
        assert adapter.parameters[f"{QUERY}.up"].shape == (64, 4)
        for switch in SWITCHES.values():
            with switch(adapter):
                assert not any(p.requires_grad for p in unet.parameters())
                assert all(p.requires_grad for p in adapter.parameters.values())


def test_the_start_depends_on_the_seed_alone_and_leaves_the_global_random_state() -> None:
    unet = tiny_unet("sd15")
    starts = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(starts))
        before = torch.get_rng_state()
        with attached(unet, SPEC, seed=seed) as adapter:
            starts.append(adapter.weights())
        assert torch.equal(torch.get_rng_state(), before)
    assert list(starts[0]) == list(starts[1])
    assert all(torch.equal(starts[0][path].down, starts[1][path].down) for path in starts[0])
    assert not torch.equal(starts[0][QUERY].down, starts[2][QUERY].down)
    assert starts[0][QUERY].down.abs().max() <= 1 / 64**0.5  # uniform within 1 / sqrt(in), in = 64
    assert not any(layer.up.any() for layer in starts[0].values())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fresh_reference_is_the_base_bit_for_bit(family: Family) -> None:
    unet = tiny_unet(family)
    inputs = unet_inputs(unet)
    base = predict(unet, inputs)
    with attached(unet, LoraSpec(rank=4, targets="attention+mlp+proj"), seed=0) as adapter:
        assert torch.equal(predict(unet, inputs), base)  # up is zero
        randomize(adapter)
        policy = predict(unet, inputs)
        assert (policy - base).abs().max() > 1e-2
        with adapter.reference():
            assert torch.equal(predict(unet, inputs), base)
        with adapter.off():
            assert torch.equal(predict(unet, inputs), base)
        assert torch.equal(predict(unet, inputs), policy)


SWITCHES: dict[str, Callable[[Adapter], AbstractContextManager[None]]] = {
    "reference": Adapter.reference,
    "off": Adapter.off,
    "strength": lambda adapter: adapter.strength(0.5),
}


@pytest.mark.parametrize("refining", [False, True])
@pytest.mark.parametrize("name", SWITCHES)
def test_the_policy_is_back_after_an_exception(name: str, refining: bool) -> None:
    unet = tiny_unet("sd15")
    inputs = unet_inputs(unet)
    with attached(unet, SPEC, seed=0, initial=random_lora(unet) if refining else None) as adapter:
        randomize(adapter)
        policy = predict(unet, inputs)
        with pytest.raises(KeyError), SWITCHES[name](adapter):
            assert not torch.equal(predict(unet, inputs), policy)
            raise KeyError
        assert torch.equal(predict(unet, inputs), policy)
        assert all(p.requires_grad for p in adapter.parameters.values())


def test_switches_nest() -> None:
    unet = tiny_unet("sd15")
    inputs = unet_inputs(unet)
    base = predict(unet, inputs)
    with attached(unet, SPEC, seed=0, initial=random_lora(unet)) as adapter:
        randomize(adapter)
        policy = predict(unet, inputs)
        with adapter.reference():
            reference = predict(unet, inputs)
            with adapter.off():
                assert torch.equal(predict(unet, inputs), base)
                with adapter.reference():
                    assert torch.equal(predict(unet, inputs), reference)
            assert torch.equal(predict(unet, inputs), reference)
        with adapter.strength(0.5), adapter.strength(2.0):
            assert torch.equal(predict(unet, inputs), policy)


@pytest.mark.parametrize("family", FAMILIES)
def test_leaving_restores_the_base(family: Family) -> None:
    unet = tiny_unet(family)
    next(unet.mid_block.parameters()).requires_grad_(True)  # type: ignore[union-attr]
    unet.down_blocks[0].train()
    before = state(unet)
    for initial in (None, random_lora(unet)):
        with attached(unet, LoraSpec(rank=2, targets="attention+mlp+proj"), seed=0, initial=initial) as adapter:
            randomize(adapter)
            with adapter.strength(0.5), adapter.reference():
                pass
        assert_same_state(before, state(unet))


def test_leaving_by_an_exception_restores_the_base() -> None:
    unet = tiny_unet("sd15")
    before = state(unet)
    with pytest.raises(KeyError), attached(unet, SPEC, seed=0) as adapter, adapter.off():
        raise KeyError
    assert_same_state(before, state(unet))
    with pytest.raises(KeyError), applied(unet, random_lora(unet)):
        raise KeyError
    assert_same_state(before, state(unet))


def test_a_failure_half_way_into_attaching_restores_the_base(monkeypatch: pytest.MonkeyPatch) -> None:
    unet = tiny_unet("sd15").requires_grad_(True)
    before = state(unet)
    register, calls = nn.Module.register_forward_hook, []

    def fail_second(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        if len(calls) == 2:
            raise MemoryError
        return register(*args, **kwargs)

    monkeypatch.setattr(nn.Module, "register_forward_hook", fail_second)
    with pytest.raises(MemoryError), attached(unet, SPEC, seed=0, initial=random_lora(unet)):
        pass
    assert_same_state(before, state(unet))


def test_a_refined_lora_has_itself_as_it_was_for_reference() -> None:
    unet = tiny_unet("sdxl")
    inputs, initial = unet_inputs(unet), random_lora(unet, rank=3, alpha=1.5)
    with applied(unet, initial):
        expected = predict(unet, inputs)
    with attached(unet, LoraSpec(rank=16), seed=0, initial=initial) as adapter:
        assert torch.equal(predict(unet, inputs), expected)
        optimizer = torch.optim.AdamW(adapter.parameters.values(), lr=1e-2)
        for _ in range(2):
            loss = unet(**inputs).sample.square().mean()
            with torch.no_grad(), adapter.reference():
                assert torch.equal(unet(**inputs).sample, expected)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        assert (predict(unet, inputs) - expected).abs().max() > 1e-3
        with adapter.reference():
            assert torch.equal(predict(unet, inputs), expected)
        trained = adapter.weights()
    assert all(layer.rank == 3 and layer.alpha == 1.5 for layer in trained.values())


def test_refining_follows_the_file_layer_by_layer() -> None:
    """Each layer keeps its own rank and alpha; a layer that the file lacks gets none."""
    unet = tiny_unet("sd15")
    inputs = unet_inputs(unet)
    small, large = random_lora(unet, rank=2, alpha=1.0), random_lora(unet, rank=5, alpha=0.5, seed=1)
    key = QUERY.replace("to_q", "to_k")
    initial = {QUERY: small[QUERY], key: large[key]}
    with attached(unet, SPEC, seed=0, initial=initial) as adapter:
        assert {path: (layer.rank, layer.alpha) for path, layer in adapter.weights().items()} == {
            QUERY: (2, 1.0),
            key: (5, 0.5),
        }
        assert len(adapter.parameters) == 4
        attached_prediction = predict(unet, inputs)
    torch.testing.assert_close(attached_prediction, merged_prediction("sd15", initial, inputs), rtol=0, atol=1e-5)


def merged_prediction(family: Family, weights: dict[str, LoraLayer], inputs: dict[str, Any], scale: float = 1.0):
    """The prediction with W + scale (alpha / rank) up @ down written into the base's own weights."""
    unet = tiny_unet(family)
    with torch.no_grad():
        for path, layer in weights.items():
            weight = unet.get_submodule(path).weight
            update = layer.up.flatten(1) @ layer.down.flatten(1)
            weight += scale * layer.alpha / layer.rank * update.view_as(weight)  # type: ignore[operator]
    return predict(unet, inputs)


@pytest.mark.parametrize("scale", [1.0, 0.5, -1.0, 0.0])
@pytest.mark.slow
def test_strength_scales_the_update_of_the_weights(scale: float) -> None:
    unet = tiny_unet("sd15")
    inputs, weights = unet_inputs(unet), random_lora(unet, "attention+mlp+proj", alpha=6.0)
    expected = merged_prediction("sd15", weights, inputs, scale)
    with attached(unet, SPEC, seed=0, initial=weights) as adapter, adapter.strength(scale):
        torch.testing.assert_close(predict(unet, inputs), expected, rtol=0, atol=1e-5)
    with applied(unet, weights, scale):
        torch.testing.assert_close(predict(unet, inputs), expected, rtol=0, atol=1e-5)


def test_weights_come_back_through_load_and_are_copies() -> None:
    unet = tiny_unet("sd15")
    inputs = unet_inputs(unet)
    with attached(unet, SPEC, seed=0) as adapter:
        randomize(adapter)
        saved, policy = adapter.weights(), predict(unet, inputs)
        randomize(adapter, seed=1)
        assert not torch.equal(predict(unet, inputs), policy)
        parameters = dict(adapter.parameters)
        adapter.load(saved)
        assert torch.equal(predict(unet, inputs), policy)
        assert all(adapter.parameters[name] is parameter for name, parameter in parameters.items())
    assert all(not layer.down.requires_grad and layer.alpha == 2.0 for layer in saved.values())
    assert torch.equal(adapter.weights()[QUERY].up, saved[QUERY].up)  # still readable when removed


def test_a_kept_adapter_does_not_keep_the_base_in_memory() -> None:
    unet = tiny_unet("sd15")
    with attached(unet, SPEC, seed=0) as adapter:
        base = weakref.ref(unet.get_submodule(QUERY))
    del unet
    gc.collect()
    assert base() is None
    assert adapter.weights()[QUERY].rank == 4


def test_load_refuses_another_shape() -> None:
    unet = tiny_unet("sd15")
    other = random_lora(unet, rank=8)
    with attached(unet, SPEC, seed=0) as adapter:
        with pytest.raises(LoraFileError, match=r"rank 8 and alpha 3.*rank 4 and alpha 2"):
            adapter.load(other)
        with pytest.raises(LoraFileError, match="lacks layer"):
            adapter.load({QUERY: other[QUERY]})
        with pytest.raises(LoraFileError, match=r"has layer 'conv_in'"):
            adapter.load({**adapter.weights(), "conv_in": other[QUERY]})


def test_dropout_acts_where_gradients_are_recorded_and_nowhere_else() -> None:
    unet = tiny_unet("sd15")
    inputs, initial = unet_inputs(unet), random_lora(unet)
    with applied(unet, initial):
        expected = predict(unet, inputs)
    with attached(unet, LoraSpec(rank=4, dropout=0.5), seed=0, initial=initial) as adapter:
        first, second = (unet(**inputs).sample.detach() for _ in range(2))
        assert not torch.equal(first, second)
        assert torch.equal(predict(unet, inputs), expected)
        with adapter.reference():
            assert torch.equal(unet(**inputs).sample, expected)


def gradients(unet: Any, adapter: Adapter, inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
    unet(**inputs).sample.float().square().mean().backward()
    found = {name: p.grad.clone() for name, p in adapter.parameters.items() if p.grad is not None}
    assert found.keys() == adapter.parameters.keys()
    for parameter in adapter.parameters.values():
        parameter.grad = None
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_checkpointing_changes_no_gradient(family: Family) -> None:
    unet = tiny_unet(family)
    inputs = unet_inputs(unet)
    with attached(unet, SPEC, seed=0) as adapter:
        randomize(adapter)
        plain = gradients(unet, adapter, inputs)
        unet.enable_gradient_checkpointing()
        saved = gradients(unet, adapter, inputs)
        with torch.no_grad(), adapter.reference():
            predict(unet, inputs)
    assert all(torch.equal(saved[name], plain[name]) for name in plain)
    assert all(gradient.any() for gradient in plain.values())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_precision_base_is_trained_in_float32(dtype: torch.dtype) -> None:
    unet = tiny_unet("sd15")
    nn.Module.to(unet, dtype)
    inputs = unet_inputs(unet)
    base = predict(unet, inputs)
    with attached(unet, SPEC, seed=0) as adapter:
        randomize(adapter)
        assert predict(unet, inputs).dtype == dtype
        assert all(g.dtype == torch.float32 and g.isfinite().all() for g in gradients(unet, adapter, inputs).values())
        with adapter.reference():
            assert torch.equal(predict(unet, inputs), base)
        weights = adapter.weights()
    with applied(unet, weights):
        assert {p.dtype for p in unet.parameters()} == {dtype}  # sampling needs no float32 detour


def test_a_second_adapter_is_refused_and_a_stale_one_too() -> None:
    unet = tiny_unet("sd15")
    lora = random_lora(unet)
    with attached(unet, SPEC, seed=0) as adapter:
        before = state(unet)
        with pytest.raises(ModelError, match="already carries an adapter"), applied(unet, lora):
            pass
        assert_same_state(before, state(unet))
    for switch in SWITCHES.values():
        with pytest.raises(RuntimeError, match="removed from its model"), switch(adapter):
            pass


def test_a_model_of_another_kind_is_refused() -> None:
    with (
        pytest.raises(ModelError, match=re.escape("Sequential has none of the layers")),
        attached(nn.Sequential(nn.Linear(4, 4)), SPEC, seed=0),
    ):
        pass


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lora: {}, "holds no layers"),
        (lambda lora: {"down_blocks.9.attentions.0.proj_in": lora[QUERY]}, "has no layer 'down_blocks.9"),
        (
            lambda lora: {QUERY: LoraLayer(torch.zeros(4, 9), torch.zeros(64, 4), 1.0)},
            r"down \(4, 9\), up \(64, 4\)\) does not fit this base, which needs down \(4, 64\)",
        ),
    ],
)
def test_a_lora_for_another_base_is_refused(change: Callable[..., Any], message: str) -> None:
    unet = tiny_unet("sd15")
    before = state(unet)
    with pytest.raises(LoraFileError, match=message), applied(unet, change(random_lora(unet))):
        pass
    assert_same_state(before, state(unet))
