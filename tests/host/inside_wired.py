"""Checks for `inside.py` of what is trained through ComfyUI's own MODEL, CLIP and VAE."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SIDE = 64  # pixels
PROMPTS = ("red dog 0", "red dog 1")


class Pack:
    """Modules of the pack, under whatever name it was loaded."""

    def __init__(self, package: str) -> None:
        self.package = package

    def __getattr__(self, name: str) -> Any:
        return importlib.import_module(f"{self.package}.{name.replace('__', '.')}")


def _families() -> Any:
    sys.path.append(str(Path(__file__).resolve().parent))
    return importlib.import_module("tiny_families")


def _wired(pack: Pack, name: str, **options: Any) -> Any:
    """As a graph's loader nodes make it: of inference tensors."""
    with torch.inference_mode():
        return pack.nodes__comfy__model.Wired(*_families().make(name, **options), name)


def _config(pack: Pack, **changes: Any) -> Any:
    values = {
        "steps": 2,
        "batch_size": 2,
        "precision": "fp32",
        "device": "cpu",
        "lora": {"rank": 2, "alpha": 2, "targets": "attention+mlp"},
        "optim": {"lr": 1e-3},
        "data": {"resolution": SIDE, "bucket_step": 32},
    }
    return pack.dspo_train__config.from_dict({**values, **changes})


def _trained(pack: Pack, source: Any, pairs: Path, out: Path, config: Any, **more: Any) -> Path:
    """-> the LoRA file"""
    job = pack.dspo_train__runs__job.Job(source, pairs, out, config, cache=out.parent / "cache", **more)
    with torch.inference_mode(False), pack.dspo_train__runs__session.open_session(job) as session:
        reports = list(session.reports())
        assert len(reports) == config.steps
        return session.folder.result


@contextmanager
def _random_adapter(pack: Pack, model: Any, size: float = 0.2) -> Iterator[Any]:
    """A LoRA of random factors on a model that is ready to train."""
    spec = pack.dspo_train__config.LoraSpec(rank=2, alpha=2.0, targets="attention+mlp")
    options = {"seed": 0, "targets": model.targets, "device": model.device}
    with pack.dspo_train__lora__attach.attached(model.network, spec, **options) as adapter:
        draw = torch.Generator().manual_seed(1)
        for name, parameter in adapter.parameters.items():
            if name.endswith(".up"):
                with torch.no_grad():
                    parameter.copy_(size * torch.randn(parameter.shape, generator=draw))
        yield adapter


def _inputs(pack: Pack, model: Any) -> tuple[Tensor, Tensor, Any]:
    """Two noisy images at different times, with prompts of different lengths."""
    draw = torch.Generator().manual_seed(2)
    side = SIDE // model.encoder.factor
    noisy = torch.randn(2, model.patcher.model.latent_format.latent_channels, side, side, generator=draw)
    times = torch.stack([model.process.draw_evenly(draw, *part) for part in ((0.2, 0.4), (0.6, 0.8))])
    frame = pack.dspo_train__models__conditioning.Frame(SIDE, SIDE, 0, 0, SIDE, SIDE)
    given = model.encoder.prompts(["a dog", "a very small red dog, sitting"]).adding(model.encoder.frame([frame] * 2))
    return noisy, times, given


