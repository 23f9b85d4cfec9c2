"""Workflows with the pack's nodes in API format, small enough for a processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_runs import write_opinions, write_pairs

from dspo_train.config.forms import inputs_of

Graph = dict[str, dict[str, Any]]

CHECKPOINT = "sd15.safetensors"
WIRED = {"model": ["3", 0], "clip": ["3", 1], "vae": ["3", 2]}
SAMPLING = {"steps": 2, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
SEED = 5
STRENGTH = 3.0  # exaggerated, so that a short training shows


def put_pairs(base: Path, name: str = "tiny", count: int = 4) -> str:
    """A set of noise pictures in the input folder; its name in the combo."""
    folder = base / "input" / name
    if not folder.exists():
        write_pairs(folder, count)
    return name


def put_opinions(base: Path, name: str = "liked-or-not") -> str:
    """A set of liked and disliked noise pictures in the input folder; its name in the combo."""
    folder = base / "input" / name
    if not folder.exists():
        write_opinions(folder)
    return name


def with_options(graph: Graph, **options: Any) -> Graph:
    """Adds Training Options ("options") to Train LoRA ("2"), as they are but for those given."""
    plain = {one.name: one.default for one in inputs_of("options")}
    assert options.keys() <= plain.keys()
    node = {"class_type": "DSPOTrainingOptions", "inputs": plain | options}
    train = {**graph["2"], "inputs": {**graph["2"]["inputs"], "options": ["options", 0]}}
    return graph | {"2": train, "options": node}


def train_graph(dataset: str, name: str, ckpt: str = CHECKPOINT, **settings: Any) -> Graph:
    """Preference Set ("1") and the checkpoint ("3") -> Train LoRA ("2"). No previews unless asked for."""
    values = {
        "name": name,
        "preset": "Strong",
        "steps": 3,
        "preview_prompt": "",
        "preview_every": 0,
        "learning_rate": 0.002,
        "resolution": 64,
        "pairs_at_once": 1,
        "accumulate": 1,
        **settings,
    }
    return {
        "1": {
            "class_type": "DSPOPreferenceSet",
            "inputs": {"dataset": dataset, "shown": 2, "allow_empty_captions": False},
        },
        "2": {"class_type": "DSPOTrainLora", "inputs": {"pairs": ["1", 0], **WIRED, **values}},
        "3": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": ckpt}},
    }


def with_model(graph: Graph, ckpt: str = CHECKPOINT) -> Graph:
    """Adds the checkpoint ("3"), a prompt ("4"), an empty one ("5") and an empty latent ("6")."""
    return graph | {
        "3": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": ckpt}},
        "4": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["3", 1], "text": "red dog"}},
        "5": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["3", 1], "text": ""}},
        "6": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
    }


def sampled(node: str, model: list[Any]) -> Graph:
    """KSampler, decoder and SaveImage on a model wire; the pictures are saved by node `NODE-save`."""
    wires = {"model": model, "positive": ["4", 0], "negative": ["5", 0], "latent_image": ["6", 0]}
    return {
        f"{node}-sample": {"class_type": "KSampler", "inputs": {**wires, **SAMPLING, "seed": SEED}},
        f"{node}-decode": {"class_type": "VAEDecode", "inputs": {"samples": [f"{node}-sample", 0], "vae": ["3", 2]}},
        f"{node}-save": {
            "class_type": "SaveImage",
            "inputs": {"images": [f"{node}-decode", 0], "filename_prefix": f"test/{node}"},
        },
    }


def whole_graph(dataset: str, name: str, ckpt: str = CHECKPOINT, **settings: Any) -> Graph:
    """Train, then the LoRA through core's loader, through ours by wire, and in the comparison with its sheet."""
    graph = with_model(train_graph(dataset, name, ckpt, **settings), ckpt)
    graph["core"] = {
        "class_type": "LoraModelLoader",
        "inputs": {"model": ["3", 0], "lora": ["2", 0], "strength_model": STRENGTH, "bypass": False},
    }
    graph["ours"] = {
        "class_type": "DSPOApplyLora",
        "inputs": {"model": ["3", 0], "lora": ["2", 0], "strength": STRENGTH},
    }
    graph |= sampled("base", ["3", 0]) | sampled("by-core", ["core", 0]) | sampled("by-us", ["ours", 0])
    return graph | compared(["2", 0])


def compared(lora: list[Any] | str) -> Graph:
    """Compare Sampler ("7", two seeds, two strengths) and A/B Grid ("8")."""
    chosen = {"lora_name": lora} if isinstance(lora, str) else {"lora": lora}
    wires = {"model": ["3", 0], "vae": ["3", 2], "positive": ["4", 0], "negative": ["5", 0], "latent_image": ["6", 0]}
    compare = {**wires, **SAMPLING, **chosen, "first_seed": SEED, "pictures": 2, "strengths": f"1, {STRENGTH}"}
    sheet = {"prompts": "red dog", "title": "Test", "theme": "light", "filename_prefix": "test/sheet"}
    wired = {"base": ["7", 0], "aligned": ["7", 1], "seeds": ["7", 2], "strengths": ["7", 3]}
    return {
        "7": {"class_type": "DSPOCompareSampler", "inputs": compare},
        "8": {"class_type": "DSPOABGrid", "inputs": {**sheet, **wired}},
    }


def applied_by_name(ckpt: str, lora_name: str, kind: str) -> Graph:
    """A LoRA file on a checkpoint by `kind`: `core` or `ours`; saved by `named-save`."""
    graph = with_model({}, ckpt)
    if kind == "core":
        inputs = {"model": ["3", 0], "lora_name": lora_name, "strength_model": STRENGTH}
        graph["named"] = {"class_type": "LoraLoaderModelOnly", "inputs": inputs}
    else:
        inputs = {"model": ["3", 0], "lora_name": lora_name, "strength": STRENGTH}
        graph["named"] = {"class_type": "DSPOApplyLora", "inputs": inputs}
    return graph | sampled("named", ["named", 0])
