"""Prompt, seed and settings of image files that Pillow wrote in every form that generators use; and hostile ones."""

from __future__ import annotations

import json
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from dspo_train.pairs import image_metadata as module
from dspo_train.pairs.comfy_recipe import Recipe, recipe_of_graph, recipe_upstream
from dspo_train.pairs.image_metadata import image_metadata


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


SETTINGS = {"steps": 20, "cfg": 6.5, "sampler": "euler", "scheduler": "normal", "denoise": 1.0, "model": "sd15.ckpt"}
GRAPH = {
    "1": node("CheckpointLoaderSimple", ckpt_name="sd15.ckpt"),
    "2": node("LoraLoader", model=["1", 0], clip=["1", 1], lora_name="fur.safetensors"),
    "3": node(
        "KSampler",
        model=["2", 0],
        positive=["6", 0],
        negative=["7", 0],
        latent_image=["9", 0],
        seed=2**63 + 1,
        steps=20,
        cfg=6.5,
        sampler_name="euler",
        scheduler="normal",
        denoise=1.0,
    ),
    "6": node("CLIPTextEncode", text=" a red fox ", clip=["2", 1]),
    "7": node("CLIPTextEncode", text="bad", clip=["2", 1]),
    "9": node("EmptyLatentImage", width=64, height=48, batch_size=4),
}
EXPECTED = Recipe("a red fox", 2**63 + 1, SETTINGS)
PARAMETERS = (
    "a red fox, 狐\non snow\nNegative prompt: bad\n"
    "Steps: 20, Sampler: Euler a, Schedule type: Karras, CFG scale: 7, Seed: 123, Size: 64x48, "
    'Model hash: 1234, Model: sd15, Denoising strength: 0.4, Version: v1.9, Lora hashes: "fur: 12"'
)
A1111 = Recipe(
    "a red fox, 狐\non snow",
    123,
    {"steps": 20, "cfg": 7, "sampler": "Euler a", "scheduler": "Karras", "denoise": 0.4, "model": "sd15"},
)
SWARM = {"prompt": "a red fox", "seed": 5, "steps": 12, "cfgscale": 3.5, "sampler": "euler", "model": "sd15"}
INVOKE = {"positive_prompt": "a red fox", "seed": 5, "steps": 12, "cfg_scale": 3.5, "scheduler": "euler"}


def custom_sampler() -> dict[str, Any]:
    """As ComfyUI's Flux workflows have it: every value in a node of its own, the steps in a primitive."""
    return {
        "3": node(
            "SamplerCustomAdvanced",
            noise=["20", 0],
            guider=["21", 0],
            sampler=["22", 0],
            sigmas=["23", 0],
            latent_image=["9", 0],
        ),
        "20": node("RandomNoise", noise_seed=["26", 0]),
        "21": node("CFGGuider", model=["24", 0], positive=["6", 0], negative=["7", 0], cfg=3.0),
        "22": node("KSamplerSelect", sampler_name="dpmpp_2m"),
        "23": node("BasicScheduler", model=["24", 0], scheduler="beta", steps=["25", 0], denoise=0.5),
        "24": node("UNETLoader", unet_name="flux.safetensors"),
        "25": node("PrimitiveInt", value=28),
        "26": node("Seed (rgthree)", seed=77),
        "6": GRAPH["6"],
        "7": GRAPH["7"],
        "9": GRAPH["9"],
    }


def save_png(path: Path, **chunks: str) -> Path:
    info = PngImagePlugin.PngInfo()
    for key, value in chunks.items():
        if key == "compressed":
            info.add_text("prompt", value, zip=True)
        elif key == "international":
            info.add_itxt("prompt", value)
        else:
            info.add_text(key, value)
    Image.new("RGB", (64, 48)).save(path, pnginfo=info)
    return path


def save_exif(path: Path, tag: int, value: str | bytes) -> Path:
    exif = Image.Exif()
    if tag == 0x9286:
        exif[0x8769] = {tag: value}
    else:
        exif[tag] = value
    Image.new("RGB", (64, 48)).save(path, exif=exif)
    return path


def recipe(path: Path) -> Recipe:
    found = image_metadata(path)
    assert found is not None and found.size == (64, 48)
    return found.recipe


