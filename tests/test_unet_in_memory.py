"""A UNet in memory takes the place of the one in a checkpoint: the trainer sees exactly what is wired in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_base import predict
from tiny_models import Family, write_diffusers_folder, write_single_file

from dspo_train.exceptions import ModelError
from dspo_train.models.base import Base, load_base
from dspo_train.models.process import Ddpm
from dspo_train.models.single_file import UNET_PREFIX, UnetWeights


def unet_of(path: Path) -> dict[str, torch.Tensor]:
    return {key: value for key, value in load_file(path).items() if key.startswith(UNET_PREFIX)}


def files(folder: Path, family: Family) -> tuple[Path, Path, Path]:
    """Two checkpoints of other weights, and a tokenizer."""
    tokenizer = write_diffusers_folder(folder / "pipeline", family) / "tokenizer"
    first = write_single_file(folder / "first.safetensors", family, seed=1)
    return first, write_single_file(folder / "second.safetensors", family, seed=2), tokenizer


@pytest.mark.parametrize("family", ["sd15", "sd2", "sdxl"])
@pytest.mark.slow
def test_the_wired_unet_is_trained_and_the_rest_is_the_checkpoint_s(tmp_path: Path, family: Family) -> None:
    first, second, tokenizer = files(tmp_path, family)
    weights = UnetWeights(unet_of(second), "epsilon")
    mixed = load_base(first, tokenizer=tokenizer, unet=weights)
    one, two = load_base(first, tokenizer=tokenizer), load_base(second, tokenizer=tokenizer)
    assert mixed.fingerprint() == two.fingerprint() != one.fingerprint()
    assert mixed.encoder.image_id == one.encoder.image_id != two.encoder.image_id
    assert mixed.encoder.prompt_id == one.encoder.prompt_id
    two.encoder = one.encoder
    torch.testing.assert_close(predict(mixed), predict(two))


def test_half_precision_weights_are_brought_to_the_run_s(tmp_path: Path) -> None:
    first, second, tokenizer = files(tmp_path, "sd15")
    half = {key: value.half() for key, value in unet_of(second).items()}
    base: Base = load_base(first, tokenizer=tokenizer, unet=UnetWeights(half, "epsilon"))
    assert base.dtype == torch.float32
    assert base.fingerprint() != load_base(second, tokenizer=tokenizer).fingerprint()  # rounded once


@pytest.mark.parametrize(
    ("prediction", "zero_snr"), [("epsilon", False), ("v_prediction", False), ("v_prediction", True)]
)
def test_its_noise_process_goes_before_the_checkpoint_s(tmp_path: Path, prediction, zero_snr) -> None:
    first, second, tokenizer = files(tmp_path, "sd15")
    base = load_base(first, tokenizer=tokenizer, unet=UnetWeights(unet_of(second), prediction, zero_snr))
    assert isinstance(base.process, Ddpm)
    assert base.process.prediction == prediction
    assert (base.process.alphas_cumprod[-1].item() < 1e-6) == zero_snr


def test_a_model_of_another_family_is_refused_with_both_names(tmp_path: Path) -> None:
    first, _, tokenizer = files(tmp_path / "a", "sd15")
    other, _, _ = files(tmp_path / "b", "sdxl")
    with pytest.raises(ModelError, match=r"is of the sdxl family, but the checkpoint first\.safetensors is sd15"):
        load_base(first, tokenizer=tokenizer, unet=UnetWeights(unet_of(other), "epsilon"))


def test_something_else_on_the_wire_is_refused(tmp_path: Path) -> None:
    first, _, tokenizer = files(tmp_path, "sd15")
    with pytest.raises(ModelError, match=r"not a Stable Diffusion 1\.x, 2\.x or XL model"):
        load_base(
            first, tokenizer=tokenizer, unet=UnetWeights({f"{UNET_PREFIX}double_blocks.0": torch.zeros(1)}, "epsilon")
        )
    inpainting = {**unet_of(first), f"{UNET_PREFIX}input_blocks.0.0.weight": torch.zeros(8, 9, 3, 3)}
    with pytest.raises(ModelError, match="the model to train is an inpainting model"):
        load_base(first, tokenizer=tokenizer, unet=UnetWeights(inpainting, "epsilon"))
    with pytest.raises(ModelError, match="is a folder"):
        load_base(tmp_path / "pipeline", unet=UnetWeights(unet_of(first), "epsilon"))
