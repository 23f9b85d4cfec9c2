"""ComfyUI's own view of what the trainer made and read: predictions, patches, imports."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import cached
from comfy_server import Core
from graphs import put_pairs
from safetensors import safe_open

from dspo_train.config import LoraSpec
from dspo_train.lora.attach import attached
from dspo_train.lora.formats import unet_format
from dspo_train.lora.writing import save_lora
from dspo_train.models.base import load_base

pytestmark = pytest.mark.comfy
INSIDE = Path(__file__).with_name("inside.py")


def inside(core: Core, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [core.python, str(INSIDE), *arguments],
        cwd=core.path,
        env=core.env(),
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_the_same_noise_is_predicted_and_every_targeted_weight_patched(core: Core, tmp_path: Path, family) -> None:
    """A random LoRA on every target: the largest difference between both UNets' predictions in float32."""
    checkpoint = cached(family)
    base = load_base(checkpoint, tokenizer=core.path / "comfy" / "sd1_tokenizer")
    generator = torch.Generator().manual_seed(1)
    with attached(base.unet, LoraSpec(rank=4, alpha=4, targets="attention+mlp+proj"), seed=0) as adapter:
        for parameter in adapter.parameters.values():
            with torch.no_grad():
                parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
        weights = adapter.weights()
        lora = tmp_path / "random.safetensors"
        save_lora(lora, weights, format=unet_format(base.family, base.unet), metadata={}, dtype=torch.float32)
    del base
    seen = inside(core, "noise", str(checkpoint), str(lora))
    assert seen["patched"] == seen["in_file"] == len(weights)
    assert seen["bare"] < 1e-3
    assert seen["with_lora"] < 1e-3
    assert seen["effect"] > 100 * max(seen["with_lora"], 1e-6), "the LoRA does something, or the test shows nothing"
    with safe_open(str(lora), framework="pt") as file:
        assert len(list(file.keys())) == 3 * len(weights)


def test_registering_the_nodes_loads_no_slow_package(core: Core) -> None:
    seen = inside(core, "imports")
    assert len(seen["nodes"]) >= 5
    slow = {"diffusers", "peft", "accelerate", "pyarrow", "scipy", "pandas", "sklearn", "matplotlib"}
    assert not slow & set(seen["new"])


def test_running_out_of_memory_is_one_message_with_what_to_lower(core: Core, tmp_path: Path) -> None:
    put_pairs(tmp_path)
    seen = inside(core, "out_of_memory", str(cached("sd15")), str(tmp_path))
    assert seen["kind"] == "RunError"
    first, *ways = seen["text"].splitlines()
    assert first.startswith("out of memory: this run needs about")
    assert any(way.startswith("- turn gradient_checkpointing on") for way in ways)
    assert any(way.startswith("- lower pairs_at_once to ") for way in ways)
    assert "optim" not in seen["text"], "the words are the node's"
    assert seen["context"], "nothing holds on to the tensors of the failed step"