def family(pack: Pack, name: str, base: str, dtype: str = "float32") -> dict[str, Any]:
    """Train, save, load by core, predict with both, and draw."""
    import comfy.lora  # pyright: ignore[reportMissingImports]
    import comfy.lora_convert  # pyright: ignore[reportMissingImports]
    import comfy.sd  # pyright: ignore[reportMissingImports]
    import comfy.utils  # pyright: ignore[reportMissingImports]

    started = time.monotonic()
    wired = _wired(pack, name, dtype=getattr(torch, dtype))
    before = _state(pack, wired)
    source = pack.nodes__comfy__model.WiredSource(wired)
    file = _trained(pack, source, Path(base) / "pairs", Path(base) / "run", _config(pack))
    learned = comfy.utils.load_torch_file(str(file))
    with torch.inference_mode(False):
        model = source.load(_config(pack), "fp32", torch.device("cpu"))
        given = _inputs(pack, model)
        with model.training(checkpointing=False), _random_adapter(pack, model) as adapter, torch.no_grad():
            ours = model.predict(*given)
            with adapter.off():
                bare = model.predict(*given)
            layers = adapter.weights()
        random = Path(base) / "random.safetensors"
        pack.dspo_train__lora__writing.save_lora(random, layers, format=model.lora, metadata={}, dtype=torch.float32)
    tensors = comfy.utils.load_torch_file(str(random))
    places = comfy.lora.model_lora_keys_unet(wired.model.model, {})
    loaded = comfy.lora.load_lora(comfy.lora_convert.convert_lora(tensors), places)
    with torch.inference_mode():
        patched = comfy.sd.load_lora_for_models(wired.model, None, tensors, 1.0, 0)[0]
    with torch.inference_mode(False):
        theirs = _bare_prediction(pack, replace(wired, model=patched), given)
        images = [_drawn(each, wired) for each in (wired.model, patched)]
    return {
        "config": type(wired.model.model.model_config).__name__,
        "prediction": model.process.prediction,
        "learned": any(bool(value.any()) for key, value in learned.items() if "lora_up" in key),
        "in_file": len(learned),
        "layers": len(layers),
        "taken": len(loaded),
        "error": (theirs - ours).norm().item(),
        "effect": (ours - bare).norm().item(),
        "images_differ": (images[0] - images[1]).abs().max().item(),
        "images_finite": all(bool(image.isfinite().all()) for image in images),
        "untouched": _state(pack, wired) == before,
        "hooks": _hooks(wired),
        "seconds": round(time.monotonic() - started, 1),
    }


def looked_at(pack: Pack, name: str) -> dict[str, Any]:
    """Features of the same images together and one by one, as a node computes them."""
    import numpy as np
    from PIL import Image

    wired = _wired(pack, name)
    wired.__dict__["family"] = replace(wired.family, resolution=SIDE)
    before, draw = _state(pack, wired), np.random.default_rng(0)
    images = [Image.fromarray(draw.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)) for _ in range(3)]
    prompts = [PROMPTS[0], "a very small red dog, sitting", PROMPTS[0]]
    with torch.inference_mode():
        features, again = (pack.nodes__comfy__features.WiredFeatures(wired) for _ in range(2))
        together = features.of(images, prompts)
        alone = np.concatenate([again.of([image], [prompt]) for image, prompt in zip(images, prompts, strict=True)])
    return {
        "images": len(together),
        "features": together.shape[1],
        "finite": bool(np.isfinite(together).all()),
        "apart": float(np.abs(together[0] - together[2]).max()),
        "error": float(np.abs(together - alone).max()),
        "same": features.identity == again.identity,
        "watched": len(features.watched),
        "untouched": _state(pack, wired) == before,
        "hooks": _hooks(wired),
    }


def _bare_prediction(pack: Pack, wired: Any, given: tuple[Any, ...]) -> Tensor:
    """ComfyUI's own, with nothing of a training around it."""
    model = pack.nodes__comfy__model.WiredSource(wired).load(_config(pack), "fp32", torch.device("cpu"))
    pack.nodes__comfy__memory.load([model.patcher])
    with torch.inference_mode():
        return model.predict(*given).clone()


def _drawn(patcher: Any, wired: Any) -> Tensor:
    import comfy.sample  # pyright: ignore[reportMissingImports]

    from nodes import common_ksampler  # pyright: ignore[reportMissingImports, reportAttributeAccessIssue]

    with torch.inference_mode():
        positive, negative = (wired.clip.encode_from_tokens_scheduled(wired.clip.tokenize(t)) for t in ("red dog", ""))
        side = SIDE // wired.encoder().factor
        empty = torch.zeros(1, patcher.model.latent_format.latent_channels, side, side)
        latent = {"samples": comfy.sample.fix_empty_latent_channels(patcher, empty)}
        drawn = common_ksampler(patcher, 5, 2, 1.0, "euler", "simple", positive, negative, latent)[0]["samples"]
        return wired.vae.decode(drawn).float().clone()


