"""The device and the precision to work in: queried, never assumed."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.state import AcceleratorState, PartialState

from ..config import Device, Precision
from ..exceptions import ConfigError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_precision(asked: Precision, device: torch.device) -> str:
    """The precision to use on a device: `auto` is bf16 on CUDA devices that support it, fp16 on others, else fp32.

    Raises:
        ConfigError: fp16 was asked for on a CPU, which cannot train in it.
    """
    if asked == "auto":
        if device.type != "cuda":
            return "fp32"
        return "bf16" if _computes_bf16() else "fp16"
    if asked == "fp16" and device.type == "cpu":
        raise ConfigError("`precision` fp16 does not train on a CPU; use fp32 or bf16")
    return asked


def _computes_bf16() -> bool:
    """In hardware; by default torch also counts cards that only emulate it, slowly."""
    try:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    except TypeError:  # before torch 2.5
        return torch.version.hip is not None or torch.cuda.get_device_capability()[0] >= 8


@contextlib.contextmanager
def accelerator(device: Device, precision: Precision) -> Iterator[tuple[Accelerator, str]]:
    """An Accelerator and the precision it works in.

    accelerate keeps its settings in process-wide singletons; a second run in the same process (as in ComfyUI) must be
    able to use other settings, so the singletons are cleared before and after the run.
    """
    _forget()
    # The others may have to wait for hours while the slowest process encodes images.
    patience = InitProcessGroupKwargs(timeout=datetime.timedelta(hours=12))
    cpu = device == "cpu" or not has_accelerator()
    place = PartialState(cpu=cpu, timeout=patience.timeout).device
    assert isinstance(place, torch.device)
    name = resolve_precision(precision, place)
    mixed = "no" if name == "fp32" else name
    try:
        yield Accelerator(cpu=cpu, mixed_precision=mixed, kwargs_handlers=[patience]), name
    finally:
        _forget()


def has_accelerator() -> bool:
    """Is there a device that accelerate can use? If not, it needs `cpu=True` to join several processes."""
    xpu = getattr(torch, "xpu", None)
    return torch.cuda.is_available() or torch.backends.mps.is_available() or (xpu is not None and xpu.is_available())


def _forget() -> None:
    """Clear accelerate's state, but not the process group, which the launcher's environment sets up once."""
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
