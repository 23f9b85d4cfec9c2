"""Training what is wired: every family trains, saves and draws; quantised bases; one result with the diffusers path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import Kind, cached
from comfy_server import Core
from test_inside import inside
from tiny_runs import write_pairs

pytestmark = pytest.mark.comfy

# Family -> by what it predicts; on cores before 0.33 only the first ones train.
STABLE_DIFFUSION = {"sd15": "epsilon", "sd2": "epsilon", "sdxl": "epsilon", "sdxl_v": "v_prediction"}
FLOW = ("sd35", "flux", "flux2", "zimage", "qwen_image", "lumina2", "chroma", "anima")
FAMILIES = STABLE_DIFFUSION | dict.fromkeys(FLOW, "flow")
UNUSED = {"qwen_image"}  # the last block's text side has no say in the result


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_trains_saves_and_draws(core: Core, tmp_path: Path, name: str) -> None:
    """The trainer's prediction is core's with the saved file, to 1e-5 of the LoRA's effect; every key is used."""
    if name in FLOW and not core.trains_flow():
        pytest.skip("this core has no differentiable kernels for flow models")
    write_pairs(tmp_path / "pairs", 2)
    seen = inside(core, "family", name, str(tmp_path))
    assert seen["prediction"] == FAMILIES[name]
    assert seen["learned"]
    assert seen["in_file"] == 3 * seen["layers"] == 3 * seen["taken"] > 0
    assert seen["effect"] > 0
    assert seen["error"] < 1e-5 * seen["effect"]
    assert seen["images_finite"] and seen["images_differ"] > 1e-3
    assert seen["untouched"] and seen["hooks"] == 0, "the user's objects are as before"


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_gives_features_of_images(core: Core, name: str) -> None:
    """An image has the same features alone as among others, to the rounding of sums."""
    seen = inside(core, "looked_at", name)
    assert seen["images"] == 3 and seen["features"] > 100 and seen["watched"] >= 1
    assert seen["finite"] and seen["same"]
    assert seen["error"] < 1e-3 * seen["apart"]
    assert seen["untouched"] and seen["hooks"] == 0, "the user's objects are as before"


# How far gradients on quantised weights may be from those on the same weights dequantised, relative to their size.
# Plain fp8 is cast; int8 rounds the activations too, to 1 part in 254 of their largest in each layer.
QUANTISED = {"fp8": 1e-6, "fp8_scaled": 1e-5, "int8": 0.03, "int8_convrot": 0.03}


@pytest.mark.parametrize("kind", QUANTISED)
def test_quantised_bases_stay_quantised_and_have_the_right_gradients(core: Core, kind: str) -> None:
    if not core.trains_flow():
        pytest.skip("this core does not recognise a small Flux")
    seen = inside(core, "quantised", "flux", kind)
    assert any("float8" in dtype or "int8" in dtype for dtype in seen["stored"]), seen["stored"]
    assert seen["gradient"] > 0
    assert seen["gradient_error"] < QUANTISED[kind]
    assert seen["untouched"]


def test_weights_patched_in_every_pass_have_the_right_gradients(core: Core) -> None:
    """As where a model does not fit: its weights are paged in per layer, and LoRAs on the wire added there."""
    seen = inside(core, "patched_on_the_fly", "sd15")
    assert seen["output_error"] < 1e-5
    assert seen["gradient_error"] < 1e-5
    assert seen["effect"] > 0.1, "the patch does something, or the test shows nothing"


def test_a_lora_on_parts_of_fused_layers_has_to_fit_them(core: Core) -> None:
    """Files of diffusers name q, k and v, which a Flux holds as one weight: core adds each to its rows."""
    if not core.trains_flow():
        pytest.skip("this core does not recognise a small Flux")
    seen = inside(core, "lora_fits")
    assert seen.pop("part") == "1 patched"
    assert "changes only the text encoder" in seen.pop("text encoder")
    assert seen.keys() == {"wider part", "all rows", "another family"}
    assert all("the LoRA 'x' fits no layer of the model" in words for words in seen.values()), seen


