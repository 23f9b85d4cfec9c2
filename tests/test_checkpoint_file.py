"""A trained UNet's file: what is in it, what it loads as, and what is refused."""

from __future__ import annotations

import errno
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_lora import full_size_unet, predict, unet_inputs
from tiny_models import Family, ldm_unet, tiny_tokenizer, tiny_unet, write_diffusers_folder, write_single_file
from torch import Tensor

from dspo_train.exceptions import LoraFileError, ModelError, RunError
from dspo_train.models import checkpoint_file
from dspo_train.models.base import load_base
from dspo_train.models.checkpoint_file import save_checkpoint
from dspo_train.models.ldm_layout import original_names
from dspo_train.models.single_file import UNET_PREFIX
from dspo_train.training.full import whole

FAMILIES: tuple[Family, ...] = ("sd15", "sd2", "sdxl")
RELATIVES: dict[str, tuple[Family, dict[str, Any]]] = {
    "sd15": ("sd15", {}),
    "sd2": ("sd2", {}),
    "sdxl": ("sdxl", {}),
    "ssd-1b": (
        "sdxl",
        {"reverse_transformer_layers_per_block": [[2, 1, 3], 1], "mid_block_type": "UNetMidBlock2D"},
    ),
    "koala": ("sdxl", {"layers_per_block": 1, "mid_block_type": None}),
}


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(str(path), framework="pt") as file:
        return dict(file.metadata() or {})


def moved(unet: Any, by: float = 0.01) -> dict[str, Tensor]:
    """A training's result: every weight somewhere else."""
    generator = torch.Generator().manual_seed(3)
    return {k: v.float() + by * torch.randn(v.shape, generator=generator) for k, v in unet.state_dict().items()}


def save(path: Path, base: Path, unet: Any, state: dict[str, Tensor], **options: Any) -> Any:
    told = {"prediction": "epsilon", "metadata": {}, **options}
    return save_checkpoint(path, base, state, unet_config=unet.config, **told)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_names_of_the_full_models_are_the_original_ones(family: Family) -> None:
    """The test's own writer spells them out; it shares no code with ours."""
    unet = full_size_unet(family)
    spelled = {id(value): name for name, value in ldm_unet(_Fixed(unet)).items()}  # type: ignore[arg-type]
    state = _Fixed(unet).state_dict()
    assert original_names(state, unet.config) == {name: spelled[id(value)] for name, value in state.items()}


class _Fixed:
    """A UNet whose state_dict gives the same objects each time."""

    def __init__(self, unet: Any) -> None:
        self.config, self._state = unet.config, dict(unet.named_parameters())

    def state_dict(self) -> dict[str, Tensor]:
        return self._state  # type: ignore[return-value]


@pytest.mark.parametrize("name", RELATIVES)
@pytest.mark.slow
def test_what_was_trained_is_what_loads(tmp_path: Path, name: str) -> None:
    """Through the loader, whose conversion is diffusers' and not ours."""
    family, changes = RELATIVES[name]
    source = tiny_unet(family, **changes)
    tokenizer = tmp_path / "tokenizer"
    tiny_tokenizer(tokenizer)
    base_file = write_single_file(tmp_path / "base.safetensors", family, unet=source)
    base = load_base(base_file, tokenizer=tokenizer)
    inputs = unet_inputs(base.unet)
    with whole(base.unet) as model:
        optimiser = torch.optim.AdamW(model.parameters.values(), lr=1e-3)
        for _ in range(2):
            base.unet(**inputs).sample.square().mean().backward()
            optimiser.step()
            optimiser.zero_grad()
        expected = predict(base.unet, inputs)
        saved = save(tmp_path / "trained.safetensors", base_file, base.unet, dict(model.parameters))
    assert saved.lost == 0
    again = load_base(saved.path, tokenizer=tokenizer)
    state = again.unet.state_dict()
    assert state.keys() == model.parameters.keys()
    assert all(torch.equal(state[name], value) for name, value in model.parameters.items())
    assert again.unet.config == base.unet.config
    assert torch.equal(predict(again.unet, inputs), expected)
    assert (expected - predict(base.unet, inputs)).abs().max() > 1e-2


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.slow
def test_all_else_is_the_base_files_byte_by_byte(tmp_path: Path, family: Family, dtype: torch.dtype) -> None:
    unet = tiny_unet(family)
    extra = {
        "denoiser.sigmas": torch.arange(1001, dtype=torch.float64),
        "embedder.position_ids": torch.arange(77),
        "flag": torch.tensor(True),
        "small": torch.tensor([1.0, 2.0, 3.0]).to(torch.float8_e4m3fn),
    }
    base = write_single_file(tmp_path / "base.safetensors", family, extra=extra, dtype=dtype)
    state = moved(unet)
    save(tmp_path / "out" / "trained.safetensors", base, unet, state)
    old, new = load_file(base), load_file(tmp_path / "out" / "trained.safetensors")
    names = {UNET_PREFIX + name: key for key, name in original_names(state, unet.config).items()}
    assert new.keys() == old.keys()
    for name, value in new.items():
        assert value.dtype == old[name].dtype
        expected = state[names[name]].to(dtype) if name in names else old[name]
        assert torch.equal(value.reshape(-1).view(torch.uint8), expected.reshape(-1).view(torch.uint8)), name


