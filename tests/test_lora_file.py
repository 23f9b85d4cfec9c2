"""The file: what other programs find in it, what we read back, and what is refused."""

from __future__ import annotations

import datetime
import errno
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from peft import LoraConfig
from peft.tuners.lora import LoraLayer as PeftLayer
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_lora import full_size_unet, predict, random_lora, unet_inputs
from tiny_models import Family, tiny_text_encoders, tiny_tokenizer, tiny_unet, tiny_vae
from torch import Tensor

from dspo_train import files
from dspo_train.config import LoraSpec, Targets
from dspo_train.exceptions import LoraFileError, RunError
from dspo_train.files.published import check_metadata
from dspo_train.lora.attach import LoraLayer, applied, attached
from dspo_train.lora.formats import unet_format
from dspo_train.lora.keys import kohya_name
from dspo_train.lora.layers import fresh_weights
from dspo_train.lora.writing import LoraFacts, load_lora, lora_metadata, save_lora, tensor_hash
from dspo_train.models.families import FAMILIES as KINDS
from dspo_train.models.unet_names import BlockLayout, ldm_path

FAMILIES: tuple[Family, ...] = ("sd15", "sd2", "sdxl")
TARGETS: tuple[Targets, ...] = ("attention", "attention+mlp", "attention+mlp+proj")
PIPELINES: dict[str, Any] = {
    "sd15": StableDiffusionPipeline,
    "sd2": StableDiffusionPipeline,
    "sdxl": StableDiffusionXLPipeline,
}
QUERY = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"

FACTS = LoraFacts(
    model=KINDS["sd15"].lora,
    name="my taste",
    base_name="some-model.safetensors",
    base_fingerprint="ab12",
    prediction="epsilon",
    objective="dspo",
    objective_args={"strength": 10.0},
    dataset_hash="cd34",
    pairs=50,
    resolution=512,
    steps=400,
    seed=7,
    learning_rate=1e-4,
    optimizer="adamw",
    precision="bf16",
    targets="attention",
    version="0.1.0",
    tags={"a dark circle": 12, "and/or 1/2": 3},
    date=datetime.datetime(2025, 1, 2, 3, 4, 5),
)


def save(path: Path, weights: dict[str, LoraLayer], unet: UNet2DConditionModel, family: str, **options: Any) -> Path:
    names = unet_format(KINDS[family], unet)
    return save_lora(path, weights, format=names, metadata={"ss_v2": "False"}, **options)


def equal(a: dict[str, LoraLayer], b: dict[str, LoraLayer]) -> bool:
    return list(a) == list(b) and all(
        torch.equal(a[p].down, b[p].down) and torch.equal(a[p].up, b[p].up) and a[p].alpha == b[p].alpha for p in a
    )


@contextmanager
def diffusers_warnings() -> Iterator[list[str]]:
    """What diffusers' loaders complain of, such as keys they could not use."""
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("diffusers")
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)


def tiny_pipeline(family: Family, folder: Path) -> Any:
    tokenizer, encoders = tiny_tokenizer(folder), tiny_text_encoders(family)
    parts: dict[str, Any] = {
        "vae": tiny_vae(family=family),
        "unet": tiny_unet(family),
        "scheduler": DDIMScheduler(steps_offset=1, clip_sample=False),
        "text_encoder": encoders[0],
        "tokenizer": tokenizer,
    }
    if family == "sdxl":
        return StableDiffusionXLPipeline(**parts, text_encoder_2=encoders[1], tokenizer_2=tokenizer)
    parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return StableDiffusionPipeline(**parts)


# --- what others find in the file ---


