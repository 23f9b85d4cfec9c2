"""Where and in which precision to work: asked for, never assumed."""

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
    """The precision to use on a device: `auto` is bf16 where CUDA has it, else fp16 on CUDA, else fp32.

    Raises:
        ConfigError: fp16 on a processor that cannot train in it.
    """
    if asked == "auto":
        if device.type != "cuda":
            return "fp32"
        return "bf16" if _computes_bf16() else "fp16"
    if asked == "fp16" and device.type == "cpu":
        raise ConfigError("`precision` fp16 does not train on a CPU; use fp32 or bf16")
    return asked


def _computes_bf16() -> bool:
    """In hardware: torch counts cards that only emulate it, slowly, unless told not to."""
    try:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    except TypeError:  # before torch 2.5
        return torch.version.hip is not None or torch.cuda.get_device_capability()[0] >= 8


@contextlib.contextmanager
def accelerator(device: Device, precision: Precision) -> Iterator[tuple[Accelerator, str]]:
    """An Accelerator and the precision it works in.

    accelerate keeps its settings in process-wide singletons; a second run in the same process (another training in
    the same ComfyUI) must be able to ask for other ones, so they are cleared on both sides of the run.
    """
    _forget()
    # The slowest process may encode pictures for hours before the others hear of it.
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
    """Several processes without one have to be told so, or accelerate does not join them."""
    xpu = getattr(torch, "xpu", None)
    return torch.cuda.is_available() or torch.backends.mps.is_available() or (xpu is not None and xpu.is_available())


def _forget() -> None:
    """Several processes keep their group: it is made once by the launcher's environment."""
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
