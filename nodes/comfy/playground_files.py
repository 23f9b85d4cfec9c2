"""The files of the embedded model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import comfy.utils
import torch
from torch import Tensor

from ...dspo_train import demo

MODEL = Path(demo.__file__).parent / "model"
PRECISION = torch.float32  # the model is so small that half precision would save nothing


def read(folder: Path) -> dict[str, Any]:
    (file,) = folder.glob("*config.json")
    return json.loads(file.read_text(encoding="utf-8"))


def weights(folder: Path) -> dict[str, Tensor]:
    (file,) = folder.glob("*.safetensors")
    return {key: value.to(PRECISION) for key, value in comfy.utils.load_torch_file(str(file)).items()}