def test_a_run_is_found_by_what_is_wired(core: Core) -> None:
    """Patches and their strengths, noise levels, the text encoder's layer and the VAE count; being loaded does not."""
    seen = inside(core, "fingerprints")
    same = {name for name, changed in seen.items() if changed == []}
    loaded = {"loaded", "loaded with another's patches", "loaded with another's shift", "another shift, loaded"}
    assert same == {"again", "unloaded", *loaded}
    assert {name: changed for name, changed in seen.items() if changed} == {
        "a patch": ["model"],
        "its strength": ["model"],
        "another shift": ["model"],
        "clip skip": ["clip"],
        "another VAE": ["vae"],
        "other weights": ["model"],
    }


def test_training_goes_on_after_a_preview_that_took_the_networks_place(core: Core) -> None:
    """Its norms come back as inference tensors, which autograd may not keep; the bits are the same after that."""
    seen = inside(core, "reloaded", "sd15")
    assert seen["failed_before"], "without being made ordinary again, or the test shows nothing"
    assert seen["same"] and seen["size"] > 0


def test_a_lora_that_names_parts_of_fused_layers_is_read_whole(core: Core, tmp_path: Path) -> None:
    """q, k and v of rank 4 each become one update of rank 12, which is what core adds to the weight."""
    if not core.trains_flow():
        pytest.skip("this core does not recognise a small Flux")
    seen = inside(core, "refined", str(tmp_path))
    assert seen["ranks"] == {"double_blocks.0.img_attn.qkv": 12, "double_blocks.0.img_attn.proj": 4}
    assert seen["unused"] == []
    assert seen["off"] < 1e-5


def test_what_to_expect_of_a_distilled_model_is_said(core: Core) -> None:
    if not core.trains_flow():
        pytest.skip("this core does not recognise a small Flux")
    said = inside(core, "remarks")
    assert {name for name, texts in said.items() if texts} == {
        "z_image_turbo_bf16",
        "flux1-schnell",
        "sdxl_lightning_4step",
        "flux-2-klein-4b",
        "Hyper-SD15-8steps",
    }
    assert "use the LoRA with this one" in said["z_image_turbo_bf16"][0]


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_comfyui_and_diffusers_give_one_result(core: Core, tmp_path: Path, kind: Kind) -> None:
    """From the same pairs, draws and start, after four steps in float32: apart by 1e-3 of what was learned."""
    write_pairs(tmp_path / "pairs", 3)
    seen = inside(core, "parity", str(cached(kind, torch.float32)), str(tmp_path))
    assert seen["same_keys"]
    assert seen["change"] > 0
    assert seen["apart"] < 1e-3


REFUSED: dict[str, str] = {
    "video": "is a video model",
    "audio": "makes audio or shapes",
    "pixels": "works on pixels",
    "inpainting": "takes an image or a mask",
    "editing": "takes an image or a mask",
    "no_gradient": "gradients reach 0 of",
    "no_vae": "the wire of the VAE is empty",
    "no_clip": "the wire of the CLIP is empty",
    "fill": "takes an image or a mask",
    "bypass": "load that LoRA without bypass",
    "another_vae": "makes latents of 4 channels, but the FLUX.1 model takes 16",
    "another_clip": "what the wired CLIP gives does not fit the FLUX.1 model",
}


@pytest.mark.parametrize(("kind", "words"), REFUSED.items())
def test_what_cannot_be_trained_is_refused_in_one_sentence(core: Core, kind: str, words: str) -> None:
    if not core.trains_flow():
        pytest.skip("this core does not recognise a small Flux")
    seen: dict[str, Any] = inside(core, "refused", kind)
    assert seen["kind"] == "ModelError"
    assert words in seen["text"]
    assert "\n" not in seen["text"]