def _state(pack: Pack, wired: Any) -> dict[str, tuple[str, bool]]:
    """A sum of every tensor of the three objects, unloaded, and whether it is an inference tensor."""
    pack.nodes__comfy__memory.clear()
    found = {}
    for part in (wired.model, wired.clip.patcher, wired.vae.patcher):
        for key, value in [*part.model.named_parameters(), *part.model.named_buffers()]:
            stored = getattr(value, "_qdata", value).detach().float()
            found[f"{id(part)} {key}"] = (f"{stored.double().sum().item()} {stored.shape}", value.is_inference())
    return found


def _hooks(wired: Any) -> int:
    """What a training may have left on the modules."""
    import comfy.model_management as mm  # pyright: ignore[reportMissingImports]

    modules = list(wired.model.model.modules())
    hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)
    replaced = sum("forward" in module.__dict__ for module in modules)
    return hooks + replaced + bool(getattr(mm, "in_training", False))


def quantised(pack: Pack, name: str, kind: str) -> dict[str, Any]:
    """Gradients of a LoRA on quantised weights against those on the same weights, dequantised."""
    wired = _wired(pack, name, quantised=kind)
    with torch.inference_mode():
        plain = replace(wired, model=_families().dequantised(wired.model))
    stored = {str(getattr(p, "_qdata", p).dtype) for p in wired.model.model.diffusion_model.parameters()}
    before = _state(pack, wired)
    with torch.inference_mode(False):
        (first, output), (second, expected) = (_gradients(pack, each) for each in (wired, plain))
    return {
        "stored": sorted(stored),
        "gradient_error": ((first - second).norm() / second.norm()).item(),
        "output_error": ((output - expected).norm() / expected.norm()).item(),
        "gradient": second.norm().item(),
        "untouched": _state(pack, wired) == before,
    }


def _gradients(pack: Pack, wired: Any) -> tuple[Tensor, Tensor]:
    model = pack.nodes__comfy__model.WiredSource(wired).load(_config(pack), wired.precision, torch.device("cpu"))
    given = _inputs(pack, model)
    with model.training(checkpointing=False), _random_adapter(pack, model) as adapter:
        output = model.predict(*given)
        (output - given[0]).square().mean().backward()
        grads = [p.grad.flatten() for p in adapter.parameters.values() if p.grad is not None]
        return torch.cat(grads), output.detach()


def patched_on_the_fly(pack: Pack, name: str) -> dict[str, Any]:
    """Weights patched before against the same patch in each forward pass, as where ComfyUI pages weights in."""
    plain, fly = (_wired(pack, name) for _ in range(2))
    layers = dict(plain.model.model.diffusion_model.named_modules())
    paths = [path for path in layers if plain.family.targets["attention+mlp"].fullmatch(path)]
    draw = torch.Generator().manual_seed(3)
    changes = {path: 0.1 * torch.randn(layers[path].weight.shape, generator=draw) for path in paths}
    with torch.inference_mode():
        patched = plain.model.clone()
        patched.add_patches({f"diffusion_model.{path}.weight": (changes[path],) for path in paths}, 1.0)
    with torch.inference_mode(False):
        unchanged = _gradients(pack, plain)[0]
        second, expected = _gradients(pack, replace(plain, model=patched))
        load = pack.nodes__comfy__memory.load
        pack.nodes__comfy__memory.load = lambda *given: (load(*given), _patch_each_pass(fly, changes))
        first, output = _gradients(pack, fly)
    return {
        "gradient_error": ((first - second).norm() / second.norm()).item(),
        "output_error": ((output - expected).norm() / expected.norm()).item(),
        "effect": ((second - unchanged).norm() / second.norm()).item(),
    }


def _patch_each_pass(wired: Any, changes: dict[str, Tensor]) -> None:
    """What ComfyUI's loading of a part leaves on a layer whose weight has patches."""
    for path, layer in wired.model.model.diffusion_model.named_modules():
        if path in changes:
            layer.comfy_cast_weights = True
            layer.weight_function = [lambda weight, change=changes[path]: weight + change]