def test_the_base_files_metadata_is_kept_and_ours_comes_first(tmp_path: Path) -> None:
    unet = tiny_unet("sd15")
    own = {"modelspec.license": "CreativeML", "modelspec.title": "Base", "modelspec.hash_sha256": "0xab"}
    base = write_single_file(tmp_path / "base.safetensors", "sd15", metadata=own)
    save(tmp_path / "t.safetensors", base, unet, moved(unet), metadata={"modelspec.title": "Mine", "dspo.pairs": "7"})
    assert metadata_of(tmp_path / "t.safetensors") == {
        "format": "pt",
        "modelspec.license": "CreativeML",
        "modelspec.title": "Mine",
        "modelspec.prediction_type": "epsilon",
        "dspo.pairs": "7",
    }, "the hash was of other weights"


def test_an_average_of_the_old_unet_is_left_out(tmp_path: Path) -> None:
    unet = tiny_unet("sd15")
    extra = {"model_ema.diffusion_modelout2bias": torch.zeros(4), "model_emb": torch.ones(2)}
    base = write_single_file(tmp_path / "base.safetensors", "sd15", extra=extra)
    saved = save(tmp_path / "t.safetensors", base, unet, moved(unet))
    assert load_file(base).keys() - load_file(saved.path).keys() == {"model_ema.diffusion_modelout2bias"}


@pytest.mark.parametrize(
    ("before", "prediction", "zero_snr", "after"),
    [
        (set(), "epsilon", False, set()),
        (set(), "v_prediction", False, {"v_pred"}),
        ({"v_pred"}, "v_prediction", True, {"v_pred", "ztsnr"}),
        ({"v_pred", "ztsnr"}, "v_prediction", True, {"v_pred", "ztsnr"}),
        ({"v_pred", "ztsnr"}, "epsilon", False, set()),
    ],
)
@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.slow
def test_an_sdxl_file_says_what_was_trained(
    tmp_path: Path, before: set[str], prediction: str, zero_snr: bool, after: set[str], folder: bool
) -> None:
    unet = tiny_unet("sdxl")
    extra = {name: torch.zeros(1) for name in before}
    base = tmp_path / "folder" if folder else write_single_file(tmp_path / "b.safetensors", "sdxl", extra=extra)
    base.mkdir(exist_ok=True) if folder else None
    saved = save(tmp_path / "t.safetensors", base, unet, moved(unet), prediction=prediction, zero_snr=zero_snr)
    tensors = load_file(saved.path)
    assert tensors.keys() & {"v_pred", "ztsnr"} == after
    if not folder:
        tiny_tokenizer(tmp_path / "tokenizer")
        config = load_base(saved.path, tokenizer=tmp_path / "tokenizer").scheduler_config
        assert (config["prediction_type"], config["rescale_betas_zero_snr"]) == (prediction, zero_snr)


@pytest.mark.parametrize("family", FAMILIES)
def test_of_a_folder_the_unet_alone_is_written_under_bare_names(tmp_path: Path, family: Family) -> None:
    unet = tiny_unet(family)
    folder = write_diffusers_folder(tmp_path / "folder", family)
    state = moved(unet)
    saved = save(tmp_path / "unet.safetensors", folder, unet, state)
    tensors = load_file(saved.path)
    assert saved.lost is None
    assert tensors.keys() == ldm_unet(unet).keys()
    assert {value.dtype for value in tensors.values()} == {torch.float16}
    names = original_names(state, unet.config)
    assert all(torch.equal(tensors[names[key]], value.half()) for key, value in state.items())
    assert metadata_of(saved.path)["format"] == "pt"


