"""The original checkpoint layout: recognised, converted exactly, refused with a reason."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import init_empty_weights
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from tiny_models import Family, ldm_unet, tiny_unet, write_single_file

from dspo_train.exceptions import ModelError
from dspo_train.models import ldm_layout
from dspo_train.models.declared import scheduler_config
from dspo_train.models.families import FAMILIES
from dspo_train.models.single_file import CONFIGS, load_unet, open_single_file, template

SSD_1B = {  # the reduced SDXL: shallower, its two halves unlike, no attention in the middle
    "transformer_layers_per_block": [1, 2, 4],
    "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 1],
    "mid_block_type": "UNetMidBlock2D",
}
KOALA = {"transformer_layers_per_block": [1, 2, 5], "layers_per_block": 1, "mid_block_type": None}
REDUCED_SD15 = {
    "block_out_channels": [320, 640],
    "layers_per_block": 1,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
}


@pytest.mark.parametrize(
    ("family", "changes"),
    [("sd15", {}), ("sd2", {}), ("sdxl", {}), ("sdxl", SSD_1B), ("sdxl", KOALA), ("sd15", REDUCED_SD15)],
    ids=["sd15", "sd2", "sdxl", "ssd-1b", "koala", "reduced-sd15"],
)
def test_unet_config_is_read_off_the_shapes(family: Family, changes: dict[str, Any]) -> None:
    """Full-size models without memory: write their key names, infer, and get the config back."""
    config = {**template(FAMILIES[family], "unet"), **changes}
    with init_empty_weights():
        unet: Any = UNet2DConditionModel.from_config(config)
    shapes = {key: tuple(value.shape) for key, value in ldm_unet(unet).items()}
    assert ldm_layout.infer_unet_config(shapes, template(FAMILIES[family], "unet")) == config


@pytest.mark.parametrize("config", sorted(CONFIGS.rglob("*.json")), ids=lambda p: str(p.relative_to(CONFIGS)))
def test_shipped_configs_parse_and_hold_no_path(config: Path) -> None:
    values = json.loads(config.read_text(encoding="utf-8"))
    assert values
    assert "_name_or_path" not in values


def test_asymmetric_relative_predicts_as_its_source(tmp_path: Path) -> None:
    """Up blocks deeper than down blocks and a middle block without attention, as in SSD-1B."""
    source = tiny_unet(
        "sdxl",
        transformer_layers_per_block=[1, 2],
        reverse_transformer_layers_per_block=[[2, 1, 3], 1],
        mid_block_type="UNetMidBlock2D",
    )
    loaded = load_unet(
        open_single_file(write_single_file(tmp_path / "m.safetensors", "sdxl", unet=source)), torch.float32
    )
    state = source.state_dict()
    assert loaded.state_dict().keys() == state.keys()
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, state[key]), key


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_precision_is_the_one_asked_for(tmp_path: Path, dtype: torch.dtype) -> None:
    path = write_single_file(tmp_path / "m.safetensors", "sd15", dtype=torch.float16)
    unet = load_unet(open_single_file(path), dtype)
    assert {p.dtype for p in unet.parameters()} == {dtype}
    assert not any(p.requires_grad for p in unet.parameters()) and not unet.training


MARK = torch.zeros(1)


@pytest.mark.parametrize(
    ("family", "extra", "metadata", "prediction", "zero_snr"),
    [
        ("sd15", {}, None, "epsilon", False),
        ("sdxl", {}, None, "epsilon", False),
        ("sdxl", {"v_pred": MARK}, None, "v_prediction", False),
        ("sdxl", {"v_pred": MARK, "ztsnr": MARK}, None, "v_prediction", True),
        ("sdxl", {"ztsnr": MARK}, None, "epsilon", False),
        ("sdxl", {}, {"modelspec.prediction_type": "v"}, "v_prediction", False),
        ("sdxl", {"v_pred": MARK}, {"modelspec.prediction_type": "epsilon"}, "v_prediction", False),
        ("sd2", {}, {"modelspec.prediction_type": "epsilon"}, "epsilon", False),
        ("sd2", {}, {"modelspec.prediction_type": "v"}, "v_prediction", False),
    ],
)
def test_prediction_type_by_marker_then_metadata(
    tmp_path: Path,
    family: Family,
    extra: dict[str, torch.Tensor],
    metadata: dict[str, str] | None,
    prediction: str,
    zero_snr: bool,
) -> None:
    path = write_single_file(tmp_path / "m.safetensors", family, extra=extra, metadata=metadata)
    config = scheduler_config(open_single_file(path))
    assert (config["prediction_type"], config["rescale_betas_zero_snr"]) == (prediction, zero_snr)


@pytest.mark.parametrize(("spread", "prediction"), [(0.2, "v_prediction"), (0.05, "epsilon")])
def test_sd2_without_metadata_by_the_spread_of_one_bias(tmp_path: Path, spread: float, prediction: str) -> None:
    """Half of the values at +spread and half at -spread: the standard deviation is `spread`; the limit is 0.09."""
    bias = torch.tensor([spread, -spread] * 16)
    key = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"
    path = write_single_file(tmp_path / "m.safetensors", "sd2", extra={key: bias})
    assert scheduler_config(open_single_file(path))["prediction_type"] == prediction


def of_keys(*keys: str, **options: Any) -> Callable[[Path], None]:
    return lambda path: save_file({key: torch.zeros(4, 4) for key in keys}, str(path), **options)


def with_input_channels(channels: int) -> Callable[[Path], None]:
    unet = tiny_unet("sd15", in_channels=channels)
    return lambda path: write_single_file(path, "sd15", unet=unet) and None


def truncated(path: Path) -> None:
    whole = write_single_file(path, "sd15").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


REFINER = {"conditioner.embedders.0.model.ln_final.bias": MARK}
NO_FIRST = "conditioner.embedders.0."
REFUSED: list[tuple[str, Callable[[Path], Any], str]] = [
    ("lora", of_keys("lora_unet_down_blocks_0.lora_down.weight"), "is a LoRA, not a base model"),
    ("peft-lora", of_keys("unet.down_blocks.0.to_q.lora_A.weight"), "is a LoRA, not a base model"),
    ("lokr", of_keys("lora_unet_a.lokr_w1"), "LyCORIS adapter"),
    ("sd3", of_keys("model.diffusion_model.joint_blocks.0.x.weight"), "Stable Diffusion 3.*not supported"),
    ("flux", of_keys("double_blocks.0.img_attn.proj.weight"), "Flux.*not supported"),
    ("controlnet", of_keys("control_model.input_hint_block.0.weight"), "ControlNet"),
    ("embedding", of_keys("emb_params"), "textual-inversion"),
    ("diffusers-unet", of_keys("down_blocks.0.resnets.0.conv1.weight"), "give the folder"),
    ("bare-unet", of_keys("input_blocks.0.0.weight"), "UNet alone"),
    ("vae", of_keys("decoder.conv_in.weight"), "VAE alone"),
    ("unknown", of_keys("layers.0.weight"), r"holds no Stable Diffusion UNet.*'layers\.0\.weight'"),
    ("no-tensors", lambda path: save_file({}, str(path)), "holds no tensors"),
    ("refiner", lambda p: write_single_file(p, "sdxl", without=(NO_FIRST,), extra=REFINER), "SDXL refiner"),
    ("edm", lambda p: write_single_file(p, "sdxl", extra={"edm_mean": MARK}), "EDM model"),
    ("inpainting", with_input_channels(9), "an inpainting model .9 input channels."),
    ("pix2pix", with_input_channels(8), "an instruct-pix2pix model"),
    ("truncated", truncated, r"[\d,]+ bytes, damaged or not fully downloaded.*download it again"),
    ("empty", lambda path: path.write_bytes(b""), "0 bytes, damaged"),
    (
        "lfs",
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0"),
        "git-lfs pointer",
    ),
]


@pytest.mark.parametrize(("make", "message"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_refused_by_name(tmp_path: Path, make: Callable[[Path], Any], message: str) -> None:
    path = tmp_path / "some model.safetensors"
    make(path)
    with pytest.raises(ModelError, match=message) as caught:
        open_single_file(path)
    assert "some model.safetensors" in str(caught.value)


@pytest.mark.parametrize("ending", [".ckpt", ".PT", ".gguf"])
def test_pickles_are_not_opened(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"model{ending}"
    path.write_bytes(b"anything")
    with pytest.raises(ModelError, match=re.compile(r"convert it to \.safetensors")):
        open_single_file(path)


@pytest.mark.parametrize(
    ("without", "extra", "message"),
    [
        ("model.diffusion_model.middle_block.0.in_layers.2.bias", {}, "UNet lacks 1 tensor, such as"),
        ("model.diffusion_model.out.2.weight", {}, r"UNet is incomplete \(key 'out.2.weight'"),
        (
            "\0",
            {"model.diffusion_model.time_embed.cond.weight": MARK},
            "UNet has 1 tensor that no known UNet has",
        ),
    ],
    ids=["a-bias", "a-shape-giver", "an-extra"],
)
def test_holes_and_extras_in_the_unet_are_not_passed_over(
    tmp_path: Path, without: str, extra: dict[str, torch.Tensor], message: str
) -> None:
    path = write_single_file(tmp_path / "m.safetensors", "sd15", without=(without,), extra=extra)
    with pytest.raises(ModelError, match=message):
        load_unet(open_single_file(path), torch.float32)
