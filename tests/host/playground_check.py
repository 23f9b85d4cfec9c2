"""The playground's MODEL, CLIP and VAE beside the library's base; called in ComfyUI's Python, from `inside.py`.

Each function takes the name under which the pack is imported there, and returns what it measured.
"""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

CAPTIONS = ("a red circle", "a blue star", "one green cross", "a picture of a pink heart", "teal triangle", "")


def text(package: str) -> dict[str, float]:
    """Largest difference of the encoded prompts, and how large they are."""
    clip, base = _playground(package)[1], _base(package)
    with torch.inference_mode():
        theirs = torch.cat([clip.encode_from_tokens(clip.tokenize(caption)) for caption in CAPTIONS]).cpu().clone()
    ours = base.encoder.prompts(CAPTIONS).tensors["context"]
    return {"difference": _difference(theirs, ours), "spread": ours.std().item(), "tokens": theirs.shape[1]}


def latents(package: str) -> dict[str, float]:
    """Largest differences of the sampler's latents from pixels, and of pixels from them."""
    patcher, _, vae = _playground(package)
    base, shapes = _base(package), importlib.import_module(f"{package}.dspo_train.evaluate.shapes")
    generator = torch.Generator().manual_seed(0)
    pixels = shapes.draw_scenes([shapes.random_scene(generator) for _ in range(4)])
    with torch.inference_mode():
        theirs = patcher.model.process_latent_in(vae.encode(pixels.movedim(1, -1))).cpu().clone()
        decoded = vae.decode(patcher.model.process_latent_out(theirs)).movedim(-1, 1).cpu().clone()
    mean = base.encoder.moments(2 * pixels - 1).chunk(2, dim=1)[0]
    ours = (mean - base.encoder.shift) * base.encoder.scaling
    redrawn = (base.encoder.decode(theirs) / 2 + 0.5).clamp(0, 1)
    return {
        "encoded": _difference(theirs, ours),
        "decoded": _difference(decoded, redrawn),
        "spread": ours.std().item(),
        "lost": (decoded - pixels).abs().mean().item(),
    }


def predictions(package: str, timesteps: Sequence[int] = (0, 1, 50, 250, 500, 750, 950, 999)) -> dict[str, float]:
    """Largest relative differences of the noise levels, the raw predictions and the denoised latents of both models."""
    import comfy.model_management as mm  # pyright: ignore[reportMissingImports]

    patcher, flow, base = _playground(package)[0], _playground(package, "shapes-flow")[0], _base(package)
    predict = importlib.import_module(f"{package}.dspo_train.models.unet").predict
    signal_squared = base.process.alphas_cumprod
    sigmas = ((1 - signal_squared) / signal_squared).sqrt()
    time, context = torch.tensor(timesteps), base.encoder.prompts(["a red circle"])
    noisy = torch.randn(len(time), 8, 8, 8, generator=torch.Generator().manual_seed(1))
    signal, spread = base.process.levels(time, noisy)
    with torch.no_grad():
        rows = torch.cat([context.tensors["context"]] * len(time))
        ours = predict(base.family, base.unet, noisy, time, type(context)({"context": rows}))
    with torch.inference_mode():
        mm.load_models_gpu([patcher])
        model, device = patcher.model, patcher.load_device
        inputs = [tensor.to(device) for tensor in (noisy, time.float(), rows)]
        theirs = model.diffusion_model(inputs[0], inputs[1], context=inputs[2]).cpu().clone()
        own = model.model_sampling.sigmas.cpu()[time]
        denoised = model.apply_model((noisy / signal).to(device), own.to(device), c_crossattn=inputs[2]).cpu().clone()
        mm.load_models_gpu([flow])
        sigma, mixed = (spread / (signal + spread)).flatten(), noisy / (signal + spread)
        as_flow = flow.model.apply_model(mixed.to(device), sigma.to(device), c_crossattn=inputs[2]).cpu().clone()
    clean = signal * noisy - spread * ours
    kinds = [kind.__name__ for kind in type(model.model_sampling).__mro__]
    return {
        "sigmas": ((model.model_sampling.sigmas.cpu().double() - sigmas).abs() / sigmas).max().item(),
        "raw": _difference(theirs, ours) / ours.abs().max().item(),
        "denoised": _difference(denoised, clean) / clean.abs().max().item(),
        "as_flow": _difference(as_flow, clean) / clean.abs().max().item(),
        "v_prediction": ("V_PREDICTION" in kinds) == (base.process.prediction == "v_prediction"),
    }


