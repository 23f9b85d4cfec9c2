"""What a full fine-tuning writes, in a real ComfyUI: the checkpoint, the UNet alone, and the LoRA made from it."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import Kind, cached
from comfy_server import ComfyServer, Core, link
from graphs import STRENGTH, Graph, sampled, with_model
from PIL import Image
from torch import Tensor

from dspo_train.lora.extract import extract
from dspo_train.lora.formats import unet_format
from dspo_train.lora.writing import save_lora
from dspo_train.models.base import Base, load_base
from dspo_train.models.checkpoint_file import save_checkpoint
from dspo_train.models.conditioning import Conditioning
from dspo_train.models.families import Prediction
from dspo_train.models.unet import predict
from dspo_train.training.full import whole

pytestmark = pytest.mark.comfy
INSIDE = Path(__file__).with_name("inside.py")


def trained(base: Base) -> tuple[dict[str, Tensor], float]:
    """All weights after two large steps, and the largest change of what the UNet predicts."""
    draw = torch.Generator().manual_seed(1)
    tensors = {"context": torch.randn(2, 77, base.unet.config["cross_attention_dim"], generator=draw)}
    if base.family.name == "sdxl":
        tensors |= {"pooled": torch.randn(2, 1280, generator=draw), "time_ids": torch.full((2, 6), 64.0)}
    given = Conditioning(tensors)
    noisy, timesteps = torch.randn(2, 4, 8, 8, generator=draw), torch.tensor([100, 700])
    with whole(base.unet) as model:
        optimiser = torch.optim.AdamW(model.parameters.values(), lr=1e-3)
        for _ in range(2):
            predict(base.family, base.unet, noisy, timesteps, given).square().mean().backward()
            optimiser.step()
            optimiser.zero_grad()
        with torch.no_grad():
            after = predict(base.family, base.unet, noisy, timesteps, given)
            with model.reference():
                change = (after - predict(base.family, base.unet, noisy, timesteps, given)).abs().max().item()
    return {name: parameter.detach() for name, parameter in model.parameters.items()}, change


def loaded(core: Core, family: Kind) -> Base:
    return load_base(cached(family), tokenizer=core.path / "comfy" / "sd1_tokenizer")


def seen_inside(core: Core, checkpoint: Path, lora: Path) -> dict[str, Any]:
    command = [core.python, str(INSIDE), "noise", str(checkpoint), str(lora)]
    done = subprocess.run(command, cwd=core.path, env=core.env(), capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_comfyui_predicts_what_the_trainer_does(core: Core, tmp_path: Path, family: Kind) -> None:
    """With base and trained weights each the same to 1e-3, so is their difference, which is a hundred times larger."""
    base = loaded(core, family)
    state, change = trained(base)
    options: dict[str, Any] = {"unet_config": base.unet.config, "metadata": {"dspo.objective": "dspo"}}
    checkpoint, lora = tmp_path / "trained.safetensors", tmp_path / "extracted.safetensors"
    saved = save_checkpoint(checkpoint, cached(family), state, prediction="epsilon", dtype=torch.float32, **options)
    assert saved.lost == 0
    found = extract(base.unet, state, "attention+mlp+proj", rank=8)
    metadata, names = options["metadata"], unet_format(base.family, base.unet)
    save_lora(lora, found.weights, format=names, metadata=metadata, dtype=torch.float32)
    again = load_base(checkpoint, tokenizer=core.path / "comfy" / "sd1_tokenizer").unet.state_dict()
    assert all(torch.equal(again[name], value) for name, value in state.items())
    del base, again
    on_base, on_trained = seen_inside(core, cached(family), lora), seen_inside(core, checkpoint, lora)
    assert change > 0.2
    assert on_base["bare"] < 1e-3 and on_trained["bare"] < 1e-3
    assert on_base["patched"] == on_base["in_file"] == len(found.weights) > 20
    assert on_base["with_lora"] < 1e-3 < 0.02 < on_base["effect"]


CASES: list[tuple[Kind, Prediction]] = [("sd15", "epsilon"), ("sdxl", "v_prediction")]


@pytest.mark.parametrize(("family", "prediction"), CASES)
def test_the_checkpoint_and_the_unet_alone_make_the_same_new_picture(
    server: ComfyServer, core: Core, tmp_path: Path, family: Kind, prediction: Prediction
) -> None:
    """In the base file's own precision. SDXL is trained for v here, which both files have to tell the loaders."""
    base = loaded(core, family)
    state, _ = trained(base)
    names = {part: f"{part}-{family}.safetensors" for part in ("before", "after", "unet", "lora")}
    models = server.base / "models"
    link(cached(family), models / "checkpoints" / names["before"])
    options: dict[str, Any] = {"unet_config": base.unet.config, "prediction": prediction, "metadata": {}}
    save_checkpoint(models / "checkpoints" / names["after"], cached(family), state, **options)
    save_checkpoint(models / "diffusion_models" / names["unet"], tmp_path, state, **options)
    found = extract(base.unet, state, "attention", rank=4)
    kind = unet_format(base.family, base.unet)
    save_lora(models / "loras" / names["lora"], found.weights, format=kind, metadata={})
    del base, state
    before = len(server.log())
    with_unet = {"class_type": "UNETLoader", "inputs": {"unet_name": names["unet"], "weight_dtype": "default"}}
    lora = {"model": ["3", 0], "lora_name": names["lora"], "strength_model": STRENGTH}
    old = with_model({"lora": {"class_type": "LoraLoaderModelOnly", "inputs": lora}}, names["before"])
    new = with_model({"alone": with_unet}, names["after"])
    base_picture, by_lora = drawn(server, old | sampled("old", ["3", 0]) | sampled("by-lora", ["lora", 0]))
    whole_file, alone = drawn(server, new | sampled("new", ["3", 0]) | sampled("by-unet", ["alone", 0]))
    assert np.abs(whole_file - alone).max() == 0
    assert np.abs(whole_file - base_picture).max() > 8
    assert np.abs(by_lora - base_picture).max() > 0
    log = server.log()[before:]
    assert "not loaded" not in log and "unet missing" not in log
    odd = [line for line in log.splitlines() if "unet unexpected" in line]
    assert all(line.endswith("['v_pred']") for line in odd), "which the loader has read by then"
    assert log.count("model_type V_PREDICTION") == (2 if prediction == "v_prediction" else 0)
    for part, folder in (("after", "checkpoints"), ("unet", "diffusion_models")):
        (models / folder / names[part]).unlink()  # gigabytes


def drawn(server: ComfyServer, graph: Graph) -> list[np.ndarray]:
    """The pictures of the graph's SaveImage nodes, in their order."""
    outputs = server.run(graph, timeout=400)
    entries = [outputs[node]["images"][0] for node in graph if node.endswith("-save")]
    return [np.asarray(Image.open(io.BytesIO(server.view(**e))).convert("RGB")).astype(int) for e in entries]