@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.slow
def test_diffusers_reproduces_our_adapter(tmp_path: Path, family: Family, targets: Targets) -> None:
    unet = tiny_unet(family)
    inputs, weights = unet_inputs(unet), random_lora(unet, targets)
    with attached(unet, LoraSpec(), seed=0, initial=weights) as adapter:
        ours = predict(unet, inputs)
        path = save(tmp_path / "a.safetensors", adapter.weights(), unet, family, dtype=torch.float32)
    with diffusers_warnings() as messages:
        state, alphas, *_ = PIPELINES[family].lora_state_dict(str(path), unet_config=unet.config)
        PIPELINES[family].load_lora_into_unet(state, alphas, unet)
    assert messages == []
    assert len(state) == 2 * len(weights)
    assert len(alphas) == len(weights)
    assert [name for name, module in unet.named_modules() if isinstance(module, PeftLayer)] == list(weights)
    theirs = predict(unet, inputs)
    assert (theirs - ours).abs().max() < 1e-4
    assert (ours - predict(tiny_unet(family), inputs)).abs().max() > 1e-2  # the LoRA does something


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_diffusers_pipeline_loads_the_default_file(tmp_path: Path, family: Family) -> None:
    """`load_lora_weights` on the float16 file as a user would call it."""
    unet = tiny_unet(family)
    inputs, weights = unet_inputs(unet), random_lora(unet, "attention+mlp+proj")
    with applied(unet, weights):
        ours = predict(unet, inputs)
    path = save(tmp_path / "taste.safetensors", weights, unet, family)
    pipeline = tiny_pipeline(family, tmp_path)
    with diffusers_warnings() as messages:
        pipeline.load_lora_weights(str(path))
    assert all(message.startswith("No LoRA keys associated to CLIPTextModel") for message in messages)
    torch.testing.assert_close(predict(pipeline.unet, inputs), ours, rtol=0, atol=2e-3)
    assert len([m for m in pipeline.unet.modules() if isinstance(m, PeftLayer)]) == len(weights)


@pytest.mark.parametrize(
    ("family", "layers", "example"),
    [
        ("sd15", 128, "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"),
        ("sdxl", 560, "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"),
    ],
)
def test_keys_of_the_full_models(tmp_path: Path, family: str, layers: int, example: str) -> None:
    unet = full_size_unet(family)
    path = save(tmp_path / "a.safetensors", fresh_weights(unet, LoraSpec(rank=1), seed=0), unet, family)
    with safe_open(str(path), "pt") as file:
        keys = set(file.keys())
    assert len(keys) == 3 * layers
    assert {f"{example}.lora_down.weight", f"{example}.lora_up.weight", f"{example}.alpha"} <= keys
    assert all(key.startswith("lora_unet_") for key in keys)


def test_the_tensors(tmp_path: Path) -> None:
    """Float16 factors, float32 scalars for alpha, four dimensions for SD1.5's 1x1 convolutions."""
    unet = tiny_unet("sd15")
    weights = random_lora(unet, "attention+mlp+proj", rank=4, alpha=3.0)
    tensors = load_file(save(tmp_path / "a.safetensors", weights, unet, "sd15"))
    conv, linear = (
        "lora_unet_mid_block_attentions_0_proj_in",
        kohya_name(QUERY, BlockLayout.of(unet.config), "diffusers"),
    )
    assert tensors[f"{conv}.lora_down.weight"].shape == (4, 64, 1, 1)
    assert tensors[f"{conv}.lora_up.weight"].shape == (64, 4, 1, 1)
    assert tensors[f"{linear}.lora_down.weight"].shape == (4, 64)
    assert {t.dtype for key, t in tensors.items() if not key.endswith(".alpha")} == {torch.float16}
    alpha = tensors[f"{linear}.alpha"]
    assert (alpha.dtype, alpha.shape, float(alpha)) == (torch.float32, (), 3.0)
    assert torch.equal(tensors[f"{linear}.lora_up.weight"], weights[QUERY].up.half())