def test_the_unets_type_can_be_chosen_and_tensors_stay_aligned(tmp_path: Path) -> None:
    """The VAE's last bias has three values: float32 after three of two bytes would begin within a word."""
    unet = tiny_unet("sd15")
    base = write_single_file(tmp_path / "base.safetensors", "sd15", dtype=torch.float16)
    state = moved(unet)
    saved = save(tmp_path / "t.safetensors", base, unet, state, dtype=torch.float32)
    tensors = load_file(saved.path)
    assert {value.dtype for name, value in tensors.items() if name.startswith(UNET_PREFIX)} == {torch.float32}
    assert {value.dtype for name, value in tensors.items() if not name.startswith(UNET_PREFIX)} == {torch.float16}
    assert saved.lost == 0
    size = int.from_bytes(saved.path.read_bytes()[:8], "little")
    header = json.loads(saved.path.read_bytes()[8 : 8 + size])
    assert size % 8 == 0
    assert all(e["data_offsets"][0] % 4 == 0 for k, e in header.items() if k != "__metadata__" and e["dtype"] == "F32")


def test_what_rounding_loses_is_measured_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Around 1, bfloat16 has a step of 1/128: a change of 1/1024 rounds away whole, one of 1/128 not at all."""
    unet = tiny_unet("sd15")
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.fill_(1)
    base = write_single_file(tmp_path / "base.safetensors", "sd15", unet=unet, dtype=torch.bfloat16)
    for change, lost in ((1 / 1024, 1.0), (1 / 128, 0.0)):
        state = {key: value + change for key, value in unet.state_dict().items()}
        with caplog.at_level(logging.WARNING, "dspo"):
            caplog.clear()
            assert save(tmp_path / "t.safetensors", base, unet, state).lost == lost
        assert [record.message.count("rounds away 100%") for record in caplog.records] == [1] * int(lost)
    assert save(tmp_path / "t.safetensors", base, unet, state, dtype=torch.float32).lost == 0


def test_a_failed_write_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unet = tiny_unet("sd15")
    base, path = write_single_file(tmp_path / "base.safetensors", "sd15"), tmp_path / "t.safetensors"
    path.write_bytes(b"earlier")
    broken = moved(unet)
    broken["conv_out.bias"][0] = float("nan")  # the last but one that is written
    with pytest.raises(ModelError, match=r"out\.2\.bias.*not finite"):
        save(path, base, unet, broken)
    large = moved(unet) | {"conv_out.bias": torch.full((4,), 1e5)}
    with pytest.raises(ModelError, match=r"out\.2\.bias: 1e\+05 is more than the file's F16 can hold"):
        save(path, base, unet, large, dtype=torch.float16)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="the disk is full"):
        save(path, base, unet, moved(unet))
    assert path.read_bytes() == b"earlier"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base.safetensors", "t.safetensors"]


def test_a_file_that_was_not_written_as_meant_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unet, real = tiny_unet("sd15"), checkpoint_file._Writer.chunks
    base = write_single_file(tmp_path / "base.safetensors", "sd15")
    monkeypatch.setattr(checkpoint_file._Writer, "chunks", lambda self: list(real(self))[:-1])
    with pytest.raises(ModelError, match="not written correctly"):
        save(tmp_path / "t.safetensors", base, unet, moved(unet))
    assert not (tmp_path / "t.safetensors").exists()


def test_what_cannot_be_written_is_refused_with_the_reason(tmp_path: Path) -> None:
    unet = tiny_unet("sd15")
    base, state = write_single_file(tmp_path / "base.safetensors", "sd15"), moved(unet)
    with pytest.raises(ModelError, match="never overwritten"):
        save(base, base, unet, state)
    with pytest.raises(ModelError, match=r"must end in \.safetensors"):
        save(tmp_path / "t.ckpt", base, unet, state)
    with pytest.raises(ModelError, match="no longer exists"):
        save(tmp_path / "t.safetensors", tmp_path / "gone.safetensors", unet, state)
    other = write_single_file(tmp_path / "xl.safetensors", "sdxl")
    with pytest.raises(ModelError, match=r"of the sd15 family, but the checkpoint xl\.safetensors is sdxl"):
        save(tmp_path / "t.safetensors", other, unet, state)
    with pytest.raises(LoraFileError, match="absolute path"):
        save(tmp_path / "t.safetensors", base, unet, state, metadata={"dspo.base": "/home/me/base"})
    assert not (tmp_path / "t.safetensors").exists()
