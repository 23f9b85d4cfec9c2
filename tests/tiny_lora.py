"""Inputs and random LoRAs for the tiny UNets, and the full-size UNets without weights."""

from __future__ import annotations

import json
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from dspo_train.config import LoraSpec, Targets
from dspo_train.lora.attach import LoraLayer
from dspo_train.lora.layers import fresh_weights
from dspo_train.models.conditioning import Conditioning
from dspo_train.models.single_file import CONFIGS


def unet_inputs(unet: UNet2DConditionModel, batch: int = 2) -> dict[str, Any]:
    """Keyword arguments of `unet.forward`: noise, timesteps, text and, for SDXL, size conditioning."""
    generator = torch.Generator().manual_seed(11)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(unet.dtype)

    inputs: dict[str, Any] = {
        "sample": normal(batch, 4, 8, 8),
        "timestep": torch.arange(batch) * 300 + 10,
        "encoder_hidden_states": normal(batch, 7, unet.config["cross_attention_dim"]),
    }
    if unet.config["addition_embed_type"] == "text_time":
        pooled = unet.config["projection_class_embeddings_input_dim"] - 6 * unet.config["addition_time_embed_dim"]
        inputs["added_cond_kwargs"] = {"text_embeds": normal(batch, pooled), "time_ids": torch.full((batch, 6), 64.0)}
    return inputs


def conditioning(inputs: dict[str, Any]) -> Conditioning:
    """The part of `unet_inputs` that a model is conditioned on."""
    added = inputs.get("added_cond_kwargs", {})
    sizes = {"pooled": added["text_embeds"], "time_ids": added["time_ids"]} if added else {}
    return Conditioning({"context": inputs["encoder_hidden_states"], **sizes})


def predict(unet: UNet2DConditionModel, inputs: dict[str, Any]) -> Tensor:
    with torch.no_grad():
        return unet(**inputs).sample


def random_lora(
    unet: nn.Module, targets: Targets = "attention", rank: int = 4, alpha: float = 3.0, seed: int = 0
) -> dict[str, LoraLayer]:
    """A LoRA that visibly changes the prediction: both factors are random."""
    spec = LoraSpec(rank=rank, alpha=alpha, targets=targets)
    generator = torch.Generator().manual_seed(seed)
    return {
        path: LoraLayer(layer.down, 0.05 * torch.randn(layer.up.shape, generator=generator), layer.alpha)
        for path, layer in fresh_weights(unet, spec, seed=seed).items()
    }


def full_size_unet(family: str) -> UNet2DConditionModel:
    """The real architecture on the meta device: names and shapes, no memory."""
    config = json.loads((CONFIGS / family / "unet" / "config.json").read_text(encoding="utf-8"))
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config)
    assert isinstance(unet, UNet2DConditionModel)
    return unet