def test_the_hash_covers_the_tensors_alone(tmp_path: Path) -> None:
    unet = tiny_unet("sd15")
    weights = random_lora(unet)
    hashes = []
    for n, metadata in enumerate(({"ss_v2": "False"}, {"ss_v2": "False", "ss_training_comment": "longer"})):
        names = unet_format(KINDS["sd15"], unet)
        path = save_lora(tmp_path / f"{n}.safetensors", weights, format=names, metadata=metadata)
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        written = json.loads(data[8 : 8 + length])["__metadata__"]
        assert written["sshs_model_hash"] == hashlib.sha256(data[8 + length :]).hexdigest() == tensor_hash(data)
        assert written["modelspec.hash_sha256"] == "0x" + written["sshs_model_hash"]
        hashes.append(written["sshs_model_hash"])
    assert hashes[0] == hashes[1]


def test_metadata() -> None:
    weights = random_lora(tiny_unet("sd15"), rank=4, alpha=3.0)
    metadata = lora_metadata(FACTS, weights)
    expected = {
        "ss_v2": "False",
        "ss_base_model_version": "sd_1.5",
        "ss_network_module": "networks.lora",
        "ss_network_dim": "4",
        "ss_network_alpha": "3",
        "ss_output_name": "my taste",
        "ss_num_train_images": "100",
        "ss_learning_rate": "0.0001",
        "ss_resolution": "(512, 512)",
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.prediction_type": "epsilon",
        "modelspec.date": "2025-01-02T03:04:05",
        "dspo.objective": "dspo",
        "dspo.objective_args": '{"strength": 10.0}',
        "dspo.dataset_hash": "cd34",
        "dspo.version": "0.1.0",
        "dspo.base": "some-model.safetensors",
        "dspo.base_fingerprint": "ab12",
    }
    assert expected.items() <= metadata.items()
    assert json.loads(metadata["ss_tag_frequency"])["my taste"]["a dark circle"] == 12
    assert json.loads(metadata["ss_network_args"]) == {"targets": "attention"}
    assert all(isinstance(value, str) and value for value in metadata.values())


@pytest.mark.parametrize(
    ("family", "prediction", "version", "architecture", "kind"),
    [
        ("sd15", "epsilon", "sd_1.5", "stable-diffusion-v1/lora", "epsilon"),
        ("sd2", "v_prediction", "sd_v2", "stable-diffusion-v2-768-v/lora", "v"),
        ("sd2", "epsilon", "sd_v2", "stable-diffusion-v2-512/lora", "epsilon"),
        ("sdxl", "v_prediction", "sdxl_base_v1-0", "stable-diffusion-xl-v1-base/lora", "v"),
    ],
)
def test_metadata_of_the_families(family: str, prediction: Any, version: str, architecture: str, kind: str) -> None:
    mixed = {
        "a": LoraLayer(torch.zeros(2, 3), torch.zeros(3, 2), 1.0),
        "b": LoraLayer(torch.zeros(1, 3), torch.zeros(3, 1), 1.0),
    }
    found = lora_metadata(replace(FACTS, model=KINDS[family].lora, prediction=prediction), mixed)
    assert found["ss_base_model_version"] == version
    assert found["modelspec.architecture"] == architecture
    assert found["modelspec.prediction_type"] == kind
    assert found["ss_v2"] == str(family == "sd2")
    assert (found["ss_network_dim"], found["ss_network_alpha"]) == ("Dynamic", "1")