def fingerprints(pack: Pack) -> dict[str, list[str]]:
    """Change -> which of the three hashes it changes."""
    wired, memory = _wired(pack, "sd15"), pack.nodes__comfy__memory
    before = wired.fingerprint()
    key = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
    sampling = type(wired.model.get_model_object("model_sampling"))

    def patched(strength: float) -> Any:
        with torch.inference_mode():
            model = wired.model.clone()
            model.add_patches({key: (torch.ones_like(model.model.state_dict()[key]),)}, strength)
        return replace(wired, model=model)

    def shifted() -> Any:
        model, levels = wired.model.clone(), sampling(model_config=wired.model.model.model_config)
        levels.set_sigmas(levels.sigmas * 1.01)
        model.add_object_patch("model_sampling", levels)
        return replace(wired, model=model)

    def skipped() -> Any:
        clip = wired.clip.clone()
        clip.clip_layer(-2)
        return replace(wired, clip=clip)

    def changes(other: Any, base: dict[str, str] = before) -> list[str]:
        now = other.fingerprint()
        return [name for name in base if base[name] != now[name]]

    families, found = _families(), {"again": changes(wired), "a patch": changes(patched(1.0))}
    found["its strength"] = changes(patched(0.5), patched(1.0).fingerprint())
    found |= {"another shift": changes(shifted()), "clip skip": changes(skipped())}
    with torch.inference_mode():
        found["another VAE"] = changes(replace(wired, vae=families.FAMILIES["sd15"].vae(9)))
        found["other weights"] = changes(replace(wired, model=families.make_model("sd15", seed=9)))
    other = shifted()
    base = other.fingerprint()
    memory.load([other.model])
    found["another shift, loaded"] = changes(other, base)
    found["loaded with another's shift"] = changes(wired)
    memory.load([wired.model])
    found["loaded"] = changes(wired)
    memory.load([patched(1.0).model])
    found["loaded with another's patches"] = changes(wired)
    memory.clear()
    found["unloaded"] = changes(wired)
    return found


def refined(pack: Pack, base: str) -> dict[str, Any]:
    """A LoRA that names q, k and v of fused layers, read to start from: its update against core's own."""
    import comfy.lora  # pyright: ignore[reportMissingImports]
    import comfy.lora_convert  # pyright: ignore[reportMissingImports]
    import comfy.sd  # pyright: ignore[reportMissingImports]
    from safetensors.torch import save_file

    wired, draw = _wired(pack, "flux"), torch.Generator().manual_seed(4)
    outer = "transformer.transformer_blocks.0.attn."
    tensors, width = {}, 256
    for name, alpha in (("to_q", None), ("to_k", 2.0), ("to_v", 8.0), ("to_out.0", None)):
        tensors[f"{outer}{name}.lora_A.weight"] = torch.randn(4, width, generator=draw)
        tensors[f"{outer}{name}.lora_B.weight"] = torch.randn(width, 4, generator=draw)
        if alpha is not None:
            tensors[f"{outer}{name}.alpha"] = torch.tensor(alpha)
    path = Path(base) / "foreign.safetensors"
    save_file(tensors, path)
    with torch.inference_mode(False):
        model = pack.nodes__comfy__model.WiredSource(wired).load(_config(pack), "fp32", torch.device("cpu"))
        loaded = model.read_lora(path)
    layers = dict(model.network.named_modules())
    before = {name: layers[name].weight.detach().clone() for name in loaded.weights}
    with torch.inference_mode():
        patched = comfy.sd.load_lora_for_models(wired.model, None, tensors, 1.0, 0)[0]
    pack.nodes__comfy__memory.load([patched])
    off = 0.0
    for name, layer in loaded.weights.items():
        change = layers[name].weight.detach() - before[name]
        ours = (layer.alpha / layer.rank) * layer.up @ layer.down
        off = max(off, ((ours - change).norm() / change.norm()).item())
    pack.nodes__comfy__memory.clear()
    ranks = {name: layer.rank for name, layer in loaded.weights.items()}
    return {"ranks": ranks, "unused": list(loaded.unused), "off": off}