def lora(package: str) -> dict[str, float]:
    """How many layers of a random LoRA from the library core patches, and the difference with it applied."""
    import comfy.model_management as mm  # pyright: ignore[reportMissingImports]
    import comfy.sd  # pyright: ignore[reportMissingImports]

    base = _base(package)
    attach, unet, conditioning = (
        importlib.import_module(f"{package}.dspo_train.{name}")
        for name in ("lora.attach", "models.unet", "models.conditioning")
    )
    draw = torch.Generator().manual_seed(2)
    noisy, time = torch.randn(2, 8, 8, 8, generator=draw), torch.tensor([100, 700])
    given = conditioning.Conditioning({"context": torch.randn(2, 16, 64, generator=draw)})
    weights, tensors = _random_lora(package, base)
    with torch.no_grad():
        bare = unet.predict(base.family, base.unet, noisy, time, given)
        with attach.applied(base.unet, weights):
            ours = unet.predict(base.family, base.unet, noisy, time, given)
    with torch.inference_mode():
        flow = _playground(package, "shapes-flow")[0]
        patched = comfy.sd.load_lora_for_models(_playground(package)[0], None, tensors, 1.0, 0)[0]
        mm.load_models_gpu([patched], force_full_load=True)
        inputs = [tensor.to(patched.load_device) for tensor in (noisy, time.float(), given.tensors["context"])]
        theirs = patched.model.diffusion_model(inputs[0], inputs[1], context=inputs[2]).cpu().clone()
    return {
        "layers": len(weights),
        "patched": len(patched.patches),
        "patched_flow": len(comfy.sd.load_lora_for_models(flow, None, tensors, 1.0, 0)[0].patches),
        "difference": _difference(theirs, ours) / ours.abs().max().item(),
        "effect": _difference(ours, bare) / ours.abs().max().item(),
    }


def _random_lora(package: str, base: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    """A LoRA on every layer that one can be on: as the library holds it, and the tensors of the file it writes."""
    import comfy.utils  # pyright: ignore[reportMissingImports]

    attach, formats, writing, config = (
        importlib.import_module(f"{package}.dspo_train.{name}")
        for name in ("lora.attach", "lora.formats", "lora.writing", "config")
    )
    draw = torch.Generator().manual_seed(3)
    spec = config.LoraSpec(rank=4, alpha=4, targets="attention+mlp+proj")
    with attach.attached(base.unet, spec, seed=0) as adapter, torch.no_grad():
        for parameter in adapter.parameters.values():
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=draw))
        weights = adapter.weights()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "random.safetensors"
        kind = formats.unet_format(base.family, base.unet)
        writing.save_lora(file, weights, format=kind, metadata={}, dtype=torch.float32)
        tensors = comfy.utils.load_torch_file(str(file))
        return weights, {key: value.clone() for key, value in tensors.items()}  # nothing keeps the file open


