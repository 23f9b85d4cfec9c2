"""A training step through ComfyUI's classes beside the same step through diffusers, on random weights.

    cd ComfyUI && python PACK/benchmarks/wired.py --side 64 128 --steps 5 [--checkpointing]

SD 1.5 in its published width, one pair, a LoRA of rank 16 on attention, float32 on a CPU and bfloat16 on a GPU. Time is
the median over the steps, both paths in turn; memory is the peak of what a step allocates beside the weights: on a CPU
counted operation by operation, on a GPU the allocator's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from in_comfy import started

RANK, TEXT = 16, (77, 768)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--side", type=int, nargs="+", default=[64, 128], help="pixels")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--checkpointing", action="store_true")
    given = parser.parse_args()
    pack = started()
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    paths = {"diffusers": _diffusers(pack, device, dtype), "comfyui": None}
    paths["comfyui"] = _comfyui(pack, paths["diffusers"], dtype)
    for side in given.side:
        found = _measured(pack, paths, side // 8, given.steps, given.checkpointing)
        ratios = {key: found["comfyui"][key] / found["diffusers"][key] for key in ("seconds", "bytes")}
        sys.stdout.write(json.dumps({"side": side, "checkpointing": given.checkpointing, **found, "ratios": ratios}))
        sys.stdout.write("\n")


def _diffusers(pack: Any, device: Any, dtype: Any) -> Any:
    """The published UNet with random weights, as the library trains it."""
    import torch
    from diffusers import UNet2DConditionModel

    families = pack.dspo_train__models__families
    config = pack.dspo_train__models__single_file.template(families.FAMILIES["sd15"], "unet")
    torch.manual_seed(0)
    unet: Any = UNet2DConditionModel.from_config(config)
    return unet.to(device, dtype).eval().requires_grad_(False)


def _comfyui(pack: Any, unet: Any, dtype: Any) -> Any:
    """The same weights in ComfyUI's classes."""
    import comfy.sd  # pyright: ignore[reportMissingImports]
    import torch

    names = pack.dspo_train__models__ldm_layout.original_names(unet.state_dict(), unet.config)
    state = {names[key]: value.detach().cpu() for key, value in unet.state_dict().items()}
    with torch.inference_mode():
        patcher = comfy.sd.load_diffusion_model_state_dict(state, model_options={"dtype": dtype})
    wired = pack.nodes__comfy__model.Wired(patcher, None, None)
    return pack.nodes__comfy__model.ComfyModel(wired, patcher.clone(), wired.family, wired.process)


def _measured(pack: Any, paths: Any, side: int, steps: int, checkpointing: bool) -> dict[str, dict[str, float]]:
    import torch

    draw = torch.Generator().manual_seed(0)
    noisy, target = torch.randn(2, 2, 4, side, side, generator=draw)
    text, t = torch.randn(2, *TEXT, generator=draw), torch.tensor([300, 300])
    seconds: dict[str, list[float]] = {name: [] for name in paths}
    size: dict[str, float] = {}
    weights = [*paths["diffusers"].parameters(), *paths["comfyui"].network.parameters()]
    with _step_of(pack, paths["diffusers"], paths["comfyui"], text, checkpointing) as step_of:
        for name in paths:
            size[name] = _peak(pack, lambda name=name: step_of[name](noisy, t, target), weights)
        for _ in range(steps):
            for name in paths:
                started = time.perf_counter()
                step_of[name](noisy, t, target)
                seconds[name].append(time.perf_counter() - started)
    return {name: {"seconds": statistics.median(seconds[name]), "bytes": size[name]} for name in paths}


@contextmanager
def _step_of(
    pack: Any, unet: Any, model: Any, text: Any, checkpointing: bool
) -> Iterator[dict[str, Callable[..., Any]]]:
    """By path: a policy's prediction with its backward pass, and the reference's."""
    import torch

    attach, conditioning = pack.dspo_train__lora__attach, pack.dspo_train__models__conditioning
    families, encoder = pack.dspo_train__models__families, pack.nodes__comfy__encoder
    spec = pack.dspo_train__config.LoraSpec(rank=RANK, alpha=float(RANK))
    plain = conditioning.Conditioning({"context": text})
    shapes = torch.tensor([[1, *TEXT]] * 2)
    rows = {"cross_attn": text[:, None], "cross_attn" + encoder.SHAPE: shapes, encoder.FRAME: torch.zeros(2, 6).long()}
    modes = pack.dspo_train__runs__diffusers_model.training_modes
    device = model.device

    def step(predict: Callable[..., Any], adapter: Any) -> Callable[..., None]:
        def run(noisy: Any, t: Any, target: Any) -> None:
            noisy, t, target = noisy.to(device), t.to(device), target.to(device)
            policy = predict(noisy, t).float()
            with torch.no_grad(), adapter.reference():
                reference = predict(noisy, t).float()
            ((policy - target).square().mean() + (policy - reference).square().mean()).backward()
            for parameter in adapter.parameters.values():
                parameter.grad = None
            if device.type == "cuda":
                torch.cuda.synchronize()

        return run

    with (
        torch.inference_mode(False),
        modes(unet),
        attach.attached(unet, spec, seed=0) as first,
        model.training(checkpointing=checkpointing),
        attach.attached(model.network, spec, seed=0, targets=model.targets, device=device) as second,
    ):
        if checkpointing:
            unet.enable_gradient_checkpointing()
        predict = pack.dspo_train__models__unet.predict
        yield {
            "diffusers": step(lambda x, t: predict(families.FAMILIES["sd15"], unet, x, t, plain), first),
            "comfyui": step(lambda x, t: model.predict(x, t, conditioning.Conditioning(rows)), second),
        }
        unet.disable_gradient_checkpointing()


def _peak(pack: Any, run: Callable[[], None], weights: list[Any]) -> float:
    import torch

    if torch.cuda.is_available():
        run()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return float(torch.cuda.max_memory_allocated() - before)
    live = pack.dspo_train__runs__counting.LiveBytes({weight.untyped_storage()._cdata for weight in weights})
    with live:
        run()
    return float(live.peak)


if __name__ == "__main__":
    main()
