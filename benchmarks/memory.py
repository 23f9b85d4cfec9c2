"""What a training step holds in memory, counted without a GPU: `python benchmarks/memory.py`.

Runs `pair_errors` and its backward pass through the published full-size UNets on fake tensors (shapes and lifetimes, no
values), as the trainer does on CUDA, and counts the storages that are alive after each operation. Prints the literal
tables of `dspo_train/memory.py`; `--check` compares them at shapes that they were not fitted to.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args
from unittest import mock

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from dspo_train import objectives
from dspo_train.config import LoraSpec, Targets
from dspo_train.data.batch import PairBatch
from dspo_train.lora.attach import attached
from dspo_train.lora.layers import layer_shapes, target_layers
from dspo_train.models.conditioning import Conditioning
from dspo_train.models.families import TEXT_PARTS, Family
from dspo_train.models.process import from_scheduler_config
from dspo_train.models.single_file import CONFIGS
from dspo_train.runs import memory
from dspo_train.training.denoiser import DiffusersDenoiser
from dspo_train.training.devices import DTYPES
from dspo_train.training.forward import pair_errors

FAMILIES: tuple[Family, ...] = get_args(Family)
TOKENS = 77


class LiveBytes(TorchDispatchMode):
    """Counts every storage that an operation makes from its making to its end."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.operations: set[str] = set()
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operations.add(func.__name__)
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return

        def forget(_: object) -> None:
            self.live -= size
            del self._known[key]

        self._known[key] = weakref.ref(storage, forget)
        self.live += size
        self.peak = max(self.peak, self.live)