def lora_fits(pack: Pack) -> dict[str, str]:
    """What is said of LoRAs on a part of a fused layer of a Flux, and of others."""
    import comfy.lora  # pyright: ignore[reportMissingImports]

    model = _wired(pack, "flux").model
    named = comfy.lora.model_lora_keys_unet(model.model, {})
    name, (key, (_, _, rows), *_) = next((name, key) for name, key in named.items() if isinstance(key, tuple))
    columns = model.model.state_dict()[key].shape[1]

    def said(name: str, rows: int, columns: int) -> str:
        factors = {f"{name}.lora_up.weight": torch.ones(rows, 1), f"{name}.lora_down.weight": torch.ones(1, columns)}
        try:
            (with_lora,) = pack.nodes__lora_fit.patched("DSPO Apply LoRA", "'x'", factors, model, [1.0])
        except pack.dspo_train__exceptions.LoraFileError as error:
            return str(error)
        return f"{len(with_lora.patches)} patched"

    return {
        "part": said(name, rows, columns),
        "wider part": said(name, rows, columns + 8),
        "all rows": said(name, 3 * rows, columns),
        "another family": said("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", rows, columns),
        "text encoder": said("lora_te1_text_model_encoder_layers_0_self_attn_q_proj", rows, columns),
    }


def reloaded(pack: Pack, name: str) -> dict[str, Any]:
    """Gradients after a preview in which the network had to leave the device, and came back in inference mode."""
    wired = _wired(pack, name)
    with torch.inference_mode(False):
        model = pack.nodes__comfy__model.WiredSource(wired).load(_config(pack), "fp32", torch.device("cpu"))
        given = _inputs(pack, model)
        with model.training(checkpointing=False), _random_adapter(pack, model) as adapter:
            first = _backward(model, given, adapter)
            with torch.inference_mode():  # as moving it there and back does, to new tensors of the same values
                model.network.double().float()
            try:
                _backward(model, given, adapter)
                failed = False
            except RuntimeError:
                failed = True
            model._refresh()
            again = _backward(model, given, adapter)
    return {"failed_before": failed, "same": bool(torch.equal(first, again)), "size": first.norm().item()}


def _backward(model: Any, given: tuple[Any, ...], adapter: Any) -> Tensor:
    for parameter in adapter.parameters.values():
        parameter.grad = None
    (model.predict(*given) - given[0]).square().mean().backward()
    return torch.cat([p.grad.flatten() for p in adapter.parameters.values() if p.grad is not None])


def remarks(pack: Pack) -> dict[str, Any]:
    """What is said of a model by its file's name."""
    wired = _wired(pack, "flux")
    names = ["z_image_turbo_bf16", "flux1-schnell", "sdxl_lightning_4step", "flux-2-klein-4b", "Hyper-SD15-8steps"]
    names += ["v1-5-pruned", "turbulence", "flux-2-klein-base-4b", "HyperRealism_v1", ""]
    return {name: replace(wired, name=name).remarks() for name in names}


