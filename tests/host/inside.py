"""Runs in ComfyUI's own Python, from its checkout: `python inside.py CHECK ARGUMENTS...`; prints one line of JSON.

A server answers over HTTP alone; what its UNet predicts and which of its weights a LoRA patches is seen from inside.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PACK = HERE.parents[1]
PACKAGE = "dspo_studio_pack"


def main() -> None:
    check, *arguments = sys.argv[1:]
    sys.path[0] = os.getcwd()  # the checkout's own modules, as main.py sees them
    sys.argv = ["main.py", "--cpu"]
    boot = _module("boot", HERE / "boot.py")
    boot.declare_vision_operators()
    boot.stub_audio()
    import comfy.options  # pyright: ignore[reportMissingImports]

    comfy.options.enable_args_parsing()
    import utils.extra_config  # noqa: F401  # pyright: ignore[reportMissingImports] - before another `utils` is found

    sys.stdout.write(json.dumps(_checks()[check](*arguments)) + "\n")


def _checks() -> dict[str, Any]:
    """Those of this file, of `inside_wired.py`, which take the pack first, and of `playground_check.py`: its name."""
    wired, playground = (_module(name, HERE / f"{name}.py") for name in ("inside_wired", "playground_check"))
    _pack()
    return {
        **CHECKS,
        **{name: partial(check, wired.Pack(PACKAGE)) for name, check in wired.CHECKS.items()},
        **{f"playground_{name}": partial(check, PACKAGE) for name, check in playground.CHECKS.items()},
    }


def _module(name: str, path: Path, **options: Any) -> Any:
    spec = importlib.util.spec_from_file_location(name, path, **options)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _pack() -> Any:
    """The pack as ComfyUI loads it: a package whose name is not `dspo_train`."""
    return _module(PACKAGE, PACK / "__init__.py", submodule_search_locations=[str(PACK)])


def _library(name: str) -> Any:
    _pack()
    return importlib.import_module(f"{PACKAGE}.dspo_train.{name}")


def noise(checkpoint: str, lora: str) -> dict[str, Any]:
    """The same latents, timesteps and conditioning through ComfyUI's UNet with the LoRA file and the trainer's."""
    import comfy.model_management  # pyright: ignore[reportMissingImports]
    import comfy.sd  # pyright: ignore[reportMissingImports]
    import comfy.utils  # pyright: ignore[reportMissingImports]
    import torch

    draw = torch.Generator().manual_seed(7)
    with torch.inference_mode():
        model = comfy.sd.load_checkpoint_guess_config(checkpoint, output_clip=False, output_vae=False)[0]
        tensors = comfy.utils.load_torch_file(lora)
        patched = comfy.sd.load_lora_for_models(model, None, tensors, 1.0, 0)[0]
        sdxl = model.model.model_config.unet_config.get("adm_in_channels") is not None
        context = torch.randn(2, 77, model.model.model_config.unet_config["context_dim"], generator=draw)
        latents = torch.randn(2, 4, 8, 8, generator=draw)
        timesteps = torch.tensor([100, 700])
        pooled, sizes = torch.randn(2, 1280, generator=draw), torch.tensor([[64.0, 64, 0, 0, 64, 64]] * 2)
        adm = None
        if sdxl:
            embedded = model.model.embedder(sizes.flatten()).view(2, -1)
            adm = torch.cat([pooled, embedded], dim=1)
        predictions = []
        for each in (model, patched):
            comfy.model_management.load_models_gpu([each], force_full_load=True)
            unet = each.model.diffusion_model.float()
            predictions.append(unet(latents, timesteps, context=context, y=adm).float().clone())
            comfy.model_management.unload_all_models()
    theirs_bare, theirs = predictions
    with torch.inference_mode(False), torch.no_grad():
        tokenizer = Path(comfy.sd.__file__).parent / "sd1_tokenizer"
        base = _library("models.base").load_base(checkpoint, tokenizer=tokenizer)
        added = {"pooled": pooled.clone(), "time_ids": sizes.clone()} if sdxl else {}
        conditioning = _library("models.conditioning").Conditioning({"context": context.clone(), **added})
        predict, lora_tools = _library("models.unet").predict, _library("lora.attach")
        ours_bare = predict(base.family, base.unet, latents.clone(), timesteps.clone(), conditioning)
        weights = _library("lora.reading").load_lora(Path(lora), base.unet).weights
        with lora_tools.applied(base.unet, weights):
            ours = predict(base.family, base.unet, latents.clone(), timesteps.clone(), conditioning)
    return {
        "bare": (theirs_bare - ours_bare).abs().max().item(),
        "with_lora": (theirs - ours).abs().max().item(),
        "effect": (theirs - theirs_bare).abs().max().item(),
        "spread": theirs.std().item(),
        "patched": len(patched.patches),
        "in_file": sum(key.endswith(".lora_up.weight") for key in tensors),
    }


def imports() -> dict[str, Any]:
    """Which slow packages the pack loads when its nodes are registered."""
    import asyncio

    import nodes  # noqa: F401  # pyright: ignore[reportMissingImports] - core's, which is there before any pack

    before = set(sys.modules)
    extension = asyncio.run(_pack().comfy_entrypoint())
    listed = asyncio.run(extension.get_node_list())
    for node in listed:
        node.GET_SCHEMA()
    new = {name.partition(".")[0] for name in set(sys.modules) - before}
    return {"nodes": [node.__name__ for node in listed], "new": sorted(new)}


def out_of_memory(checkpoint: str, base: str) -> dict[str, Any]:
    """What the trainer says, and keeps, when the device runs out of memory in the middle of a step."""
    import comfy.sd  # pyright: ignore[reportMissingImports]
    import folder_paths  # pyright: ignore[reportMissingImports]
    import server  # pyright: ignore[reportMissingImports]
    import torch

    folder_paths.set_output_directory(str(Path(base) / "output"))
    folder_paths.set_input_directory(str(Path(base) / "input"))
    folder_paths.add_model_folder_path("checkpoints", str(Path(checkpoint).parent))
    server.PromptServer.instance = _Silent()
    _pack()
    training = importlib.import_module(f"{PACKAGE}.nodes.training")
    setting_inputs = importlib.import_module(f"{PACKAGE}.nodes.setting_inputs")
    sockets = importlib.import_module(f"{PACKAGE}.nodes.sockets")
    scan = _library("pairs").scan_pairs(Path(base) / "input" / "tiny")

    def full(*_: Any) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    training._steps = full  # pyright: ignore[reportAttributeAccessIssue]
    settings = {"preset": "Balanced", "steps": 4, "preview_every": 0, "preview_prompt": "", "resolution": 256}
    lowered = {"pairs_at_once": 8, "gradient_checkpointing": "off"}  # what the message will offer to change
    pairs = sockets.PairSet("tiny", scan, "x")
    with torch.inference_mode():
        parts = comfy.sd.load_checkpoint_guess_config(checkpoint)[:3]
    wired = importlib.import_module(f"{PACKAGE}.nodes.comfy.model").Wired(*parts)
    try:
        with setting_inputs.errors_in_graph():  # as the node does
            training.train(training.Order(wired, pairs, "full", {**settings, **lowered}, "1"))
    except Exception as error:
        return {"kind": type(error).__name__, "text": str(error), "context": error.__context__ is None}
    return {}


class _Silent:
    """A server that nobody listens to."""

    def send_sync(self, *_: Any, **__: Any) -> None: ...

    def send_progress_text(self, *_: Any, **__: Any) -> None: ...


CHECKS = {"noise": noise, "imports": imports, "out_of_memory": out_of_memory}

if __name__ == "__main__":
    main()
