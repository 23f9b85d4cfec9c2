"""A MODEL's raw prediction, through ComfyUI's own `apply_model`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ...dspo_train.models.conditioning import Conditioning
from .encoder import FRAME, SHAPE
from .families import ComfyFamily
from .gradients import torch_attention

Conds = Mapping[str, Any]  # ComfyUI's conditioning objects by the network's argument


def raw_prediction(patcher: Any, latents: Tensor, sigma: Tensor, rows: list[Conds], *, patched: bool = True) -> Tensor:
    """What the network says before it becomes an image: noise, v or velocity. (N, C, h, w), (N,), N -> (N, C, h, w)

    Args:
        latents: x_t as ComfyUI's samplers hold it.
        patched: with the patches of attention and blocks that the MODEL carries.
        rows: see `conds_of`; rows whose tensors differ in shape go through the network one after the other.
    """
    parts: dict[int, Tensor] = {}
    for members in _alike(rows):
        first, *others = (rows[i] for i in members)
        given = {name: cond.concat([row[name] for row in others]) for name, cond in first.items()}
        with _caught(patcher.model.diffusion_model) as outputs:
            options = {**_options(patcher, patched), "sigmas": sigma[members], "cond_or_uncond": [0]}
            patcher.model.apply_model(latents[members], sigma[members], transformer_options=options, **given)
        parts |= zip(members, outputs[-1].unbind(0), strict=True)
    return torch.stack([parts[i] for i in range(len(rows))])


def conds_of(model: Any, family: ComfyFamily, conditioning: Conditioning, noisy: Tensor) -> list[Conds]:
    """What the network is conditioned on, one mapping per row, as ComfyUI's samplers ask a model for it."""
    with torch.no_grad():
        return [_row(model, family, conditioning[i : i + 1], noisy[i : i + 1]) for i in range(len(conditioning))]


def _row(model: Any, family: ComfyFamily, one: Conditioning, noisy: Tensor) -> Conds:
    given: dict[str, Any] = {}
    for name, tensor in one.tensors.items():
        if name != FRAME and not name.endswith(SHAPE):
            shape = one.tensors[name + SHAPE][0].tolist()
            given[name] = tensor[0][tuple(slice(length) for length in shape)].clone()
    given |= _sizes(family, one.tensors[FRAME][0].tolist())
    given |= {"noise": noisy, "device": noisy.device, "prompt_type": "positive", "guidance": family.guidance}
    found = model.extra_conds(**given)
    return {name: cond.process_cond(batch_size=1, device=noisy.device, area=None) for name, cond in found.items()}


def _sizes(family: ComfyFamily, frame: list[int]) -> dict[str, int]:
    height, width, top, left, crop_height, crop_width = frame
    target = {"target_width": crop_width, "target_height": crop_height}
    if family.micro:
        return {"width": width, "height": height, "crop_w": left, "crop_h": top, **target}
    return {"width": crop_width, "height": crop_height, "crop_w": 0, "crop_h": 0, **target}


def _alike(rows: list[Conds]) -> Iterator[list[int]]:
    """The rows in groups that one pass can take: of the same shapes, and the same values where they are no tensors."""
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        groups[tuple((name, _kind(row[name])) for name in sorted(row))].append(number)
    yield from groups.values()


def _kind(cond: Any) -> str:
    value = cond.cond
    if isinstance(value, Tensor):
        return str(tuple(value.shape))
    if isinstance(value, list):
        return str([tuple(part.shape) if isinstance(part, Tensor) else part for part in value])
    return repr(value)


def _options(patcher: Any, patched: bool) -> dict[str, Any]:
    given = patcher.model_options.get("transformer_options", {}) if patched else {}
    return {**given, "optimized_attention_override": torch_attention}


@contextmanager
def _caught(network: torch.nn.Module) -> Iterator[list[Tensor]]:
    """Inside, every output of the network, in float32."""
    outputs: list[Tensor] = []
    hook = network.register_forward_hook(lambda module, given, result: outputs.append(result.float()))
    try:
        yield outputs
    finally:
        hook.remove()