@pytest.mark.parametrize(
    "value",
    [
        "/home/ann/model.safetensors",
        "/models",
        "trained from /mnt/data/set",
        "--out=/mnt/data",
        "C:\\Users\\ann",
        "c:/users/ann",
        "\\\\nas\\share",
        "//nas/share",
        "~/models",
        "file:///etc",
        json.dumps({"dir": "C:\\data\\x"}),
        json.dumps({"/home/ann/set": {"a": 1}}),
        json.dumps(["\\\\nas\\share"]),
    ],
)
def test_absolute_paths_are_refused(tmp_path: Path, value: str) -> None:
    unet = tiny_unet("sd15")
    with pytest.raises(LoraFileError, match=r"'dspo\.base' holds an absolute path"):
        save_lora(
            tmp_path / "a.safetensors",
            random_lora(unet),
            format=unet_format(KINDS["sd15"], unet),
            metadata={"dspo.base": value},
        )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_facts_is_found_before_anything_is_written() -> None:
    with pytest.raises(LoraFileError, match=r"'dspo\.base' holds an absolute path|'ss_sd_model_name' holds"):
        lora_metadata(replace(FACTS, base_name="/models/sd/base.safetensors"), random_lora(tiny_unet("sd15")))


@pytest.mark.parametrize(
    "value",
    [
        "models/a.safetensors",
        "and/or",
        "1/2, 3/4",
        "https://example.org/a/b",
        "a: b",
        "2025-01-02T03:04:05",
        "\\o/ :/ \\m/",
        "/\\/\\/\\",
        json.dumps({"a\nb: \\n": "c\\d"}),
        "ratio 16:9",
        "w/o text",
    ],
)
def test_words_with_slashes_are_no_paths(value: str) -> None:
    check_metadata({"ss_training_comment": value})


def test_metadata_must_be_text() -> None:
    with pytest.raises(LoraFileError, match=r"'ss_steps' must be text, got int"):
        check_metadata({"ss_steps": 5})  # type: ignore[dict-item]


# --- writing ---


def overflowing(layer: LoraLayer) -> LoraLayer:
    return replace(layer, up=torch.full_like(layer.up, 7e4))


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (overflowing, {}, r"7e\+04 is more than float16 can hold \(6.55e\+04\); save as float32 or bfloat16"),
        (overflowing, {"dtype": torch.bfloat16}, None),
        (lambda x: replace(x, up=torch.full_like(x.up, float("nan"))), {}, "not finite: the training diverged"),
        (lambda x: replace(x, up=torch.full_like(x.up, 1e-9)), {}, "every value is too small for float16"),
        (lambda x: replace(x, up=torch.full_like(x.up, 1e-9)), {"dtype": torch.float32}, None),
        (lambda x: replace(x, up=torch.zeros_like(x.up)), {}, None),
        (lambda x: replace(x, alpha=float("inf")), {}, "alpha: the LoRA holds values that are not finite"),
    ],
)
def test_values_that_the_file_cannot_hold_are_refused(
    tmp_path: Path, change: Callable[[LoraLayer], LoraLayer], options: dict[str, Any], message: str | None
) -> None:
    unet = tiny_unet("sd15")
    weights = random_lora(unet)
    weights[QUERY] = change(weights[QUERY])
    path = tmp_path / "a.safetensors"
    if message is None:
        assert list(load_lora(save(path, weights, unet, "sd15", **options), unet).weights) == list(weights)
        return
    with pytest.raises(LoraFileError, match=message):
        save(path, weights, unet, "sd15", **options)
    assert list(tmp_path.iterdir()) == []


def fail_with(code: int) -> Callable[..., None]:
    def fail(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize(
    ("function", "code", "message"),
    [
        ("fsync", errno.ENOSPC, r"the disk is full: could not write a\.safetensors"),
        ("replace", errno.EACCES, r"could not write .*a\.safetensors: Permission denied"),
    ],
)
def test_a_failed_write_leaves_the_earlier_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, code: int, message: str
) -> None:
    unet = tiny_unet("sd15")
    path = save(tmp_path / "a.safetensors", random_lora(unet), unet, "sd15")
    earlier = path.read_bytes()
    monkeypatch.setattr(files.writing.os, function, fail_with(code))
    with pytest.raises(RunError, match=message):
        save(path, random_lora(unet, seed=1), unet, "sd15")
    assert path.read_bytes() == earlier
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1] + bytes([data[-1] ^ 0x40]), "differs"),
        (lambda data: data[: len(data) // 2], "not written correctly"),
        (lambda data: data.replace(b"proj_in", b"proj_on"), "its keys differ"),
    ],
)
def test_a_file_that_reads_back_differently_is_not_put_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes], message: str
) -> None:
    unet = tiny_unet("sd15")
    write = files.write_bytes
    monkeypatch.setattr(files, "write_bytes", lambda path, data, check: write(path, damage(data), check))
    with pytest.raises(LoraFileError, match=message):
        save(tmp_path / "a.safetensors", random_lora(unet, "attention+mlp+proj"), unet, "sd15")
    assert list(tmp_path.iterdir()) == []


