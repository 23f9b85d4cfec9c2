"""Bytes that a training step keeps, by hand for layers of a few numbers, and as a real step keeps them."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from tiny_models import Family, tiny_unet
from torch import Tensor, nn

from dspo_train.config import LoraSpec
from dspo_train.lora.attach import attached
from dspo_train.lora.layers import layer_shapes, target_layers
from dspo_train.models.conditioning import Conditioning
from dspo_train.models.families import family_of
from dspo_train.models.unet import predict
from dspo_train.runs.counting import LiveBytes, StepCount, count_step, most_alive

ROWS, WIDTH, RANK = 5, 8, 2


class Attention(nn.Module):
    """One head, without biases, and four activations behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH, bias=False, device="meta") for _ in range(3))
        self.checkpointing = False

    def enable_gradient_checkpointing(self) -> None:
        self.checkpointing = True

    def disable_gradient_checkpointing(self) -> None:
        self.checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        if self.checkpointing:
            return torch.utils.checkpoint.checkpoint(self.block, x, use_reentrant=False)  # type: ignore[return-value]
        return self.block(x)

    def block(self, x: Tensor) -> Tensor:
        return self.attend(x).tanh().tanh().tanh().tanh()

    def attend(self, x: Tensor) -> Tensor:
        heads = (part(x).unsqueeze(1) for part in (self.query, self.key, self.value))
        return F.scaled_dot_product_attention(*heads).squeeze(1)


def count(model: nn.Module, *, dtype: torch.dtype = torch.float32, checkpointing: bool = False, **changes) -> StepCount:
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    options = {"trained": layers, "rank": RANK, **changes}
    model.requires_grad_(False)
    return count_step(
        model,
        lambda: model(torch.empty(1, ROWS, WIDTH, device="meta", dtype=dtype)),
        dtype=dtype,
        checkpointing=checkpointing,
        **options,
    )


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 4), (torch.bfloat16, 2)])
def test_a_linear_layer_keeps_the_inputs_of_both_factors(dtype, size):
    """5 rows of 8 numbers go into down, 5 rows of 2 into up; the frozen weight needs no input."""
    layer = nn.Linear(WIDTH, 3, bias=False, device="meta")
    assert count(layer, dtype=dtype).kept == (5 * 8 + 5 * 2) * size


def test_a_layer_that_is_trained_itself_keeps_its_input():
    layer = nn.Linear(WIDTH, 3, device="meta")
    assert count(layer, trained=None).kept == 5 * 8 * 4
    assert not any(weight.requires_grad for weight in layer.parameters()), "left as found"


def test_attention_keeps_its_operands_and_no_matrix():
    """In float32: the input once for three adapters, 5 x 2 in each; query, key, value and result; 5 sums. And what the
    four activations give.
    """
    assert count(Attention()).kept == (5 * 8 + 3 * 5 * 2 + 4 * 5 * 8 + 5 + 4 * 5 * 8) * 4


def test_in_half_precision_all_but_the_sums_of_attention_takes_half():
    """As in float32: the input once for three adapters, 5 x 2 in each; the 5 sums stay in float32."""
    assert count(Attention(), dtype=torch.bfloat16).kept == (5 * 8 + 3 * 5 * 2 + (4 + 4) * 5 * 8) * 2 + 5 * 4


def test_norms_keep_their_input_as_it_is_and_under_autocast_in_float32():
    """With a LoRA: the bf16 input of the adapter, of up, and of the norm, which adds a mean and a deviation of each row
    in float32. Trained itself, under autocast: float32 copies of the norm's input, of its 8 weights and 8 biases.
    """
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH, bias=False), nn.LayerNorm(WIDTH)).to("meta")
    rows = 2 * 5 * 4
    assert count(model, dtype=torch.bfloat16).kept == (5 * 8 + 5 * 2 + 5 * 8) * 2 + rows
    whole = count(model, dtype=torch.bfloat16, trained=None)
    assert whole.kept == 5 * 8 * 2 + 5 * 8 * 4 + rows + 2 * 8 * 4


def test_a_checkpointed_block_keeps_its_input_and_needs_the_rest_when_it_is_computed_again():
    model = Attention()
    whole, block = count(model), count(model, checkpointing=True)
    assert block.kept == 5 * 8 * 4
    # The input is kept already; while the block is computed, it is in flight as well.
    assert block.flowing == whole.kept - block.kept + 5 * 8 * 4
    assert not model.checkpointing, "left as found"


def test_live_bytes_by_hand():
    """1024 floats are 4 KiB. Two of them at once, a view for nothing; one goes, and a third comes."""
    with LiveBytes() as live:
        first = torch.ones(1024)
        second = first + 1
        view = second.view(32, 32)
        assert live.live == live.peak == 8192
        del first
        assert (live.live, live.peak) == (4096, 8192)
        third = view * 2
        assert (live.live, live.peak) == (8192, 8192)
        del second, view, third
    assert (live.live, live.peak) == (0, 8192)


def test_a_pass_without_gradients_holds_input_and_output_of_one_layer():
    """1 x 5 x 8 in and through three layers: two tensors of 160 bytes at any time."""
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3))).to("meta")
    alive = most_alive(model, lambda: model(torch.empty(1, ROWS, WIDTH, device="meta")), torch.float32)
    assert alive in (2 * 160, 3 * 160)  # the input is held by the caller


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", ["sd15", "sdxl"])
@pytest.mark.slow
def test_a_real_step_keeps_what_was_counted(family: Family, checkpointing: bool, dtype: torch.dtype):
    """Autograd's own saved tensors on real ones, each storage once.

    In bfloat16 a real step also keeps the casts of the adapters' factors, which the count has among the weights.
    """
    spec, unet = LoraSpec(rank=RANK, targets="attention+mlp+proj"), tiny_unet(family)
    nn.Module.to(unet, dtype)
    real = _really_kept(unet, spec, checkpointing)
    unet.disable_gradient_checkpointing()
    shapes: Any = nn.Module.to(unet, "meta")
    counted = count_step(
        shapes,
        _one_image(shapes, "meta"),
        trained=target_layers(shapes, spec).values(),
        rank=RANK,
        dtype=dtype,
        checkpointing=checkpointing,
    )
    layers = target_layers(shapes, spec).values()
    casts = sum(2 * math.prod(shape) for layer in layers for shape in layer_shapes(layer, RANK))
    casts *= dtype != torch.float32 and not checkpointing
    assert counted.kept == pytest.approx(real - casts, rel=0.001 if dtype == torch.float32 else 0.02)


def _really_kept(unet, spec: LoraSpec, checkpointing: bool) -> int:
    kept: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = weakref.ref(storage)  # parts of the graph are dropped again
        return tensor

    if checkpointing:
        unet.enable_gradient_checkpointing()
    saving = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with attached(unet, spec, seed=0) as adapter, saving:
        held_anyway = [*unet.parameters(), *adapter.parameters.values()]
        weights = {weight.untyped_storage()._cdata for weight in held_anyway}
        result = _one_image(unet, "cpu")()
        storages = [storage for key, held in kept.items() if key not in weights and (storage := held()) is not None]
    assert result.requires_grad
    return sum(storage.nbytes() for storage in storages)


def _one_image(unet, device: str) -> Callable[[], Tensor]:
    family = family_of(unet.config)
    named = {name: torch.zeros(1, *shape, device=device) for name, shape in family.shapes(unet.config).items()}
    noisy, timesteps = torch.zeros(1, 4, 16, 16, device=device), torch.zeros(1, dtype=torch.int64, device=device)
    return lambda: predict(family, unet, noisy, timesteps, Conditioning(named))
