"""A base that diffusers loaded, as a run trains it: its modes in training, and its previews."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_lora import predict, unet_inputs
from tiny_models import tiny_unet, write_diffusers_folder
from torch import nn

from dspo_train.config import LoraSpec
from dspo_train.lora.attach import attached
from dspo_train.models.base import load_base
from dspo_train.runs import diffusers_model
from dspo_train.runs.diffusers_model import DiffusersModel, training_modes
from dspo_train.training.full import whole

TRAINED: dict[str, Callable[[nn.Module], AbstractContextManager[Any]]] = {
    "lora": lambda unet: attached(unet, LoraSpec(rank=4), seed=0),
    "full": whole,
}


def modes(network: nn.Module) -> list[bool]:
    return [module.training for module in network.modules()]


@pytest.mark.parametrize("method", TRAINED)
def test_the_bases_own_dropout_stays_off(method: str) -> None:
    """The whole is in train mode, in which older diffusers save memory, yet policy and reference are one network."""
    unet = tiny_unet("sd15", dropout=0.5)
    inputs = unet_inputs(unet)
    base = predict(unet, inputs)
    with training_modes(unet), TRAINED[method](unet):
        assert unet.training
        assert torch.equal(unet(**inputs).sample, base)
    assert not unet.training


def test_every_module_gets_its_own_mode_back() -> None:
    unet = tiny_unet("sd15", dropout=0.5)
    unet.down_blocks[0].train()
    before = modes(unet)
    assert len(set(before)) == 2
    with training_modes(unet):
        assert modes(unet) != before
    assert modes(unet) == before
    with pytest.raises(KeyError), training_modes(unet):
        raise KeyError
    assert modes(unet) == before


@pytest.fixture
def model(tmp_path: Path) -> DiffusersModel:
    folder = write_diffusers_folder(tmp_path / "m", "sd15")
    return DiffusersModel(load_base(folder), torch.device("cpu"), folder)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_in_training_it_checkpoints_as_asked_and_leaves_the_device_afterwards(
    model: DiffusersModel, monkeypatch: pytest.MonkeyPatch, checkpointing: bool
) -> None:
    released = []
    monkeypatch.setattr(model.base, "release", lambda: released.append(True))
    with pytest.raises(KeyError), model.training(checkpointing=checkpointing):
        assert model.base.unet.training and model.base.unet.is_gradient_checkpointing is checkpointing
        assert not released
        raise KeyError
    assert released == [True] and not model.base.unet.training


def test_a_preview_is_the_same_again_and_its_prompt_encoded_once(
    model: DiffusersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of about the asked size: a side is a whole number of latent pixels."""
    monkeypatch.setattr(diffusers_model, "_PREVIEW_STEPS", 2)
    encoded, released, done = [], [], []
    encode, release = model.encoder.prompts, model.encoder.release
    monkeypatch.setattr(model.encoder, "prompts", lambda texts: (encoded.extend(texts), encode(texts))[1])
    monkeypatch.setattr(model.encoder, "release", lambda: (released.append(True), release())[1])
    first, second = (model.draw("red dog", 3, 70, lambda step, total: done.append((step, total))) for _ in range(2))
    assert first.size == (64, 64) and first.tobytes() == second.tobytes()
    assert done == [(1, 2), (2, 2)] * 2
    assert sorted(encoded) == ["", "red dog"]
    assert released