@contextlib.contextmanager
def cuda_autocast() -> Iterator[None]:
    """Inside, the CPU's autocast behaves as CUDA's: norms in float32, resizing in the precision it is given.

    Replaces functions, as a `TorchFunctionMode` is off while a checkpoint recomputes.
    """

    def patched(function: Any, convert: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not torch.is_autocast_enabled("cpu"):
                return function(*args, **kwargs)
            with torch.autocast("cpu", enabled=False):
                return function(*map(convert, args), **{name: convert(value) for name, value in kwargs.items()})

        return call

    with contextlib.ExitStack() as stack:
        for name, convert in (("group_norm", _float), ("layer_norm", _float), ("interpolate", lambda value: value)):
            stack.enter_context(mock.patch.object(F, name, patched(getattr(F, name), convert)))
        yield


def _float(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


@dataclass(frozen=True)
class Step:
    """Bytes of one step beyond the weights, the adapter and its gradients.

    Attributes:
        saved: what the graph keeps for the backward pass, by autograd's own hooks, each storage once.
        kept: the same by the storages still alive after the forward passes.
        peak: the most alive at any moment, up to the end of the backward pass.
    """

    saved: int
    kept: int
    peak: int


def full_size_unet(family: Family, dtype: torch.dtype) -> UNet2DConditionModel:
    """The published architecture without weights."""
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(read_config(family, "unet"))
    assert isinstance(unet, UNet2DConditionModel)
    nn.Module.to(unet, dtype)
    return unet.eval().requires_grad_(False)


def read_config(family: Family, part: str) -> dict[str, Any]:
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    return json.loads((CONFIGS / family / part / name).read_text(encoding="utf-8"))


def measure(
    family: Family,
    *,
    side: int,
    pairs: int = 1,
    precision: str = "bf16",
    rank: int = 16,
    targets: Targets = "attention",
    checkpointing: bool = False,
    objective: str = "dspo",
) -> Step:
    """One step on square pictures of `side` pixels."""
    unet, dtype = full_size_unet(family, DTYPES[precision]), DTYPES[precision]
    noise = from_scheduler_config(read_config(family, "scheduler"))
    if checkpointing:
        unet.enable_gradient_checkpointing()
    with (
        attached(unet, LoraSpec(rank=rank, targets=targets), seed=0) as adapter,
        FakeTensorMode(allow_non_fake_inputs=True),
        LiveBytes() as live,
    ):
        fill(unet)
        for parameter in unet.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.empty_like(parameter)  # counted with the adapter, as the moments are
        batch = fake_batch(unet, side // 8, pairs)
        denoiser = DiffusersDenoiser(unet, noise, adapter)
        base, live.peak = live.live, live.live
        autocast = contextlib.nullcontext() if precision == "fp32" else torch.autocast("cpu", dtype)
        with cuda_autocast():
            with autocast, counted_saves(unet) as saved:
                errors = pair_errors(denoiser, batch, loser_gradient=objectives.find(objective).has_loser)
            losses = objectives.bind(objective, {})(errors)
            kept, graph = live.live - base, sum(saved.values())
            losses.sum().backward()
        peak = live.peak - base
        del errors, losses, batch
        assert not any("softmax" in name for name in live.operations), "attention kept its whole matrix"
    gc.collect()
    return Step(graph, kept, peak)


def fill(model: nn.Module) -> None:
    """Replace each parameter and buffer without storage by a fake one; to be called inside the fake mode."""
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            fake = torch.empty(parameter.shape, dtype=parameter.dtype)
            setattr(module, name, nn.Parameter(fake, requires_grad=parameter.requires_grad))
        for name, buffer in list(module.named_buffers(recurse=False)):
            module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


def fake_batch(unet: UNet2DConditionModel, side: int, pairs: int) -> PairBatch:
    """A batch as `PairSource` gives it; `side` in latents."""
    config = unet.config
    picture, context = torch.empty(pairs, 4, side, side), torch.empty(pairs, TOKENS, config["cross_attention_dim"])
    pooled = times = None
    if config["addition_embed_type"] == "text_time":
        width = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
        pooled, times = torch.empty(pairs, width), torch.empty(pairs, 6)
    timesteps = torch.empty(pairs, dtype=torch.int64)
    return PairBatch(picture, picture.clone(), picture.clone(), timesteps, Conditioning(context, pooled, times))


@contextlib.contextmanager
def counted_saves(model: nn.Module) -> Iterator[dict[int, int]]:
    """Inside, the bytes of each storage that autograd saves, parameters left out, by storage."""
    parameters = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    saved: dict[int, int] = {}
    watched: list[weakref.ref[Any]] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in parameters and key not in saved:
            saved[key] = storage.nbytes()
            # Part of the graph is dropped while it is built, and an address may be used again.
            watched.append(weakref.ref(storage, lambda _: saved.pop(key, None)))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield saved


def measure_vae(family: Family, *, side: int, precision: str, decode: bool = False) -> int:
    """The most that is alive while the VAE encodes (or decodes) one picture, beyond its weights. Bytes"""
    dtype = DTYPES[precision]
    with torch.device("meta"):
        vae = AutoencoderKL.from_config(read_config(family, "vae"))
    assert isinstance(vae, AutoencoderKL)
    nn.Module.to(vae, dtype).eval().requires_grad_(False)
    with FakeTensorMode(), LiveBytes() as live, torch.no_grad():
        fill(vae)
        pixels, latents = torch.empty(1, 3, side, side), torch.empty(1, 4, side // 8, side // 8)
        base, live.peak = live.live, live.live
        if decode:
            assert vae.decode(latents.to(dtype), return_dict=False)[0].shape[-1] == side  # type: ignore[arg-type]
        else:
            assert vae.encode(pixels.to(dtype), return_dict=False)[0].parameters.shape[-1] == side // 8
        assert not any("softmax" in name for name in live.operations), "attention kept its whole matrix"
        return live.peak - base


def parameters(family: Family) -> memory.Sizes:
    """How many parameters each part has."""
    with torch.device("meta"):
        vae = AutoencoderKL.from_config(read_config(family, "vae"))
        kinds = (CLIPTextModel, CLIPTextModelWithProjection)
        configs = (CLIPTextConfig(**read_config(family, part.config)) for part in TEXT_PARTS[family])
        encoders = [kind(config) for kind, config in zip(kinds, configs, strict=False)]
    assert isinstance(vae, nn.Module)
    unet = full_size_unet(family, torch.float32)
    counts = [sum(p.numel() for p in model.parameters()) for model in (unet, vae, *encoders)]
    widths: dict[Targets, int] = {targets: width(unet, targets) for targets in get_args(Targets)}
    return memory.Sizes(counts[0], counts[1], sum(counts[2:]), widths)


def width(unet: nn.Module, targets: Targets) -> int:
    """Adapter parameters a rank: inputs plus outputs of every targeted layer."""
    layers = target_layers(unet, LoraSpec(targets=targets)).values()
    return sum(torch.Size(shape).numel() for layer in layers for shape in layer_shapes(layer, 1))


def fitted(family: Family, targets: Targets, precision: str, checkpointing: bool) -> memory.Activations:
    """The straight line through 256 and 512 pixels at rank 16, and how much steeper it is at rank 128."""
    growth = 64**2 - 32**2  # latents
    wide = width(full_size_unet(family, torch.float32), targets)

    def step(side: int, rank: int) -> tuple[float, float]:
        found = measure(family, side=side, precision=precision, rank=rank, targets=targets, checkpointing=checkpointing)
        copies = 0 if checkpointing else memory.copies(rank * wide, precision)
        return (found.saved - copies) / 2, (found.peak - found.saved) / 2  # a pair is two pictures

    (small, less), (large, more) = step(256, 16), step(512, 16)
    slope, picture = (large - small) / growth, small - 32**2 * (large - small) / growth
    steeper = 0.0 if checkpointing else (step(512, 128)[0] - step(256, 128)[0]) / growth - slope
    rank = steeper / (128 - 16)
    return memory.Activations(round(slope - 16 * rank), round(picture), round(rank), round((more - less) / growth))


def write_tables(families: list[Family]) -> None:
    """The literal tables of `dspo_train/memory.py`, from nothing but the measurements."""
    for family in families:
        sys.stdout.write(f'    "{family}": {parameters(family)},\n'.replace("'", '"'))
    for family in families:
        for targets in get_args(Targets):
            for half, checkpointing in ((True, False), (True, True), (False, False), (False, True)):
                row = fitted(family, targets, "bf16" if half else "fp32", checkpointing)
                key = f'("{family}", "{targets}", {half}, {checkpointing})'
                sys.stdout.write(f"    {key}: Activations{tuple(row)},\n")
                sys.stdout.flush()
    for table, decode in (("VAE_PIXEL", False), ("DECODED_PIXEL", True)):
        rows = ", ".join(f"{element}: {vae_pixel(name, decode)}" for name, element in (("bf16", 2), ("fp32", 4)))
        sys.stdout.write(f"{table} = {{{rows}}}\n")


def vae_pixel(precision: str, decode: bool = False) -> int:
    """Bytes a latent pixel, at 1024 pixels; every family has the same VAE."""
    alive = measure_vae("sd15", side=1024, precision=precision, decode=decode)
    return round(alive / (1024 // memory.PATCH) ** 2)


# Shapes that the tables were not fitted to: (side, pairs, rank, precision, checkpointing).
CHECKS = (
    (512, 1, 16, "bf16", False),
    (512, 4, 16, "bf16", True),
    (768, 2, 64, "bf16", False),
    (1024, 1, 16, "bf16", False),
    (1024, 1, 16, "bf16", True),
    (1024, 1, 128, "bf16", True),
)


def write_check(families: list[Family]) -> None:
    """Counted against estimated, GiB: what the graph keeps, and the peak, beyond weights and optimiser."""
    for family in families:
        for side, pairs, rank, precision, checkpointing in CHECKS:
            found = measure(family, side=side, pairs=pairs, rank=rank, precision=precision, checkpointing=checkpointing)
            setup = memory.Setup(
                family,
                resolution=side,
                batch_size=pairs,
                rank=rank,
                precision=precision,
                checkpointing=checkpointing,
                targets="attention",
            )
            need = memory.need_of(setup)
            guess = expected_peak(need)
            sys.stdout.write(
                f"{family} {side} px, {pairs} pairs, rank {rank}, {precision}, "
                f"{'with' if checkpointing else 'without'} checkpointing: saved {found.saved / memory.GIB:.3f}, "
                f"peak {found.peak / memory.GIB:.3f}, estimated {guess / memory.GIB:.3f} "
                f"({guess / found.peak - 1:+.1%})\n"
            )
            sys.stdout.flush()


def expected_peak(need: memory.MemoryNeed) -> int:
    """The part of an estimate that `measure` counts."""
    width = memory.SIZES[need.setup.family].widths[need.setup.targets]
    copies = memory.copies(need.setup.rank * width, need.setup.precision)
    return need.activations + need.workspace - memory.ALLOWANCE + copies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", choices=FAMILIES, action="append", help="one family or more; all when left out")
    parser.add_argument("--check", action="store_true", help="compare the tables with shapes they were not fitted to")
    options = parser.parse_args()
    (write_check if options.check else write_tables)(options.family or list(FAMILIES))


if __name__ == "__main__":
    main()
