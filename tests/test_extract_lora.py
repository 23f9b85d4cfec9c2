"""A LoRA out of a whole training: the whole of it at full rank, the best of it below."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_lora import predict, unet_inputs
from tiny_models import Family, tiny_unet
from torch import Tensor

from dspo_train.config import Targets
from dspo_train.exceptions import LoraFileError
from dspo_train.lora import extract as extract_lora
from dspo_train.lora.attach import LoraLayer, applied
from dspo_train.lora.extract import extract, factored
from dspo_train.lora.formats import unet_format
from dspo_train.lora.layers import TARGETS
from dspo_train.lora.writing import load_lora, save_lora
from dspo_train.models import families

FAMILIES: tuple[Family, ...] = ("sd15", "sd2", "sdxl")
ALL: Targets = "attention+mlp+proj"
QUERY = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


def trained(unet: Any, targets: Targets | None = ALL, by: float = 0.02, seed: int = 0) -> dict[str, Tensor]:
    """The weights after a training that moved the targeted layers, or with None all."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, value in unet.state_dict().items():
        path, _, leaf = name.rpartition(".")
        moves = targets is None or (leaf == "weight" and TARGETS[targets].fullmatch(path))
        state[name] = value + by * torch.randn(value.shape, generator=generator) if moves else value
    return state


def update(layer: LoraLayer) -> Tensor:
    """What a loader adds to the weight, as a matrix."""
    return layer.alpha / layer.rank * layer.up.flatten(1) @ layer.down.flatten(1)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.slow
def test_at_full_rank_the_lora_predicts_as_the_whole_model(family: Family, tmp_path: Path) -> None:
    unet = tiny_unet(family)
    inputs = unet_inputs(unet)
    base, after = predict(unet, inputs), trained(unet)
    found = extract(unet, after, ALL, rank=1024)
    other = tiny_unet(family)
    other.load_state_dict(after)
    expected = predict(other, inputs)
    assert (expected - base).abs().max() > 1e-2
    with applied(unet, found.weights):
        torch.testing.assert_close(predict(unet, inputs), expected, rtol=0, atol=1e-5)
    assert found.kept == pytest.approx(1, abs=1e-6)
    assert found.targeted == 1
    assert found.weights.keys() == {path for path in _paths(unet) if TARGETS[ALL].fullmatch(path)}
    path = tmp_path / "lora.safetensors"
    names = unet_format(families.FAMILIES[family], unet)
    save_lora(path, found.weights, format=names, metadata={}, dtype=torch.float32)  # ranks differ from layer to layer
    with applied(unet, load_lora(path, unet).weights):
        torch.testing.assert_close(predict(unet, inputs), expected, rtol=0, atol=1e-5)


def _paths(unet: Any) -> set[str]:
    return {name.removesuffix(".weight") for name in unet.state_dict() if name.endswith(".weight")}


@pytest.mark.parametrize("shape", [(48, 20), (20, 48), (24, 16, 1, 1), (24, 8, 3, 3)])
@pytest.mark.parametrize("rank", [1, 5, 16])
def test_below_that_it_is_the_best_there_is(shape: tuple[int, ...], rank: int) -> None:
    """Eckart and Young: the error of the nearest matrix of a rank is the sum of the squared singular values left."""
    difference = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    matrix = difference.flatten(1).double().numpy()
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    layer, missed = factored(difference, rank)
    best = (left[:, :rank] * values[:rank]) @ right[:rank]
    np.testing.assert_allclose(update(layer).numpy(), best, atol=1e-4)  # of values up to 13
    assert missed == pytest.approx(float((values[rank:] ** 2).sum()), rel=1e-4, abs=1e-9)
    assert layer.rank == layer.alpha == rank
    kernel = shape[2:]
    assert layer.down.shape == (rank, shape[1], *kernel)
    assert layer.up.shape == (shape[0], rank, *[1] * len(kernel))
    assert float(layer.down.norm()) == pytest.approx(float(layer.up.norm()), rel=1e-4), "the values are shared"


def test_a_convolutions_update_is_the_product_of_two_convolutions() -> None:
    """As loaders apply it: first the small kernel, then a 1 x 1."""
    difference = torch.randn(12, 6, 3, 3, generator=torch.Generator().manual_seed(2))
    pictures = torch.randn(1, 6, 5, 5, generator=torch.Generator().manual_seed(3))
    layer, _ = factored(difference, 12)
    convolve = torch.nn.functional.conv2d
    twice = convolve(convolve(pictures, layer.down, padding=1), layer.up)
    torch.testing.assert_close(twice, convolve(pictures, difference, padding=1), rtol=0, atol=1e-4)