@pytest.mark.parametrize("form", ["prompt", "compressed", "international"])
def test_comfyui_in_a_png(tmp_path, form):
    assert recipe(save_png(tmp_path / "a.png", **{form: json.dumps(GRAPH)}, workflow="{}")) == EXPECTED


@pytest.mark.parametrize("suffix", ["webp", "jpg"])
@pytest.mark.parametrize("tag", [0x0110, 0x010F])
def test_comfyui_in_exif(tmp_path, suffix, tag):
    assert recipe(save_exif(tmp_path / f"a.{suffix}", tag, "prompt:" + json.dumps(GRAPH))) == EXPECTED


def test_a1111_in_a_png(tmp_path):
    assert recipe(save_png(tmp_path / "a.png", parameters=PARAMETERS)) == A1111


@pytest.mark.parametrize("suffix", ["webp", "jpg", "png"])
@pytest.mark.parametrize("code", ["utf-16-be", "utf-16-le", "utf-16"])
def test_a1111_in_exif(tmp_path, suffix, code):
    comment = b"UNICODE\0" + PARAMETERS.encode(code)
    assert recipe(save_exif(tmp_path / f"a.{suffix}", 0x9286, comment)) == A1111


def test_swarm_and_invoke(tmp_path):
    swarm = save_png(tmp_path / "a.png", parameters=json.dumps({"sui_image_params": SWARM}))
    assert recipe(swarm) == Recipe("a red fox", 5, {"steps": 12, "cfg": 3.5, "sampler": "euler", "model": "sd15"})
    invoke = save_png(tmp_path / "b.png", invokeai_metadata=json.dumps(INVOKE))
    assert recipe(invoke) == Recipe("a red fox", 5, {"steps": 12, "cfg": 3.5, "scheduler": "euler"})


def test_a_custom_sampler_gives_its_parts():
    settings = {"steps": 28, "cfg": 3.0, "sampler": "dpmpp_2m", "scheduler": "beta", "denoise": 0.5}
    assert recipe_of_graph(custom_sampler()) == Recipe("a red fox", 77, {**settings, "model": "flux.safetensors"})


def test_what_two_samplers_do_not_agree_on_is_left_out():
    other = {**GRAPH["3"]["inputs"], "seed": 4, "steps": 30}
    graph = {**GRAPH, "33": node("KSampler", **other), "40": node("SaveImage", images=["33", 0])}
    assert recipe_of_graph(graph) == Recipe("a red fox", None, {k: v for k, v in SETTINGS.items() if k != "steps"})
    assert recipe_upstream(graph, "40", "images") == Recipe("a red fox", 4, {**SETTINGS, "steps": 30})


def test_a_second_pass_keeps_the_first_ones_seed():
    second = {**GRAPH["3"]["inputs"], "seed": 9, "denoise": 0.3, "latent_image": ["3", 0]}
    assert recipe_of_graph({**GRAPH, "50": node("KSampler", **second)}) == EXPECTED


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"seed": "7"}, {}),
        ({"seed": True}, {}),
        ({"seed": -1}, {}),
        ({"seed": 2**64}, {}),
        ({"seed": 1.5}, {}),
        ({"seed": ["404", 0]}, {}),
        ({"seed": ["3", 0]}, {}),  # itself
        ({"seed": 7, "steps": True}, {"seed": 7}),
        ({"seed": 7, "steps": 1e300}, {"seed": 7}),
        ({"seed": 7, "steps": float("nan")}, {"seed": 7}),
        ({"seed": 7, "steps": [], "cfg": {}}, {"seed": 7}),
        ({"seed": 7, "sampler_name": "x" * 201}, {"seed": 7}),
        ({"seed": 7, "sampler_name": ["1"]}, {"seed": 7}),
    ],
)
def test_values_of_wrong_types_are_left_out(changes, expected):
    graph = {"3": node("KSampler", positive=["6", 0], latent_image=["9", 0], **changes), "6": GRAPH["6"]}
    found = recipe_of_graph(graph)
    assert found.prompt == "a red fox"
    assert {**found.settings, **({} if found.seed is None else {"seed": found.seed})} == expected


