"""The embedded model in four times its width: the same function of the same inputs, in sixteen times the weights.

    python -m benchmarks.rounds.wider --out FOLDER

Every channel stands there four times. What reads it gives each copy a random share of its weight (Net2WiderNet, Chen,
Goodfellow and Shlens 2016, section 2.2; shares in place of equal parts keep the copies from learning alike). So the
two differ in their width and in nothing that width does not change. It takes seconds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor

from dspo_train.demo.run import MODEL

TIMES = 4
_INPUT = "time_embedding.linear_1.weight"  # reads sines and cosines, of which a wider network has more


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the embedded model in four times its width.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=3)
    arguments = parser.parse_args()
    pipeline: Any = StableDiffusionPipeline.from_pretrained(MODEL, torch_dtype=torch.float32)
    unet = widened(pipeline.unet, torch.Generator().manual_seed(arguments.seed))
    sys.stdout.write(f"apart from the narrow one by {apart(pipeline.unet, unet):.1e} of its prediction\n")
    pipeline.register_modules(unet=unet)
    pipeline.save_pretrained(arguments.out)


def widened(narrow: UNet2DConditionModel, generator: torch.Generator) -> UNet2DConditionModel:
    widths = [TIMES * width for width in narrow.config["block_out_channels"]]
    wide: Any = UNet2DConditionModel.from_config({**narrow.config, "block_out_channels": widths})
    weights = narrow.state_dict()
    wide.load_state_dict({
        name: _fitted(name, weights[name], like.shape, generator) for name, like in wide.state_dict().items()
    })  # fmt: skip
    return wide.eval()


def _fitted(name: str, weight: Tensor, shape: torch.Size, generator: torch.Generator) -> Tensor:
    if shape[0] != weight.shape[0]:
        weight = weight.repeat_interleave(TIMES, 0)
    if len(shape) > 1 and shape[1] != weight.shape[1]:
        weight = _spaced(weight) if name == _INPUT else _shared(weight, generator)
    # each product of a query and a key is there four times, and attention divides by the root of four times the size
    return weight / TIMES**0.5 if name.endswith("to_q.weight") else weight


def _shared(weight: Tensor, generator: torch.Generator) -> Tensor:
    """Four columns for each, which sum to it. (O, I, ...) -> (O, 4 I, ...)"""
    shares = torch.rand(weight.shape[1], TIMES, generator=generator) + 0.5
    shares /= shares.sum(1, keepdim=True)
    return weight.repeat_interleave(TIMES, 1) * shares.view(1, -1, *[1] * (weight.ndim - 2))


def _spaced(weight: Tensor) -> Tensor:
    """Every fourth frequency is one that the narrow network has. (O, I) -> (O, 4 I)"""
    wide = weight.new_zeros(weight.shape[0], TIMES * weight.shape[1])
    wide[:, ::TIMES] = weight
    return wide


@torch.no_grad()
def apart(narrow: UNet2DConditionModel, wide: UNet2DConditionModel) -> float:
    """Relative difference of their predictions on noise."""
    generator, side = torch.Generator().manual_seed(0), narrow.config["sample_size"]
    noisy = torch.randn(8, narrow.config["in_channels"], side, side, generator=generator)
    words = torch.randn(8, 16, narrow.config["cross_attention_dim"], generator=generator)
    times = torch.randint(1000, (8,), generator=generator)
    first, second = (unet(noisy, times, words).sample for unet in (narrow, wide))
    return ((first - second).norm() / first.norm()).item()


if __name__ == "__main__":
    main()