def parity(pack: Pack, checkpoint: str, base: str) -> dict[str, Any]:
    """The same training through ComfyUI's classes and through diffusers: the same pairs, draws and start."""
    import comfy.sd  # pyright: ignore[reportMissingImports]
    from safetensors.torch import load_file

    folder = Path(base)
    with torch.inference_mode():
        whole = {"dtype": torch.float32}  # by itself core keeps text encoders in half precision
        loaded = comfy.sd.load_checkpoint_guess_config(checkpoint, te_model_options=whole)[:3]
    wired = pack.nodes__comfy__model.Wired(*loaded, Path(checkpoint).stem)
    tokenizer = Path(comfy.sd.__file__).parent / "sd1_tokenizer"
    diffusers = pack.dspo_train__runs__diffusers_model.DiffusersSource(Path(checkpoint), tokenizer)
    sources = {"comfy": pack.nodes__comfy__model.WiredSource(wired), "diffusers": diffusers}
    with torch.inference_mode(False):
        model = sources["comfy"].load(_config(pack), "fp32", torch.device("cpu"))
        start = folder / "start.safetensors"
        with _random_adapter(pack, model, 0.01) as adapter:
            weights = adapter.weights()
        pack.dspo_train__lora__writing.save_lora(start, weights, format=model.lora, metadata={}, dtype=torch.float32)
        _storing_float32(pack)
        config = _config(pack, steps=4)
        done = {
            name: load_file(_trained(pack, source, folder / "pairs", folder / name, config, refine=start))
            for name, source in sources.items()
        }
    begun, ours, theirs = load_file(start), done["comfy"], done["diffusers"]
    change = torch.cat([(theirs[key] - begun[key]).flatten() for key in begun])
    apart = torch.cat([(ours[key] - theirs[key]).flatten() for key in begun])
    return {
        "same_keys": ours.keys() == theirs.keys() == begun.keys(),
        "change": change.norm().item(),
        "apart": (apart.norm() / change.norm()).item(),
    }


def _storing_float32(pack: Pack) -> None:
    """LoRA files of float32, so that their rounding is not what is compared."""
    pack.dspo_train__training__trainable.storage_dtype = lambda weights: torch.float32


def refused(pack: Pack, kind: str) -> dict[str, Any]:
    """What is said of a model that cannot be trained, before anything of it is touched."""
    wired = _wired(pack, "sd15" if kind == "editing" else "flux")
    change: Callable[[Any], None] = _CHANGES[kind]
    change(wired.model.model)
    if kind in ("another_vae", "another_clip"):
        part = kind.removeprefix("another_")
        with torch.inference_mode():
            wired = replace(wired, **{part: getattr(_families().FAMILIES["sd15"], part)(3)})
    if kind in ("no_vae", "no_clip"):
        wired = replace(wired, **{kind.removeprefix("no_"): None})
    if kind == "bypass":
        wired.model.set_injections("bypass_lora", [object()])
    try:
        with torch.inference_mode(False):
            pack.nodes__comfy__model.WiredSource(wired).load(_config(pack), "fp32", torch.device("cpu"))
            pack.nodes__comfy__probe.refuse_unfit(wired, wired.encoder().prompts(["dog"]))
    except Exception as error:
        return {"kind": type(error).__name__, "text": str(error)}
    return {}


def _as(**attributes: Any) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        for name, value in attributes.items():
            setattr(model.latent_format, name, value)

    return change


def _with_image(model: Any) -> None:
    model.model_config.unet_config["in_channels"] = 2 * model.latent_format.latent_channels


def _fills_in_an_image(model: Any) -> None:
    """As FLUX.1 Fill, whose first layer takes more than its latents."""
    layer = model.diffusion_model.img_in
    layer.weight = torch.nn.Parameter(torch.zeros(layer.weight.shape[0], 384), requires_grad=False)


def _without_gradient(model: Any) -> None:
    plain = model.diffusion_model.forward
    model.diffusion_model.forward = lambda *args, **kwargs: plain(*args, **kwargs).detach()


_CHANGES: dict[str, Callable[[Any], None]] = {
    "video": _as(latent_dimensions=3),
    "audio": _as(latent_dimensions=1),
    "pixels": _as(latent_channels=3),
    "inpainting": lambda model: setattr(model, "concat_keys", ("mask", "masked_image")),
    "editing": _with_image,
    "bypass": lambda model: None,
    "no_vae": lambda model: None,
    "no_clip": lambda model: None,
    "fill": _fills_in_an_image,
    "another_vae": lambda model: None,
    "another_clip": lambda model: None,
    "no_gradient": _without_gradient,
}

CHECKS = {
    "family": family,
    "looked_at": looked_at,
    "quantised": quantised,
    "patched_on_the_fly": patched_on_the_fly,
    "fingerprints": fingerprints,
    "remarks": remarks,
    "refined": refined,
    "reloaded": reloaded,
    "parity": parity,
    "refused": refused,
    "lora_fits": lora_fits,
}