def drawn(package: str, *, per_caption: int = 1, **settings: Any) -> dict[str, float]:
    """Share of images that show what was asked for, by stock nodes and by the library; seconds for one image.

    Args:
        per_caption: images for each of 16 captions.
        settings: of KSampler: steps, cfg, sampler_name, scheduler.
    """
    how = {"steps": 20, "cfg": 2.0, "sampler_name": "dpmpp_2m", "scheduler": "simple", "denoise": 1.0, **settings}
    shapes, sampling, toys = (
        importlib.import_module(f"{package}.dspo_train.{name}")
        for name in ("evaluate.shapes", "models.sampling", "scorers.toys")
    )
    captions, playground, theirs, elapsed = shapes.captions()[::3], _playground(package), [], []
    for seed, caption in enumerate(captions):
        started = time.perf_counter()
        images = _stock_images(playground, caption, seed, shapes.SIZE, per_caption, how)
        elapsed.append((time.perf_counter() - started) / per_caption)
        theirs += [shapes.read(image).fits(caption) for image in images]
    prompts = [caption for caption in captions for _ in range(per_caption)]
    spec = sampling.SampleSpec(width=shapes.SIZE, height=shapes.SIZE, steps=how["steps"], guidance=how["cfg"])
    images = sampling.sample(_base(package), prompts, range(len(prompts)), spec, batch_size=16)
    ours = [toys.look(image).fits(prompt) for image, prompt in zip(images, prompts, strict=True)]
    return {
        "images": len(prompts),
        "stock": sum(theirs) / len(theirs),
        "library": sum(ours) / len(ours),
        "seconds": sorted(elapsed)[len(elapsed) // 2],
    }


def flow(package: str) -> dict[str, Any]:
    """How the trainer sees the flow model, and its noise levels."""
    module, parts = importlib.import_module(f"{package}.nodes.comfy.model"), _playground(package, "shapes-flow")
    wired = module.Wired(*parts)
    family, process = wired.checked()
    sigmas = parts[0].model.model_sampling.sigmas
    return {
        "family": [family.title, family.resolution],
        "process": [process.prediction, process.shift],
        "sigmas": [sigmas[0].item(), sigmas[499].item(), sigmas[-1].item()],
        "another run": wired.fingerprint() != module.Wired(*_playground(package)).fingerprint(),
    }


def flow_drawn(package: str, per_caption: int = 1, cfg: float = 2.0) -> dict[str, float]:
    """Share of images of every caption that show what was asked for."""
    shapes, playground = (
        importlib.import_module(f"{package}.dspo_train.evaluate.shapes"),
        _playground(package, "shapes-flow"),
    )
    how = {"steps": 20, "cfg": cfg, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    right = [
        shapes.read(image).fits(caption)
        for seed, caption in enumerate(shapes.captions())
        for image in _stock_images(playground, caption, seed, shapes.SIZE, per_caption, how)
    ]
    return {"images": len(right), "right": sum(right) / len(right)}


def _stock_images(playground: Any, caption: str, seed: int, side: int, count: int, how: dict[str, Any]) -> torch.Tensor:
    """Images from core's own nodes. -> (count, 3, side, side) in [0, 1]"""
    nodes: Any = importlib.import_module("nodes")  # core's, not the pack's
    model, clip, vae = playground
    with torch.inference_mode():
        positive, negative = (nodes.CLIPTextEncode().encode(clip, text)[0] for text in (caption, ""))
        latent = nodes.EmptyLatentImage().generate(side, side, count)[0]
        given = {"positive": positive, "negative": negative, "latent_image": latent}
        (latent,) = nodes.KSampler().sample(model=model, seed=seed, **given, **how)
        return nodes.VAEDecode().decode(vae, latent)[0].movedim(-1, 1).cpu().clone()


def _playground(package: str, name: str = "shapes") -> Any:
    with torch.inference_mode():  # as when a node runs
        return importlib.import_module(f"{package}.nodes.comfy.playground").load(name)


def _base(package: str) -> Any:
    model = importlib.import_module(f"{package}.nodes.comfy.playground").MODEL
    return importlib.import_module(f"{package}.dspo_train.models.base").load_base(model)


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    assert one.shape == other.shape, f"{tuple(one.shape)} and {tuple(other.shape)}"
    return (one - other).abs().max().item()


CHECKS = {
    "text": text,
    "latents": latents,
    "predictions": predictions,
    "lora": lora,
    "drawn": drawn,
    "flow": flow,
    "flow_drawn": flow_drawn,
}