def test_saving_makes_folders_replaces_and_names_its_mistakes(tmp_path: Path) -> None:
    unet = tiny_unet("sd15")
    path = tmp_path / "a" / "b" / ("long" * 60 + ".safetensors")
    for seed in (0, 1):
        weights = random_lora(unet, seed=seed)
        assert save(path, weights, unet, "sd15", dtype=torch.float32) == path
        assert equal(load_lora(path, unet).weights, weights)
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(LoraFileError, match=r"must end in \.safetensors"):
        save(tmp_path / "a.pt", weights, unet, "sd15")
    with pytest.raises(LoraFileError, match="holds no layers"):
        save(path, {}, unet, "sd15")


# --- reading ---

KOHYA = ("lora_down.weight", "lora_up.weight")
PEFT = ("lora_A.weight", "lora_B.weight")
Namer = Callable[[str, BlockLayout], str]

DIALECTS: dict[str, tuple[Namer, tuple[str, str]]] = {
    "kohya, diffusers blocks": (lambda p, layout: kohya_name(p, layout, "diffusers"), tuple(f".{k}" for k in KOHYA)),
    "kohya, LDM blocks": (lambda p, layout: kohya_name(p, layout, "ldm"), tuple(f".{k}" for k in KOHYA)),
    "lycoris": (lambda p, _: "lycoris_" + p.replace(".", "_"), tuple(f".{k}" for k in KOHYA)),
    "diffusers": (lambda p, _: f"unet.{p}", tuple(f".{k}" for k in PEFT)),
    "diffusers, bare": (lambda p, _: p, tuple(f".{k}" for k in PEFT)),
    "diffusers, lora.down": (lambda p, _: f"unet.{p}", (".lora.down.weight", ".lora.up.weight")),
    "diffusers, linear layer": (
        lambda p, _: f"unet.{p}",
        (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
    ),
    "diffusers, processors": (
        lambda p, _: "unet." + p.removesuffix(".0").replace(".to_", ".processor.to_"),
        ("_lora.down.weight", "_lora.up.weight"),
    ),
    "peft": (lambda p, _: f"base_model.model.{p}", tuple(f".{k}" for k in PEFT)),
    "peft, within a pipeline": (lambda p, _: f"unet.base_model.model.{p}", tuple(f".{k}" for k in PEFT)),
    "peft, named adapter": (lambda p, _: f"base_model.model.{p}", (".lora_A.default.weight", ".lora_B.default.weight")),
    "generic": (lambda p, layout: "diffusion_model." + ldm_path(p, layout), tuple(f".{k}" for k in KOHYA)),
}  # type: ignore[assignment]


def dialect(
    name: str, weights: dict[str, LoraLayer], unet: UNet2DConditionModel, alpha: bool = True
) -> dict[str, Tensor]:
    namer, (down, up) = DIALECTS[name]
    layout = BlockLayout.of(unet.config)
    tensors: dict[str, Tensor] = {}
    for path, layer in weights.items():
        stem = namer(path, layout)
        tensors |= {stem + down: layer.down.clone(), stem + up: layer.up.clone()}
        if alpha:
            tensors[f"{stem}.alpha"] = torch.tensor(layer.alpha)
    return tensors


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.slow
def test_every_dialect_gives_the_same_weights(tmp_path: Path, name: str, family: Family) -> None:
    unet = tiny_unet(family)
    weights = random_lora(unet)
    path = tmp_path / "a.safetensors"
    save_file(dialect(name, weights, unet), path)
    loaded = load_lora(path, unet)
    assert equal(loaded.weights, weights)
    assert loaded.unused == ()
    assert loaded.unused_summary == ""


def test_without_an_alpha_the_scale_is_one(tmp_path: Path) -> None:
    unet = tiny_unet("sd15")
    path = tmp_path / "a.safetensors"
    save_file(dialect("diffusers", random_lora(unet, rank=4), unet, alpha=False), path)
    assert {layer.alpha for layer in load_lora(path, unet).weights.values()} == {4.0}


@pytest.mark.parametrize("rs_lora", [False, True])
def test_a_lora_saved_by_diffusers_with_its_own_alpha(tmp_path: Path, rs_lora: bool) -> None:
    """diffusers keeps alpha in a note in the metadata; the file itself has none."""
    unet = tiny_unet("sd15")
    inputs = unet_inputs(unet)
    unet.add_adapter(
        LoraConfig(
            r=4,
            lora_alpha=12,
            alpha_pattern={"attn2.to_q": 2},
            use_rslora=rs_lora,
            target_modules=["to_q", "to_v"],
            init_lora_weights=False,
        )
    )
    theirs = predict(unet, inputs)
    unet.save_lora_adapter(tmp_path)
    unet.delete_adapters("default")
    loaded = load_lora(tmp_path / "pytorch_lora_weights.safetensors", unet := tiny_unet("sd15"))
    assert loaded.unused == ()
    if "lora_adapter_metadata" not in loaded.metadata:
        pytest.skip("this version of diffusers keeps no note of alpha")
    factor = 2 if rs_lora else 1  # sqrt(rank)
    assert {layer.alpha for layer in loaded.weights.values()} == {12.0 * factor, 2.0 * factor}
    with applied(unet, loaded.weights):
        torch.testing.assert_close(predict(unet, inputs), theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_every_precision_is_read_as_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    unet = tiny_unet("sdxl")
    weights = random_lora(unet)
    loaded = load_lora(save(tmp_path / "a.safetensors", weights, unet, "sdxl", dtype=dtype), unet).weights
    rounded = {p: replace(w, down=w.down.to(dtype).float(), up=w.up.to(dtype).float()) for p, w in weights.items()}
    assert equal(loaded, rounded)
    assert {layer.down.dtype for layer in loaded.values()} == {torch.float32}


def test_reading_while_an_adapter_is_on(tmp_path: Path) -> None:
    unet = tiny_unet("sd15")
    weights = random_lora(unet, "attention+mlp+proj")
    path = save(tmp_path / "a.safetensors", weights, unet, "sd15", dtype=torch.float32)
    with attached(unet, LoraSpec(rank=2), seed=0):
        assert equal(load_lora(path, unet).weights, weights)


def test_convolutions_of_three_by_three_are_read_and_work(tmp_path: Path) -> None:
    """A LoCon without a middle factor is a plain LoRA on convolutions."""
    unet, generator = tiny_unet("sd15"), torch.Generator().manual_seed(0)
    down = torch.randn(2, 32, 3, 3, generator=generator)
    up = torch.randn(32, 2, 1, 1, generator=generator)
    stem = "lora_unet_down_blocks_0_resnets_0_conv1"
    path = tmp_path / "a.safetensors"
    save_file(
        {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up, f"{stem}.alpha": torch.tensor(1.0)}, path
    )
    weights = load_lora(path, unet).weights
    assert list(weights) == ["down_blocks.0.resnets.0.conv1"]
    inputs, merged = unet_inputs(unet), tiny_unet("sd15")
    with torch.no_grad():
        update = torch.einsum("or,rikl->oikl", up.flatten(1), down)
        merged.get_submodule("down_blocks.0.resnets.0.conv1").weight += 0.5 * update  # type: ignore[operator]
    with applied(unet, weights):
        torch.testing.assert_close(predict(unet, inputs), predict(merged, inputs), rtol=0, atol=1e-4)


def test_matrices_and_one_by_one_convolutions_are_the_same(tmp_path: Path) -> None:
    unet = tiny_unet("sd15")
    weights = random_lora(unet, "attention+mlp+proj")
    tensors = dialect("kohya, diffusers blocks", weights, unet)
    reshaped = {
        k: v if v.ndim == 0 else v.flatten(1) if v.ndim == 4 else v[:, :, None, None] for k, v in tensors.items()
    }
    path = tmp_path / "a.safetensors"
    save_file({k: v.contiguous() for k, v in reshaped.items()}, path)
    assert equal(load_lora(path, unet).weights, weights)


def test_unused_keys_are_named(tmp_path: Path) -> None:
    unet = tiny_unet("sd15")
    weights = random_lora(unet)
    tensors = dialect("kohya, diffusers blocks", weights, unet)
    stem, other = (
        kohya_name(p, BlockLayout.of(unet.config), "diffusers") for p in (QUERY, QUERY.replace("to_q", "to_k"))
    )
    extra = {
        "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.zeros(2, 8),
        "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": torch.zeros(8, 2),
        f"{stem}.dora_scale": torch.ones(64, 1),
        f"{other}.lora_mid.weight": torch.zeros(4, 4, 3, 3),
        "lora_unet_down_blocks_0_resnets_0_norm1.diff": torch.zeros(32),
        "lora_unet_down_blocks_7_resnets_0_conv1.lora_down.weight": torch.zeros(2, 8),
        "bundle_emb.x": torch.zeros(1),
    }
    path = tmp_path / "a.safetensors"
    save_file({**tensors, **extra}, path)
    loaded = load_lora(path, unet)
    locon = {f"{other}.{name}" for name in ("lora_down.weight", "lora_up.weight", "alpha")}
    assert set(loaded.unused) == set(extra) | locon
    assert weights.keys() - loaded.weights.keys() == {QUERY.replace("to_q", "to_k")}
    for words in (
        "2 of the text encoder",
        "1 of DoRA (magnitudes)",
        "1 of LoCon (middle factors)",
        "1 of an unknown kind",
    ):
        assert words in loaded.unused_summary


def with_tensor(key: str, value: Tensor | None) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    def change(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {k: v for k, v in {**tensors, key: value}.items() if v is not None}

    return change


STEM = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
BROKEN_TENSORS: dict[str, tuple[Callable[[dict[str, Tensor]], dict[str, Tensor]], str]] = {
    "another size": (
        with_tensor(f"{STEM}.lora_down.weight", torch.zeros(4, 99)),
        r"a\.safetensors: mid_block.*to_q: .*down \(4, 99\).* does not fit this base, which needs down \(4, 64\)",
    ),
    "two ranks": (
        with_tensor(f"{STEM}.lora_up.weight", torch.zeros(64, 3)),
        r"\(4, 64\).*\(64, 3\) are not two factors",
    ),
    "a scalar": (with_tensor(f"{STEM}.lora_down.weight", torch.tensor(1.0)), r"\(\).* are not two factors"),
    "not finite": (with_tensor(f"{STEM}.lora_up.weight", torch.full((64, 4), float("inf"))), "not finite"),
    "an alpha of two": (with_tensor(f"{STEM}.alpha", torch.ones(2)), r"alpha has shape \(2,\)"),
    "whole numbers": (
        with_tensor(f"{STEM}.lora_up.weight", torch.zeros(64, 4, dtype=torch.int8)),
        r"torch\.int8; float16, bfloat16 and float32 are read",
    ),
    "one layer twice": (
        with_tensor(f"unet.{QUERY}.lora_B.weight", torch.zeros(64, 4)),
        "both give the up of one layer",
    ),
    "another text width": (
        with_tensor(
            "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight", torch.zeros(4, 2048)
        ),
        r"this LoRA was made for SDXL, but this base is a model whose text embedding is 32 wide",
    ),
    "a checkpoint": (
        lambda _: {"model.diffusion_model.out.0.weight": torch.zeros(1)},
        "not a LoRA but a whole checkpoint; give it as the base",
    ),
    "empty": (lambda _: {}, "not a LoRA; it holds no tensors"),
    "only a text encoder": (
        lambda _: {"lora_te_a.lora_up.weight": torch.zeros(1, 1), "lora_te_a.lora_down.weight": torch.zeros(1, 1)},
        "no layer of this LoRA fits this base; the file holds 2 tensors of the text encoder",
    ),
    "up without down": (lambda _: {f"{STEM}.lora_up.weight": torch.zeros(64, 4)}, "no layer of this LoRA fits"),
}


@pytest.mark.parametrize("name", BROKEN_TENSORS)
def test_loras_that_do_not_fit_are_refused(tmp_path: Path, name: str) -> None:
    change, message = BROKEN_TENSORS[name]
    unet = tiny_unet("sd15")
    path = tmp_path / "a.safetensors"
    save_file(change(dialect("kohya, diffusers blocks", random_lora(unet), unet)), path)
    with pytest.raises(LoraFileError, match=message):
        load_lora(path, unet)


def rewritten_header(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


BROKEN_BYTES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated tensors": (lambda data: data[:-10], r"truncated: its header promises \d+ bytes, but it has \d+"),
    "truncated header": (lambda data: data[:50], "truncated within its header"),
    "nothing": (lambda data: b"", "cannot be read as safetensors: 0 bytes"),
    "a web page": (lambda data: b"<!DOCTYPE html>", "is a web page, not a model"),
    "an archive": (lambda data: b"PK\x03\x04" + data, "is an archive; unpack it"),
    "no JSON": (lambda data: data[:9] + b"!" + data[10:], "header is broken"),
    "no offsets": (lambda data: rewritten_header(data, lambda h: h.update(x={"dtype": "F32"})), "header is broken"),
    "overlap": (
        lambda data: rewritten_header(data, lambda h: h[f"{STEM}.alpha"].update(data_offsets=[0, 4])),
        "the file is broken",
    ),
    "a broken note": (
        lambda data: rewritten_header(data, lambda h: h.update(__metadata__={"lora_adapter_metadata": "{"})),
        "lora_adapter_metadata is broken",
    ),
}


@pytest.mark.parametrize("name", BROKEN_BYTES)
def test_broken_files_are_refused(tmp_path: Path, name: str) -> None:
    change, message = BROKEN_BYTES[name]
    unet = tiny_unet("sd15")
    path = tmp_path / "a.safetensors"
    save_file(dialect("kohya, diffusers blocks", random_lora(unet), unet), path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(LoraFileError, match=message) as caught:
        load_lora(path, unet)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_an_error_of_the_users(tmp_path: Path) -> None:
    with pytest.raises(LoraFileError, match=r"none\.safetensors: the LoRA cannot be read"):
        load_lora(tmp_path / "none.safetensors", tiny_unet("sd15"))


def test_an_sdxl_lora_on_sd15_is_called_that(tmp_path: Path) -> None:
    sdxl, sd15 = full_size_unet("sdxl"), full_size_unet("sd15")
    path = save(tmp_path / "a.safetensors", fresh_weights(sdxl, LoraSpec(rank=1), seed=0), sdxl, "sdxl")
    with pytest.raises(LoraFileError, match=r"made for SDXL, but this base is Stable Diffusion 1\.x"):
        load_lora(path, sd15)
    assert len(load_lora(path, sdxl).weights) == 560