def test_a_large_layer_is_nearly_as_good_and_the_same_every_time() -> None:
    """A flat spectrum, the hardest for a randomised decomposition, with a slope on top."""
    generator = torch.Generator().manual_seed(4)
    wide = extract_lora._EXACT + 60
    slope = torch.randn(wide, 20, generator=generator) * torch.logspace(0, -2, 20)
    matrix = slope @ torch.randn(20, wide, generator=generator) + 0.5 * torch.randn(wide, wide, generator=generator)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    layer, missed = factored(matrix, 16)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    again, _ = factored(matrix, 16)
    assert torch.equal(layer.up, again.up) and torch.equal(layer.down, again.down)
    values = np.linalg.svd(matrix.double().numpy(), compute_uv=False)
    assert missed == pytest.approx(float((values[16:] ** 2).sum()), rel=1e-4)


def test_the_share_kept_and_the_share_targeted() -> None:
    """Two layers: one of singular values 3 and 1 (squares 9 and 1), one that is not targeted, of squared norm 30."""
    names = (f"{QUERY}.weight", f"{QUERY}.bias", "conv_in.weight")
    before = {name: torch.zeros(shape) for name, shape in zip(names, [(4, 2), (4,), (5, 6, 1, 1)], strict=True)}
    change = torch.zeros(4, 2)
    change[0, 0], change[3, 1] = 3, 1
    after = {**before, names[0]: change, names[2]: torch.ones(5, 6, 1, 1)}
    found = extract(before, after, "attention", rank=1)
    assert found.kept == pytest.approx(0.9)
    assert found.targeted == pytest.approx(10 / 40)
    expected = torch.zeros(4, 2)
    expected[0, 0] = 3
    torch.testing.assert_close(update(found.weights[QUERY]), expected)
    whole = extract(before, after, "attention", rank=8)
    assert whole.weights[QUERY].rank == 2, "a layer has no more"
    assert whole.kept == pytest.approx(1)


def test_a_half_precision_base_is_compared_in_float32() -> None:
    unet = tiny_unet("sd15")
    before = {name: value.to(torch.bfloat16) for name, value in unet.state_dict().items()}
    after = {name: value.float() for name, value in before.items()}
    after[f"{QUERY}.weight"] += 2**-12  # much less than a step of bfloat16
    layer = extract(before, after, "attention", rank=1).weights[QUERY]
    torch.testing.assert_close(update(layer), torch.full((64, 64), 2**-12), rtol=1e-3, atol=0)
    assert layer.up.dtype == layer.down.dtype == torch.float32


def test_layers_that_did_not_change_have_no_adapter() -> None:
    unet = tiny_unet("sd15")
    after = dict(unet.state_dict())
    after[f"{QUERY}.weight"] = after[f"{QUERY}.weight"] + 0.1
    assert list(extract(unet, after, ALL, rank=4).weights) == [QUERY]


def test_what_holds_nothing_is_refused() -> None:
    unet = tiny_unet("sd15")
    state = unet.state_dict()
    with pytest.raises(LoraFileError, match=r"the same weights in all 32 layers that `lora.targets` 'attention' names"):
        extract(unet, state, "attention", rank=4)
    norms = {name: value + 1 if "norm" in name else value for name, value in state.items()}
    with pytest.raises(LoraFileError, match="nothing to extract"):
        extract(unet, norms, "attention", rank=4)
    with pytest.raises(LoraFileError, match=r"only one of the models has 'conv_in\.bias' \(1 such tensors in all\)"):
        extract(unet, {name: value for name, value in state.items() if name != "conv_in.bias"}, "attention", rank=4)
    with pytest.raises(LoraFileError, match=r"conv_in\.bias is \(32,\) in one model and \(4,\) in the other"):
        extract(unet, {**state, "conv_in.bias": torch.zeros(4)}, "attention", rank=4)
    with pytest.raises(LoraFileError, match="none of the layers"):
        extract({"a.weight": torch.zeros(2, 2)}, {"a.weight": torch.ones(2, 2)}, "attention", rank=4)
