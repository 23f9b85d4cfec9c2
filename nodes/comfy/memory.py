"""Whose turn it is on the device, by ComfyUI's own memory management."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.model_management as mm
import torch


def load(patchers: Sequence[Any], room: int = 0) -> None:
    """Load models, in parts where the device is too small, and leave room for so many bytes beside them."""
    with torch.inference_mode():  # as core does it, so that its models keep their kind of tensors
        mm.load_models_gpu(list(patchers), memory_required=room)


def unload_others(keep: Any) -> None:
    """Take every model but one off the device."""
    kept = [loaded for loaded in mm.current_loaded_models if loaded.model is keep]
    with torch.inference_mode():
        mm.free_memory(1e30, mm.get_torch_device(), keep_loaded=kept)
    mm.soft_empty_cache()


def clear() -> None:
    """Unload ComfyUI's models: training needs the device to itself."""
    with torch.inference_mode():
        mm.unload_all_models()
    mm.soft_empty_cache()
