"""Loading a base: a folder and a file of the same weights are the same model; broken ones are named."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import Family, tiny_tokenizer, tiny_unet, write_diffusers_folder, write_single_file

from dspo_train.config import LoraSpec
from dspo_train.exceptions import ModelError
from dspo_train.lora.attach import attached
from dspo_train.models.base import Base, load_base
from dspo_train.models.process import Ddpm
from dspo_train.models.weights import weight_files

FAMILIES: list[Family] = ["sd15", "sd2", "sdxl"]


def predict(base: Base) -> torch.Tensor:
    """The UNet on fixed inputs, its text embedding included."""
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    rows = base.encoder.prompts(["a red dog"]).tensors
    added = {"text_embeds": rows.get("pooled"), "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]])}
    with torch.no_grad():
        return base.unet(noise, torch.tensor(500), rows["context"], added_cond_kwargs=added, return_dict=False)[0]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.slow
def test_folder_and_single_file_are_the_same_model(tmp_path: Path, family: Family) -> None:
    folder = write_diffusers_folder(tmp_path / "pipeline", family, seed=5)
    path = write_single_file(tmp_path / "one file.v2.safetensors", family, seed=5)
    one, other = load_base(folder), load_base(path, tokenizer=folder / "tokenizer")
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert (one.name, other.name) == ("pipeline", "one file.v2")
    assert (one.family.name, other.family.name) == (family, family)
    assert one.fingerprint() == other.fingerprint()
    assert one.encoder.image_id == other.encoder.image_id
    assert one.encoder.prompt_id == other.encoder.prompt_id
    assert one.encoder.scaling == other.encoder.scaling
    torch.testing.assert_close(one.encoder.moments(pixels), other.encoder.moments(pixels))
    torch.testing.assert_close(predict(one), predict(other))


def test_fingerprint_tells_models_and_precisions_apart_but_not_adapters(tmp_path: Path) -> None:
    folder = write_diffusers_folder(tmp_path / "a", "sd15", seed=0)
    other = write_diffusers_folder(tmp_path / "b", "sd15", seed=1)
    plain, adapted = load_base(folder), load_base(folder)
    half = load_base(folder, dtype=torch.float16)
    with attached(adapted.unet, LoraSpec(rank=2), seed=0):
        assert adapted.fingerprint() == plain.fingerprint()
    assert len({plain.fingerprint(), half.fingerprint(), load_base(other).fingerprint()}) == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_precision_of_a_folder_and_frozen(tmp_path: Path, dtype: torch.dtype, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        base = load_base(write_diffusers_folder(tmp_path / "m", "sd15"), dtype=dtype)
    models = [base.unet, base.encoder.vae, *base.encoder.text_encoders]
    for model in models:
        assert {p.dtype for p in model.parameters()} == {dtype}
        assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert base.dtype == dtype
    assert not caplog.records


def test_sdxl_vae_stays_in_float32_beside_a_float16_unet(tmp_path: Path) -> None:
    base = load_base(write_diffusers_folder(tmp_path / "m", "sdxl"), dtype=torch.float16)
    assert base.unet.dtype == torch.float16
    assert base.encoder.vae.dtype == torch.float32


def test_fp16_variant_file_names(tmp_path: Path) -> None:
    plain = load_base(write_diffusers_folder(tmp_path / "a", "sdxl"))
    variant = load_base(write_diffusers_folder(tmp_path / "b", "sdxl", variant="fp16"))
    assert (tmp_path / "b/unet/diffusion_pytorch_model.fp16.safetensors").is_file()
    assert variant.fingerprint() == plain.fingerprint()


def test_plain_weights_go_before_a_variant(tmp_path: Path) -> None:
    folder = write_diffusers_folder(tmp_path / "m", "sd15", seed=0)
    tiny_unet("sd15", seed=9).save_pretrained(folder / "unet", variant="non_ema")
    assert load_base(folder).fingerprint() == load_base(write_diffusers_folder(tmp_path / "n", "sd15")).fingerprint()


def test_pickled_weights_are_read_as_weights_only(tmp_path: Path) -> None:
    folder = write_diffusers_folder(tmp_path / "m", "sd15")
    wanted = load_base(folder).fingerprint()
    tiny_unet("sd15").save_pretrained(folder / "unet", safe_serialization=False)
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    assert load_base(folder).fingerprint() == wanted

    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"conv_in.weight": Harmful()}, folder / "unet/diffusion_pytorch_model.bin")
    with pytest.raises(ModelError, match="unet cannot be loaded"):
        load_base(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("asked", "prediction", "zero_snr"), [(None, "v_prediction", True), ("epsilon", "epsilon", False)]
)
def test_prediction_of_a_folder_and_its_override(tmp_path: Path, asked: Any, prediction: str, zero_snr: bool) -> None:
    folder = write_diffusers_folder(tmp_path / "m", "sd15", "v_prediction", zero_snr=True)
    base = load_base(folder, prediction=asked)
    assert isinstance(base.process, Ddpm)
    assert base.process.prediction == prediction
    assert base.scheduler_config["prediction_type"] == prediction
    assert base.scheduler_config["rescale_betas_zero_snr"] is zero_snr
    assert (base.process.alphas_cumprod[-1] == 0).item() is zero_snr


def test_marked_sdxl_checkpoint_is_v_prediction_with_zero_terminal_snr(tmp_path: Path) -> None:
    marks = {"v_pred": torch.zeros(1), "ztsnr": torch.zeros(1)}
    path = write_single_file(tmp_path / "m.safetensors", "sdxl", extra=marks)
    tiny_tokenizer(tmp_path / "tokenizer")
    base = load_base(path)
    assert isinstance(base.process, Ddpm)
    assert base.process.prediction == "v_prediction"
    assert base.process.alphas_cumprod[-1] == 0


def without(*names: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        for name in names:
            shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()

    return remove


def set_config(name: str, **values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps({k: v for k, v in {**config, **values}.items() if v != "gone"}))

    return change


def only_a_checkpoint_inside(folder: Path) -> None:
    without("unet", "vae", "text_encoder", "scheduler", "tokenizer", "model_index.json")(folder)
    write_single_file(folder / "model.safetensors", "sd15")


def truncate_vae(folder: Path) -> None:
    path = folder / "vae/diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def lose_a_tensor(folder: Path) -> None:
    tiny_unet("sd15", layers_per_block=1, mid_block_type=None).save_pretrained(folder / "unet")
    set_config("unet/config.json", mid_block_type="UNetMidBlock2DCrossAttn")(folder)


UNET, VAE = "unet/config.json", "vae/config.json"
BROKEN: list[tuple[str, Family, Callable[[Path], Any], str]] = [
    ("no-unet", "sd15", without("unet"), "not a complete diffusers pipeline: unet/config.json missing"),
    ("no-vae-no-text", "sd15", without("vae", "scheduler"), "vae/config.json, scheduler/scheduler_config.json missing"),
    ("no-text", "sd15", without("text_encoder"), "text_encoder/config.json missing"),
    ("no-second-text", "sdxl", without("text_encoder_2"), "text_encoder_2/config.json missing"),
    ("refiner", "sdxl", without("text_encoder"), "SDXL refiner"),
    ("no-weights", "sd15", without("unet/diffusion_pytorch_model.safetensors"), "unet holds no weights"),
    ("file-inside", "sd15", only_a_checkpoint_inside, "did you mean the file model.safetensors in it"),
    ("truncated", "sd15", truncate_vae, r"vae.*safetensors: the file is truncated.*copy it again"),
    (
        "lost-tensors",
        "sd15",
        lose_a_tensor,
        "unet (lacks .* tensors, such|cannot be loaded: .* keys are missing)",
    ),
    ("inpainting", "sd15", set_config(UNET, in_channels=9), "an inpainting model"),
    ("class-labels", "sd15", set_config(UNET, num_class_embeds=1000), "takes class labels"),
    ("bad-json", "sd15", lambda f: (f / UNET).write_text("{"), r"config.json cannot be read"),
    ("edm", "sd15", set_config("scheduler/scheduler_config.json", beta_start="gone"), "noise process of its DDIM"),
    ("shifted-vae", "sd15", set_config(VAE, latents_mean=[0.0] * 4), "VAE shifts each channel"),
]


@pytest.mark.parametrize(("family", "harm", "message"), [c[1:] for c in BROKEN], ids=[c[0] for c in BROKEN])
@pytest.mark.slow
def test_broken_folders_are_named(tmp_path: Path, family: Family, harm: Callable[[Path], Any], message: str) -> None:
    folder = write_diffusers_folder(tmp_path / "my model", family)
    harm(folder)
    with pytest.raises(ModelError, match=message) as caught:
        load_base(folder)
    assert "my model" in str(caught.value)


def test_transformer_pipelines_empty_folders_and_missing_paths(tmp_path: Path) -> None:
    (tmp_path / "sd3/transformer").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    for name, message in (("sd3", "transformer model"), ("empty", "is an empty folder"), ("gone", "no such file")):
        with pytest.raises(ModelError, match=message):
            load_base(tmp_path / name)


@pytest.mark.parametrize(
    ("family", "part", "message"),
    [
        ("sd15", "first_stage_model.", "VAE is missing"),
        ("sd15", "cond_stage_model.", r"text_encoder is missing \(no cond_stage_model"),
        ("sdxl", "conditioner.embedders.1.", "text_encoder_2 is missing"),
        ("sd15", "first_stage_model.decoder.mid.attn_1", "VAE lacks 10 tensors"),
        ("sd15", "cond_stage_model.transformer.text_model.embeddings.token", "text_encoder is incomplete"),
    ],
)
def test_parts_missing_from_a_single_file_are_named(tmp_path: Path, family: Family, part: str, message: str) -> None:
    path = write_single_file(tmp_path / "m.safetensors", family, without=(part,))
    tiny_tokenizer(tmp_path / "tokenizer")
    with pytest.raises(ModelError, match=message):
        load_base(path)


def test_parts_of_different_models_do_not_mix(tmp_path: Path) -> None:
    folder = write_diffusers_folder(tmp_path / "m", "sd15", unet=tiny_unet("sd15", cross_attention_dim=48))
    with pytest.raises(ModelError, match="text encoders give 32 features but the UNet takes 48"):
        load_base(folder)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    path = write_single_file(tmp_path / "m.safetensors", "sd15")
    tiny_tokenizer(tmp_path / "big")
    vocabulary = json.loads((tmp_path / "big/vocab.json").read_text(encoding="utf-8"))
    vocabulary |= {f"extra{n}": len(vocabulary) + n for n in range(5)}
    (tmp_path / "big/vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    with pytest.raises(ModelError, match="tokens but the text encoder knows"):
        load_base(path, tokenizer=tmp_path / "big")


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["model.safetensors", "model.fp16.safetensors", "pytorch_model.bin"], (None, "safetensors")),
        (["model.fp16.safetensors", "pytorch_model.bin"], ("fp16", "safetensors")),
        (["diffusion_pytorch_model.fp16-00001-of-00002.safetensors"], ("fp16", "safetensors")),
        (["diffusion_pytorch_model-00001-of-00002.safetensors", "config.json"], (None, "safetensors")),
        (["diffusion_pytorch_model.bin", "diffusion_pytorch_model.non_ema.bin"], (None, "bin")),
    ],
)
def test_which_weight_file_is_read(tmp_path: Path, names: list[str], chosen: tuple[str | None, str]) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert weight_files(tmp_path) == chosen
