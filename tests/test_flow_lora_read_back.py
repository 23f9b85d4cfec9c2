"""LoRA files of the flow families are read back by diffusers: every key, and exactly the same change.

They hold ComfyUI's module paths in kohya's spelling (`lora_unet_double_blocks_1_img_attn_qkv`), with an alpha each.
diffusers names its modules in its own way and splits most fused projections. What it does not know it drops with a
warning, or silently.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from dspo_train.lora.formats import LoraFormat
from dspo_train.lora.layers import LoraLayer
from dspo_train.lora.writing import save_lora
from dspo_train.models.families import LoraLabels

RANK = 4
FORMAT = LoraFormat(
    stem=lambda path: f"lora_unet_{path.replace('.', '_')}",
    labels=LoraLabels("ldm", "", False, {}),
)
HEADS: dict[str, Any] = {"attention_head_dim": 16, "num_attention_heads": 2, "joint_attention_dim": 24}

# Native modules of a block, and the diffusers modules that share its rows, in order.
FLUX_ATTENTION = {
    "img_attn.qkv": "attn.to_q attn.to_k attn.to_v",
    "img_attn.proj": "attn.to_out.0",
    "txt_attn.qkv": "attn.add_q_proj attn.add_k_proj attn.add_v_proj",
    "txt_attn.proj": "attn.to_add_out",
}
FLUX_MLP = {
    "img_mlp.0": "ff.net.0.proj",
    "img_mlp.2": "ff.net.2",
    "txt_mlp.0": "ff_context.net.0.proj",
    "txt_mlp.2": "ff_context.net.2",
}
FLUX2_MLP = {
    "img_mlp.0": "ff.linear_in",
    "img_mlp.2": "ff.linear_out",
    "txt_mlp.0": "ff_context.linear_in",
    "txt_mlp.2": "ff_context.linear_out",
}
FLUX_SINGLE = {"linear1": "attn.to_q attn.to_k attn.to_v proj_mlp", "linear2": "proj_out"}
FLUX2_SINGLE = {"linear1": "attn.to_qkv_mlp_proj", "linear2": "attn.to_out"}
Z_IMAGE = {
    "attention.qkv": "attention.to_q attention.to_k attention.to_v",
    "attention.out": "attention.to_out.0",
    "feed_forward.w1": "feed_forward.w1",
    "feed_forward.w2": "feed_forward.w2",
    "feed_forward.w3": "feed_forward.w3",
}
QWEN_PARTS = "to_q to_k to_v to_out.0 add_q_proj add_k_proj add_v_proj to_add_out"
QWEN = {f"attn.{part}": f"attn.{part}" for part in QWEN_PARTS.split()} | {
    f"{stream}_mlp.net.{layer}": f"{stream}_mlp.net.{layer}" for stream in ("img", "txt") for layer in ("0.proj", "2")
}


@dataclass(frozen=True)
class Family:
    """Its classes in diffusers, the smallest sizes, and its blocks: native prefix, diffusers' prefix, modules."""

    pipeline: Any
    transformer: Any
    sizes: dict[str, Any]
    blocks: tuple[tuple[str, str, dict[str, str]], ...]


FAMILIES = {
    "flux1": Family(  # of the published width: diffusers splits linear1 at its rows, whatever the model
        getattr(diffusers, "FluxPipeline", None),
        getattr(diffusers, "FluxTransformer2DModel", None),
        {"num_layers": 2, "num_single_layers": 2},
        (
            ("double_blocks.1", "transformer_blocks.1", FLUX_ATTENTION | FLUX_MLP),
            ("single_blocks.1", "single_transformer_blocks.1", FLUX_SINGLE),
        ),
    ),
    "flux2": Family(
        getattr(diffusers, "Flux2KleinPipeline", None),
        getattr(diffusers, "Flux2Transformer2DModel", None),
        HEADS
        | {"in_channels": 4, "num_layers": 2, "num_single_layers": 2, "timestep_guidance_channels": 16}
        | {"axes_dims_rope": (4, 4, 4, 4), "guidance_embeds": False},
        (
            ("double_blocks.1", "transformer_blocks.1", FLUX_ATTENTION | FLUX2_MLP),
            ("single_blocks.1", "single_transformer_blocks.1", FLUX2_SINGLE),
        ),
    ),
    "z-image": Family(
        getattr(diffusers, "ZImagePipeline", None),
        getattr(diffusers, "ZImageTransformer2DModel", None),
        {"in_channels": 4, "dim": 32, "n_layers": 2, "n_heads": 2, "n_kv_heads": 2, "cap_feat_dim": 24}
        | {"axes_dims": [4, 4, 8], "axes_lens": [16, 16, 16]},
        (
            ("layers.1", "layers.1", Z_IMAGE),
            ("noise_refiner.1", "noise_refiner.1", Z_IMAGE),
            ("context_refiner.1", "context_refiner.1", Z_IMAGE),
        ),
    ),
    "qwen-image": Family(
        getattr(diffusers, "QwenImagePipeline", None),
        getattr(diffusers, "QwenImageTransformer2DModel", None),
        HEADS | {"in_channels": 16, "out_channels": 4, "num_layers": 2, "axes_dims_rope": (4, 4, 8)},
        (("transformer_blocks.1", "transformer_blocks.1", QWEN),),
    ),
}


