"""The encoder agrees with diffusers' pipelines, and says when a VAE or a prompt does not fit."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from tiny_models import Family, tiny_text_encoders, tiny_tokenizer, tiny_vae, write_diffusers_folder

from dspo_train.data.encodings import latents_from_moments
from dspo_train.exceptions import ModelError
from dspo_train.models.base import load_base
from dspo_train.models.encoder import DiffusersEncoder
from dspo_train.models.families import FAMILIES
from dspo_train.models.weights import tensor_digest

SD15 = FAMILIES["sd15"]
PROMPTS = ["a red dog", "", "dog " * 100, "naïve café!"]


@pytest.fixture
def encoder(tmp_path: Path) -> DiffusersEncoder:
    tokenizers = [tiny_tokenizer(tmp_path / "tokenizer")]
    return DiffusersEncoder(SD15, tiny_vae(), tiny_text_encoders("sd15"), tokenizers)


def pixels(count: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("family", ["sd15", "sd2", "sdxl"])
def test_prompts_equal_the_pipelines(tmp_path: Path, family: Family) -> None:
    folder = write_diffusers_folder(tmp_path / "m", family)
    rows = load_base(folder).encoder.prompts(PROMPTS)
    kind: Any = StableDiffusionXLPipeline if family == "sdxl" else StableDiffusionPipeline
    extra = {} if family == "sdxl" else {"safety_checker": None, "feature_extractor": None}
    pipeline = kind(**_parts(folder, family), **extra)
    encoded = pipeline.encode_prompt(PROMPTS, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
    assert torch.equal(rows.tensors["context"], encoded[0])
    assert rows.tensors["context"].shape == (4, 77, 96 if family == "sdxl" else 32)
    if family == "sdxl":
        assert rows.tensors.keys() == {"context", "pooled"}
        assert torch.equal(rows.tensors["pooled"], encoded[2])
    else:
        assert rows.tensors.keys() == {"context"}


def _parts(folder: Path, family: Family) -> dict[str, Any]:
    base = load_base(folder)
    parts: dict[str, Any] = {
        "vae": base.encoder.vae,
        "unet": base.unet,
        "scheduler": DDIMScheduler(steps_offset=1, clip_sample=False),
    }
    for n in range(2 if family == "sdxl" else 1):
        ending = "" if n == 0 else "_2"
        parts |= {f"text_encoder{ending}": base.encoder.text_encoders[n]}
        parts |= {f"tokenizer{ending}": base.encoder.tokenizers[n]}
    return parts


def test_a_prompt_does_not_depend_on_its_neighbours(encoder: DiffusersEncoder) -> None:
    """40 prompts are more than one pass takes."""
    texts = [f"dog {n}" for n in range(40)]
    together = encoder.prompts(texts)
    assert len(together) == 40
    torch.testing.assert_close(together.tensors["context"][37:38], encoder.prompts([texts[37]]).tensors["context"])


def test_long_prompts_are_cut_and_weights_left_out_as_the_remarks_say(encoder: DiffusersEncoder) -> None:
    """80 words of one token each; 75 fit between start and end, so 5 are dropped."""
    texts = ["dog " * 80, "dog " * 75, "(dog:1.5) " + "((dog)) " * 74]
    context = encoder.prompts(texts).tensors["context"]
    assert torch.equal(context[0], context[1])
    assert torch.equal(context[1], context[2])
    weights, long = encoder.remarks(texts)
    assert weights.startswith("1 prompt holds weights or tags, such as (dog:1.5)")
    assert long.startswith("1 prompt is longer than 75 tokens") and "at most 5 tokens" in long


def test_text_encoders_that_are_not_finite_are_named(encoder: DiffusersEncoder) -> None:
    encoder.text_encoders[0].register_forward_hook(
        lambda module, args, output: type(output)(last_hidden_state=output.last_hidden_state * float("nan"))
    )
    with pytest.raises(ModelError, match="the text encoder gives values that are not finite"):
        encoder.prompts(["a dog"])


def test_latents_that_are_not_finite_are_not_blamed_on_the_vae(encoder: DiffusersEncoder) -> None:
    with pytest.raises(ModelError, match="the UNet's predictions are not finite"):
        encoder.decode(torch.full((1, 4, 8, 8), float("inf")))


def test_moments_are_mean_and_clamped_log_variance(encoder: DiffusersEncoder) -> None:
    images = pixels(2)
    moments = encoder.moments(images)
    posterior = encoder.vae.encode(images, return_dict=False)[0]
    assert isinstance(posterior, DiagonalGaussianDistribution)
    assert moments.shape == (2, 8, 8, 8) and moments.dtype == torch.float32
    torch.testing.assert_close(moments, torch.cat([posterior.mean, posterior.logvar], dim=1))

    encoder.vae.state_dict()["quant_conv.bias"][4:] += 1000
    assert (encoder.moments(images)[:, 4:] == 20).all()


def test_latents_from_moments_by_hand() -> None:
    """mean 3, log-variance ln 4 (deviation 2), noise 0.5, shift 1, scaling 10: (3 + 1 - 1) * 10."""
    moments = torch.tensor([3.0, torch.log(torch.tensor(4.0))]).view(1, 2, 1, 1)
    latents = latents_from_moments(moments, torch.full((1, 1, 1, 1), 0.5), scaling=10.0, shift=1.0)
    torch.testing.assert_close(latents, torch.full((1, 1, 1, 1), 30.0))


def test_decode_undoes_scaling_and_shift(encoder: DiffusersEncoder) -> None:
    encoder.scaling, encoder.shift = 0.5, 0.25
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    vae: Any = encoder.vae
    torch.testing.assert_close(encoder.decode(latents), vae.decode(latents / 0.5 + 0.25, return_dict=False)[0])


def overflowing_vae() -> Any:
    """Weights below 65504, the largest float16, sums above it; the group norms that follow bring them back."""
    vae = tiny_vae()
    for part in (vae.encoder, vae.decoder):
        part.conv_in.weight.data *= 2e5
    return vae


@pytest.mark.parametrize("method", ["moments", "decode"])
def test_float16_overflow_is_done_again_in_float32(
    encoder: DiffusersEncoder, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    encoder.vae = overflowing_vae()
    given = pixels() if method == "moments" else torch.ones(1, 4, 8, 8)
    wanted = getattr(encoder, method)(given)
    identity = DiffusersEncoder(SD15, overflowing_vae().half(), encoder.text_encoders, encoder.tokenizers).image_id
    fresh = DiffusersEncoder(SD15, overflowing_vae().half(), encoder.text_encoders, encoder.tokenizers)
    with caplog.at_level(logging.WARNING):
        results = [getattr(fresh, method)(given) for _ in range(2)]
    assert sum("overflows" in r.getMessage() for r in caplog.records) == 1
    for result in results:
        assert result.isfinite().all() and result.dtype == torch.float32
        torch.testing.assert_close(result, wanted, rtol=2e-2, atol=2e-2)  # the weights are rounded to half
    assert fresh.image_id == identity


def test_nans_in_float32_are_an_error(encoder: DiffusersEncoder) -> None:
    encoder.vae.encoder.conv_in.weight.data.fill_(torch.nan)
    with pytest.raises(ModelError, match="infinities or NaNs while encoding, in float32 too"):
        encoder.moments(pixels())


def test_ids_follow_weights_config_precision_and_words(tmp_path: Path) -> None:
    def made(seed: int = 0, half: bool = False, pad: str = "<|endoftext|>", **config: Any) -> DiffusersEncoder:
        vae = tiny_vae(seed)
        vae.register_to_config(**config)
        encoders = tiny_text_encoders("sd15", seed)
        tokenizer = tiny_tokenizer(tmp_path / "tokenizer", pad)
        if half:
            vae, encoders = vae.half(), [encoder.half() for encoder in encoders]
        return DiffusersEncoder(SD15, vae, encoders, [tokenizer])

    same, again = made(), made()
    assert (same.image_id, same.prompt_id) == (again.image_id, again.prompt_id)
    assert len({e.image_id for e in (same, made(1), made(half=True), made(scaling_factor=0.5))}) == 4
    assert len({e.prompt_id for e in (same, made(1), made(half=True), made(pad="!"))}) == 4
    assert made(pad="!").image_id == same.image_id


def test_digest_does_not_depend_on_the_order_but_on_names_and_shapes() -> None:
    a, b = torch.arange(4.0), torch.zeros(2, dtype=torch.bfloat16)
    assert tensor_digest([("a", a), ("b", b)]) == tensor_digest([("b", b), ("a", a)])
    assert tensor_digest([("a", a)]) != tensor_digest([("c", a)])
    assert tensor_digest([("a", a)]) != tensor_digest([("a", a.view(2, 2))])
    assert tensor_digest([("a", torch.tensor(1.0))])


def test_release_and_use_again(encoder: DiffusersEncoder) -> None:
    before = encoder.moments(pixels())
    encoder.release()
    assert encoder.vae.device.type == "cpu"
    assert torch.equal(encoder.moments(pixels()), before)


def test_results_can_enter_autograd(encoder: DiffusersEncoder) -> None:
    """Inference tensors could not: training multiplies them by weights that need gradients."""
    weight = torch.ones(1, requires_grad=True)
    (encoder.prompts(["dog"]).tensors["context"] * weight).sum().backward()
    (encoder.moments(pixels()) * weight).sum().backward()
    assert weight.grad is not None