def test_a_turned_photograph_has_its_upright_size(tmp_path):
    found = image_metadata(save_exif(tmp_path / "a.jpg", 0x0112, 6))  # type: ignore[arg-type]
    assert found is not None and found.size == (48, 64)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(path: Path, kind: bytes, data: bytes) -> Path:
    """A PNG with one more chunk behind its header."""
    whole = save_png(path).read_bytes()
    path.write_bytes(whole[:33] + chunk(kind, data) + whole[33:])
    return path


HOSTILE = {
    "a bomb of 20 MB in zTXt": (b"zTXt", b"prompt\0\0" + zlib.compress(b"[" * 20_000_000, 9)),
    "a bomb in iTXt": (b"iTXt", b"prompt\0\1\0\0\0" + zlib.compress(b"{" * 20_000_000, 9)),
    "a text of 40 MB": (b"tEXt", b"prompt\0" + b"a" * 40_000_000),
    "not compressed at all": (b"zTXt", b"prompt\0\0nonsense"),
    "no keyword": (b"tEXt", b"\0\0\0"),
    "deep lists": (b"tEXt", b"prompt\0" + b"[" * 900_000),
    "deep objects": (b"tEXt", b"parameters\0" + b'{"a":' * 100_000),
    "a list": (b"tEXt", b"prompt\0[1, 2]"),
    "numbers as nodes": (b"tEXt", b'prompt\0{"1": 5, "2": null}'),
    "a number of a million digits": (b"tEXt", b'prompt\0{"1": ' + b"9" * 1_000_000 + b"}"),
    "broken EXIF": (b"eXIf", b"II*\0\xff\xff\xff\xff"),
    "EXIF that is no EXIF": (b"eXIf", b"nonsense"),
    "swarm of lists": (b"tEXt", b'parameters\0{"sui_image_params": {"prompt": [1], "seed": {}}}'),
    "a prompt of 20,000 characters": (b"tEXt", b"parameters\0" + b"a" * 20_000 + b"\nSteps: 20"),
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("attack", HOSTILE)
def test_hostile_metadata_costs_nothing(tmp_path, attack):
    """Neither time nor an error: it is as if the file had none. A bomb is no image: Pillow opens it for nobody."""
    path = with_chunk(tmp_path / "a.png", *HOSTILE[attack])
    start = time.process_time()
    found = image_metadata(path)
    assert time.process_time() - start < 1.5
    assert (found is None) == ("bomb" in attack)
    assert found is None or (found.recipe.prompt == "" and found.size == (64, 48))


def test_a_graph_made_to_be_slow_is_not():
    """Sixty-four samplers that share four thousand nodes upstream; and one of a hundred thousand nodes."""
    chain = {str(n): node("A", x=[str(n + 1), 0]) for n in range(1000, 5_000)}
    ends = {str(n): node("KSampler", positive=["1000", 0], latent_image=["1000", 0]) for n in range(64)}
    start = time.process_time()
    recipe_of_graph({**chain, **ends})
    assert recipe_of_graph({**GRAPH, **dict.fromkeys(map(str, range(1000, 101_000)), ends["0"])}) == Recipe()
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    "data", [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a" + b"\0" * 50, b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", b"x" * 100]
)
def test_what_is_no_image(tmp_path, data):
    (tmp_path / "a.png").write_bytes(data)
    assert image_metadata(tmp_path / "a.png") is None
    assert image_metadata(tmp_path / "missing.png") is None


def test_too_many_pixels_and_too_many_bytes(tmp_path, monkeypatch):
    path = save_png(tmp_path / "a.png", parameters=PARAMETERS)
    monkeypatch.setattr(module, "MAX_PIXELS", 64 * 48 - 1)
    assert image_metadata(path) is None
    monkeypatch.undo()
    monkeypatch.setattr(module, "LARGEST_FILE", path.stat().st_size - 1)
    assert image_metadata(path) is None


def test_no_pixels_are_decoded(tmp_path, monkeypatch):
    path = save_png(tmp_path / "a.png", prompt=json.dumps(GRAPH))
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda self: pytest.fail("decoded"))
    assert recipe(path) == EXPECTED
