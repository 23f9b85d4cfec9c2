"""What a file is that is not a base model, or a base that would fail later: said at once, and every hint leads on."""

from __future__ import annotations

import io
import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import Family, tiny_tokenizer, tiny_unet, write_diffusers_folder
from tiny_models import write_single_file as write_file
from tiny_runs import config, write_pairs

from dspo_train.cli.main import USER, in_words, main
from dspo_train.exceptions import ModelError
from dspo_train.models.base import load_base
from dspo_train.models.blueprint import read_blueprint
from dspo_train.models.declared import scheduler_config
from dspo_train.models.single_file import open_single_file
from dspo_train.models.weights import read_weights
from dspo_train.runs.diffusers_model import DiffusersSource
from dspo_train.runs.job import Job
from dspo_train.runs.session import open_session

ONE = torch.ones(1)


def write_single_file(path: Path, family: Family, **more: Any) -> Path:
    """With its tokenizer beside it: the tiny models have a vocabulary of their own."""
    tiny_tokenizer(path.parent / "tokenizer")
    return write_file(path, family, **more)


UNET = "model.diffusion_model."


def saved() -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(3)}, buffer)
    return buffer.getvalue()


CONTENTS: dict[str, tuple[bytes, str]] = {
    "torch.save": (saved(), "is a pickle, whatever its name.*convert it to .safetensors"),
    "another zip": (b"PK\x03\x04" + bytes(200), "is an archive; unpack it"),
    "json": (b'{"a": 1}', "is a text file, not a model"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(90), "is an image, not a model"),
    "a note": (b"Access to this model is restricted.", "is a text file, not a model"),
    "a bare pickle": (pickle.dumps({"a": 1}, protocol=4), "is a pickle, whatever its name"),
    "gguf": (b"GGUF" + bytes(200), "is a GGUF file, whose quantised weights are not read; give the .safetensors"),
    "a web page": (b"\n<!DOCTYPE html><html>Log in</html>", "is a web page, not a model.*needed a login"),
    "an error": (b'{"error": "Unauthorized"}', "is an error message of the server"),
    "an archive": (b"Rar!\x1a\x07" + bytes(90), "is an archive; unpack it"),
    "zeros": (bytes(5000), "begins with zeros: 5,000 bytes, not fully downloaded or copied; download it again"),
    "half a file": (b"\xff\x00" + b"x" * 98, "100 bytes, damaged or not fully downloaded; download it again"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_file_is_named_by_its_content(tmp_path: Path, name: str) -> None:
    content, message = CONTENTS[name]
    path = tmp_path / "some model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        open_single_file(path)
    assert str(caught.value).startswith(str(path))


def test_a_safetensors_file_under_another_name_is_read(tmp_path: Path) -> None:
    path = write_single_file(tmp_path / "m.safetensors", "sd15")
    assert open_single_file(path.rename(tmp_path / "m.ckpt")).family.name == "sd15"


@pytest.mark.parametrize(
    "key", ["lora_unet_x.lora_down.weight", "extra.lora_A.weight", "x.hada_w1_a", "model_ema.decay"]
)
def test_one_stray_key_does_not_make_a_checkpoint_something_else(tmp_path: Path, key: str) -> None:
    path = write_single_file(tmp_path / "m.safetensors", "sd15", extra={key: ONE})
    whole = write_single_file(tmp_path / "n.safetensors", "sd15")
    assert load_base(path).fingerprint() == load_base(whole).fingerprint()


def test_a_lora_is_one_whatever_else_its_keys_hold(tmp_path: Path) -> None:
    keys = ["lora_te_text_model.q.lora_down.weight", "down_blocks.0.lora_up.weight", "double_blocks.0.lora_A.weight"]
    save_file({key: ONE.clone() for key in keys}, tmp_path / "l.safetensors")
    with pytest.raises(ModelError, match="is a LoRA, not a base model"):
        open_single_file(tmp_path / "l.safetensors")


QUANTISED = {
    "scaled fp8": {f"{UNET}out.2.scale_weight": ONE, "scaled_fp8": ONE},
    "ComfyUI's quantised layers": {f"{UNET}out.2.comfy_quant": ONE},
    "bitsandbytes nf4 or fp4": {f"{UNET}out.2.weight.quant_state.bitsandbytes__nf4": ONE},
    "bitsandbytes int8": {f"{UNET}out.2.SCB": ONE},
    "GPTQ or AWQ": {f"{UNET}out.2.qweight": ONE},
    "U8 weights": {f"{UNET}out.9.weight": torch.zeros(8, 1, dtype=torch.uint8)},
}


@pytest.mark.parametrize("how", QUANTISED)
def test_quantised_weights_are_called_quantised(tmp_path: Path, how: str) -> None:
    path = write_single_file(tmp_path / "m.safetensors", "sd15", extra=QUANTISED[how])
    message = rf"is quantised \({re.escape(how)}\), and such weights are not read; give the fp16, bf16 or fp32 file"
    with pytest.raises(ModelError, match=message):
        read_blueprint(path)


def test_a_quantised_folder_likewise(tmp_path: Path) -> None:
    folder = write_diffusers_folder(tmp_path / "m", "sd15")
    change(folder / "unet", quantization_config={"quant_method": "bitsandbytes"})
    with pytest.raises(ModelError, match=r"unet is quantised \(bitsandbytes\)"):
        read_blueprint(folder)


def test_plain_fp8_is_read(tmp_path: Path) -> None:
    """Every tensor in eight bits, without scales: the values are those of the file."""
    path = write_single_file(tmp_path / "m.safetensors", "sd15", dtype=torch.float8_e4m3fn)
    stored = load_file(path)[f"{UNET}out.2.weight"]
    assert torch.equal(load_base(path).unet.conv_out.weight, stored.float())


def change(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


UNSUPPLIED: dict[str, tuple[dict[str, Any], str]] = {
    "lcm": ({"time_cond_proj_dim": 256}, r"the guidance scale.*\(time_cond_proj_dim is 256 in its config\)"),
    "unclip": ({"class_embed_type": "projection"}, "takes class labels"),
    "image prompts": ({"encoder_hid_dim_type": "ip_image_proj"}, "projected image or text embeddings"),
    "deepfloyd": ({"encoder_hid_dim": 4096}, "projected image or text embeddings"),
    "kandinsky": ({"addition_embed_type": "image"}, "further embeddings.*addition_embed_type is 'image'"),
    "image tokens": ({"dual_cross_attention": True}, "image tokens beside the text.*dual_cross_attention is True"),
    "gligen": ({"attention_type": "gated"}, "boxes or other grounding"),
    "video": ({"_class_name": "UNetMotionModel"}, "is of class UNetMotionModel, which is not supported"),
}


@pytest.mark.parametrize("name", UNSUPPLIED)
def test_a_unet_whose_inputs_are_never_supplied_is_refused(tmp_path: Path, name: str) -> None:
    settings, message = UNSUPPLIED[name]
    folder = write_diffusers_folder(tmp_path / "my model", "sd15")
    change(folder / "unet", **settings)
    for read in (read_blueprint, load_base):
        with pytest.raises(ModelError, match=message) as caught:
            read(folder)
        assert "my model" in str(caught.value)


def test_a_guidance_distilled_single_file_is_refused(tmp_path: Path) -> None:
    """diffusers' converter would drop the layer without a word."""
    projection = {f"{UNET}time_embed.cond_proj.weight": torch.zeros(32, 256)}
    path = write_single_file(tmp_path / "lcm.safetensors", "sd15", extra=projection)
    with pytest.raises(ModelError, match="time_cond_proj_dim is 256"):
        read_blueprint(path)


def test_other_vaes_and_text_encoders_are_named(tmp_path: Path) -> None:
    folder = write_diffusers_folder(tmp_path / "m", "sd15")
    change(folder / "text_encoder", architectures=["T5EncoderModel"])
    with pytest.raises(ModelError, match="text_encoder is a T5EncoderModel, which is not supported"):
        load_base(folder)
    change(folder / "vae", _class_name="AutoencoderTiny")
    with pytest.raises(ModelError, match="vae is of class AutoencoderTiny"):
        load_base(folder)


PARTS = {
    "unet/diffusion_pytorch_model.safetensors": "mid_block.attentions.0.proj_in.weight",
    "vae/diffusion_pytorch_model.safetensors": "decoder.conv_in.bias",
    "text_encoder/model.safetensors": None,
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_named_with_its_part(tmp_path: Path, part: str, value: float) -> None:
    folder = write_diffusers_folder(tmp_path / "m", "sd15")
    state = load_file(folder / part)
    key = PARTS[part] or next(name for name in state if name.endswith("fc1.weight"))
    state[key].view(-1)[3] = value
    save_file(state, folder / part, metadata={"format": "pt"})
    with pytest.raises(
        ModelError, match=rf"{part.partition('/')[0]}: the weights of '.*{key[-10:]}' are not all finite"
    ):
        load_base(folder)


@pytest.mark.parametrize(
    ("key", "part"),
    [
        (f"{UNET}middle_block.1.transformer_blocks.0.attn1.to_q.weight", "UNet"),
        ("first_stage_model.encoder.conv_in.weight", "VAE"),
        ("cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight", "text_encoder"),
    ],
)
def test_in_a_single_file_likewise(tmp_path: Path, key: str, part: str) -> None:
    path = write_single_file(tmp_path / "m.safetensors", "sd15")
    state = load_file(path)
    state[key].view(-1)[0] = float("nan")
    save_file(state, tmp_path / "n.safetensors")
    with pytest.raises(
        ModelError, match=rf"n\.safetensors: {part}: the weights of .* are not all finite.*another model"
    ):
        load_base(tmp_path / "n.safetensors")


def test_values_too_large_for_fp16_say_so(tmp_path: Path) -> None:
    path = write_single_file(tmp_path / "m.safetensors", "sd15", extra={f"{UNET}out.2.bias": torch.full((4,), 1e5)})
    assert load_base(path).dtype == torch.float32
    with pytest.raises(ModelError, match="large values overflow in fp16: set `precision` to bf16 or fp32"):
        load_base(path, dtype=torch.float16)


def test_a_huge_but_finite_weight_is_no_damage(tmp_path: Path) -> None:
    """Its sum overflows float32."""
    path = write_single_file(tmp_path / "m.safetensors", "sd15", extra={f"{UNET}out.2.bias": torch.full((4,), 3e38)})
    assert load_base(path).dtype == torch.float32


LDM = 'model:\n  target: ldm.models.diffusion.ddpm.LatentDiffusion\n  params:\n    parameterization: "v"\n'
SGM = "denoiser_config:\n  scaling_config:\n    target: sgm.modules.diffusionmodules.denoiser_scaling.VScaling\n"
YAMLS: dict[str, tuple[Family, str, str, bool]] = {
    "ldm": ("sd2", LDM, "v_prediction", False),
    "sgm": ("sdxl", SGM, "v_prediction", False),
    "sgm, zero terminal snr": ("sdxl", SGM + "  rescale_betas_zero_snr: True\n", "v_prediction", True),
    "sgm, epsilon": ("sdxl", SGM.replace("VScaling", "EpsScaling"), "epsilon", False),
    "something else": ("sdxl", "steps: 3\n", "epsilon", False),
}


@pytest.mark.parametrize("name", YAMLS)
def test_the_yaml_beside_a_file_is_heeded(tmp_path: Path, name: str) -> None:
    family, text, prediction, zero_snr = YAMLS[name]
    path = write_single_file(tmp_path / "m.v2.safetensors", family)
    (tmp_path / "m.v2.yaml").write_text(text)
    found = scheduler_config(open_single_file(path))
    assert (found["prediction_type"], found["rescale_betas_zero_snr"]) == (prediction, zero_snr)


def test_the_file_itself_goes_before_the_yaml(tmp_path: Path) -> None:
    path = write_single_file(tmp_path / "m.safetensors", "sdxl", metadata={"modelspec.prediction_type": "epsilon"})
    (tmp_path / "m.yaml").write_text(SGM)
    assert scheduler_config(open_single_file(path))["prediction_type"] == "epsilon"


def test_a_yaml_of_an_unsupported_process_is_refused(tmp_path: Path) -> None:
    path = write_single_file(tmp_path / "m.safetensors", "sdxl")
    (tmp_path / "m.yaml").write_text(SGM.replace("VScaling", "EDMScaling"))
    with pytest.raises(ModelError, match=r"m\.yaml declares EDMScaling"):
        load_base(path)


def test_what_is_missing_is_told_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_single_file(tmp_path / "m.safetensors", "sd15", without=("first_stage_model.",))
    for name in ("load_tokenizers", "single_file.load_text_encoders", "single_file.load_unet"):
        monkeypatch.setattr(f"dspo_train.models.base.{name}", lambda *args: pytest.fail("something was loaded"))
    with pytest.raises(ModelError, match="VAE is missing"):
        load_base(path)


def test_the_start_line_says_what_the_base_predicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = write_diffusers_folder(tmp_path / "base", "sd15", "v_prediction")
    pairs = write_pairs(tmp_path / "pairs")
    small = {"steps": 1, "lora.rank": 2, "data.resolution": 64, "data.bucket_step": 16, "precision": "fp32"}
    options = [part for name, value in small.items() for part in ("--set", f"{name}={value}")]
    assert main(["train", "--base", str(base), "--pairs", str(pairs), "--out", str(tmp_path / "run"), *options]) == 0
    assert "base base (Stable Diffusion 1.x, v prediction)" in capsys.readouterr().out


Renaming = Callable[[str], str]


@pytest.mark.parametrize(
    "rename", [lambda k: k.removeprefix("text_model."), lambda k: "text_model." + k.removeprefix("text_model.")]
)
@pytest.mark.parametrize("family", ["sd15", "sdxl"])
@pytest.mark.slow
def test_text_encoders_saved_by_any_version_of_transformers_are_read(
    tmp_path: Path, family: Family, rename: Renaming
) -> None:
    """Version 4 wrote `text_model.` before every key, version 5 does not; `text_projection` never had it."""
    folder = write_diffusers_folder(tmp_path / "m", family)
    wanted = load_base(folder).encoder.prompt_id
    for path in folder.glob("text_encoder*/model.safetensors"):
        state = load_file(path)
        save_file({k if k.startswith("text_projection") else rename(k): v for k, v in state.items()}, path)
    assert load_base(folder).encoder.prompt_id == wanted


def test_weights_in_several_files_are_one_model(tmp_path: Path) -> None:
    folder = write_diffusers_folder(tmp_path / "m", "sd15") / "text_encoder"
    state = load_file(folder / "model.safetensors")
    names = sorted(state)
    for number, part in enumerate((names[:10], names[10:]), 1):
        save_file({name: state[name] for name in part}, folder / f"model-{number:05}-of-00002.safetensors")
    (folder / "model.safetensors").unlink()
    found = read_weights(folder)
    assert found.keys() == state.keys() and all(torch.equal(found[name], state[name]) for name in state)


# Every hint is followed: what a message suggests is taken, and works.


def quoted_path(message: str) -> Path:
    found = re.search(r"give (?:the whole|its) folder, ([^;]+)", message)
    assert found, message
    return Path(found[1].strip())


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_part_of_a_pipeline_leads_to_the_whole(tmp_path: Path, part: str) -> None:
    folder = write_diffusers_folder(tmp_path / "my model", "sd15")
    with pytest.raises(ModelError, match="is one part of a diffusers pipeline") as caught:
        load_base(folder / part)
    assert load_base(quoted_path(str(caught.value))).name == "my model"


@pytest.mark.parametrize("part", ["unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"])
def test_the_file_of_a_part_leads_to_the_whole(tmp_path: Path, part: str) -> None:
    folder = write_diffusers_folder(tmp_path / "my model", "sd15")
    with pytest.raises(
        ModelError, match=r"is (one component of a diffusers pipeline|a VAE alone|a text encoder alone)"
    ) as caught:
        load_base(folder / f"{part}.safetensors")
    assert load_base(quoted_path(str(caught.value))).name == "my model"


def test_a_folder_suggests_only_a_file_that_would_be_taken(tmp_path: Path) -> None:
    save_file({"x.lora_down.weight": ONE, "x.lora_up.weight": ONE.clone()}, tmp_path / "a lora.safetensors")
    with pytest.raises(ModelError, match=r"scheduler_config\.json missing$"):
        load_base(tmp_path)
    write_single_file(tmp_path / "z model.safetensors", "sd15")
    with pytest.raises(ModelError, match=r"did you mean the file z model\.safetensors in it") as caught:
        load_base(tmp_path)
    name = re.search(r"the file (.+) in it", str(caught.value))
    assert name and load_base(tmp_path / name[1]).name == "z model"


@pytest.mark.slow
def test_another_prediction_type_is_set_by_the_flag_that_the_warning_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The embedded model predicts v; read as epsilon it is noticed, and the named flag mends it."""
    root = Path(__file__).parents[1]
    common = ["train", "--base", str(root / "dspo_train/demo/model"), "--cache", str(tmp_path / "cache")]
    common += ["--pairs", str(root / "example_pairs/shapes-large-and-dark"), "--set", "steps=1"]
    common += ["--set", "data.resolution=64", "--set", "data.bucket_step=16", "--set", "precision=fp32"]
    assert main([*common, "--out", str(tmp_path / "a"), "--prediction", "epsilon"]) == 0
    hint = re.search(r"Set (--prediction) to (v_prediction)", in_words(caplog.text))
    assert hint
    caplog.clear()
    assert main([*common, "--out", str(tmp_path / "b"), *hint.groups()]) == 0
    assert "predicts like" not in caplog.text


# Models of the Hugging Face cache, laid out as huggingface_hub does.


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with one model, `some-org/tiny-model`."""
    folder = tmp_path / "hub" / "models--some-org--tiny-model"
    write_diffusers_folder(folder / "snapshots" / ("0123456789" * 4), "sd15")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0123456789" * 4)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    return folder


def test_a_hub_name_is_taken_from_the_local_cache_and_names_the_base(cache: Path) -> None:
    base = load_base(Path("some-org/tiny-model"))
    assert base.name == "tiny-model"
    assert read_blueprint(Path("some-org/tiny-model")).family is base.family


def test_a_snapshot_is_called_by_its_model_not_by_its_commit(cache: Path) -> None:
    assert load_base(cache / "snapshots" / ("0123456789" * 4)).name == "tiny-model"


def test_a_hub_name_that_is_not_there_says_how_to_get_it(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError, match="download it with 'hf download some-org/other'"):
        load_base(Path("some-org/other"))
    (Path("p.txt")).write_text("a dog\n")
    assert main(["sample", "--base", "some-org/other", "--prompts", "p.txt", "--out", "o"]) == USER
    assert "error: some-org/other: no such file or folder, and no model of that name" in capsys.readouterr().err


def test_a_path_that_is_no_hub_name_is_only_a_path(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    for name in ("gone.safetensors", "a/b/c", "./a/b", "models/gone"):
        with pytest.raises(ModelError, match=r"no such file or folder; give a diffusers folder"):
            load_base(tmp_path / name)


@pytest.mark.parametrize("name", ["models/sd15.safetensors", "hub/no-such", "a/b.ckpt"])
def test_a_misspelt_relative_path_is_not_taken_for_a_hub_name(cache: Path, name: str) -> None:
    with pytest.raises(ModelError, match=r"no such file or folder; give a diffusers folder"):
        load_base(Path(name))


@pytest.mark.parametrize("given", ["", "snapshots"])
def test_a_models_folder_in_the_cache_leads_to_its_snapshot(cache: Path, given: str) -> None:
    assert load_base(cache / given).name == "tiny-model"


@pytest.mark.parametrize(
    "address", ["https://huggingface.co/some-org/tiny-model", "https://huggingface.co/some-org/tiny-model/tree/main"]
)
def test_an_address_is_read_as_the_name_in_it(cache: Path, address: str) -> None:
    assert load_base(Path(address)).name == "tiny-model"


def test_an_incomplete_snapshot_says_so(cache: Path) -> None:
    shutil.rmtree(cache / "snapshots" / ("0123456789" * 4) / "vae")
    with pytest.raises(ModelError, match=r"vae/config\.json missing; the download is incomplete: repeat it with 'hf"):
        load_base(Path("some-org/tiny-model"))


def test_a_run_records_the_models_name(cache: Path, tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs")
    with open_session(
        Job(DiffusersSource(Path("some-org/tiny-model")), pairs, tmp_path / "run", config(steps=1))
    ) as session:
        assert session.model.name == "tiny-model"


def test_reduced_models_still_load(tmp_path: Path) -> None:
    """The checks above refuse none of the shapes that are supported."""
    unet = tiny_unet("sdxl", transformer_layers_per_block=[1, 2], mid_block_type=None)
    assert load_base(write_diffusers_folder(tmp_path / "m", "sdxl", unet=unet)).family.name == "sdxl"