@pytest.fixture(autouse=True)
def warnings_of_diffusers_fail() -> Iterator[None]:
    """Its loaders only warn of the keys that they could not use."""

    def fail(record: logging.LogRecord) -> None:
        raise AssertionError(record.getMessage())

    handler = logging.Handler(logging.WARNING)
    handler.emit = fail
    logger = logging.getLogger("diffusers")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


def new_transformer(family: Family, device: str) -> Any:
    if family.pipeline is None or family.transformer is None:
        pytest.skip(f"diffusers {diffusers.__version__} does not know this family")
    with torch.device(device):
        return family.transformer(**family.sizes)


def targets(family: Family) -> dict[str, list[str]]:
    """Each native module with the diffusers modules that share its rows."""
    return {
        f"{native}.{name}": [f"{theirs}.{part}" for part in parts.split()]
        for native, theirs, modules in family.blocks
        for name, parts in modules.items()
    }


def write_lora(file: Path, family: Family, transformer: Any) -> dict[str, tuple[Tensor, Tensor]]:
    """Write an update of every target, each with its own alpha; return up and down of each diffusers module, scaled.

    All values are whole numbers, and the rank a power of two: float32 products of them are exact.
    """
    draw = torch.Generator().manual_seed(3)
    weights: dict[str, LoraLayer] = {}
    expected: dict[str, tuple[Tensor, Tensor]] = {}
    for path, parts in targets(family).items():
        modules = [transformer.get_submodule(part) for part in parts]
        rows = [module.out_features for module in modules]
        down = torch.randint(-3, 4, (RANK, modules[0].in_features), generator=draw).float()
        up = torch.randint(-3, 4, (sum(rows), RANK), generator=draw).float()
        alpha = len(weights) + 1.0
        weights[path] = LoraLayer(down, up, alpha)
        slices = zip(parts, up.split(rows), strict=True)
        expected |= {part: (some, down * (alpha / RANK)) for part, some in slices}
    save_lora(file, weights, format=FORMAT, metadata={})
    return expected


@pytest.mark.parametrize("family", ["flux2", "z-image", "qwen-image"])
def test_every_key_is_read_and_the_change_is_the_same(family: str, tmp_path: Path) -> None:
    about = FAMILIES[family]
    transformer = new_transformer(about, "cpu")
    for parameter in transformer.parameters():
        parameter.data.zero_()
    file = tmp_path / "lora.safetensors"
    expected = write_lora(file, about, transformer)

    transformer.load_lora_adapter(about.pipeline.lora_state_dict(str(file)))
    transformer.fuse_lora()
    transformer.unload_lora()

    changes = {f"{part}.weight": up @ down for part, (up, down) in expected.items()}
    after = transformer.state_dict()
    assert changes.keys() <= after.keys()
    for name, weight in after.items():
        assert torch.equal(weight, changes.get(name, torch.zeros_like(weight))), name


def test_every_key_of_flux1_is_converted_to_the_same_change(tmp_path: Path) -> None:
    about = FAMILIES["flux1"]
    file = tmp_path / "lora.safetensors"
    expected = write_lora(file, about, new_transformer(about, "meta"))

    read = about.pipeline.lora_state_dict(str(file))

    assert read.keys() == {f"transformer.{part}.{side}.weight" for part in expected for side in ("lora_A", "lora_B")}
    for part, (up, down) in expected.items():
        a, b = (read[f"transformer.{part}.{side}.weight"].float() for side in ("lora_A", "lora_B"))
        assert a.shape == down.shape and b.shape == up.shape, part
        probe = torch.arange(down.shape[1]) % 7 - 3.0  # instead of the change itself, of up to 150 MB
        assert torch.equal(b @ (a @ probe), up @ (down @ probe)), part


@pytest.mark.parametrize("family", FAMILIES)
def test_only_modulation_is_left_out_of_the_blocks(family: str) -> None:
    about = FAMILIES[family]
    blocks = tuple(f"{theirs}." for _, theirs, _ in about.blocks)
    modules = new_transformer(about, "meta").named_modules()
    linear = {name for name, module in modules if isinstance(module, torch.nn.Linear) and name.startswith(blocks)}
    known = {part for parts in targets(about).values() for part in parts}
    assert known <= linear
    assert all(".norm" in name or "_mod." in name or ".adaLN_" in name for name in linear - known)
