"""A LoRA on the negative conditioning: what each half of guidance is predicted with, and that nothing stays behind.

A node of the test's own lets the sampler follow one half alone, so that a latent shows what that half was drawn with.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import cached
from comfy_events import PROGRESS_TEXT
from comfy_server import ComfyServer, Core, link, prepare, running
from graphs import CHECKPOINT, SAMPLING, SEED, Graph, applied_by_name, compared, with_model
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.comfy
LONG = 200  # seconds
REFUSED = {  # how each of these is refused by the nodes that apply a LoRA
    "wider": "fits no layer of the model",
    "sdxl": "fits no layer of the model",
    "text": "changes only the text encoder, and this node changes only the model",
}
DECODED = {"class_type": "VAEDecode", "inputs": {"samples": ["sample", 0], "vae": ["3", 2]}}
SEEN = {"class_type": "PreviewImage", "inputs": {"images": ["decode", 0]}}
PROBE = '''
import comfy.utils
import folder_paths


class OneHalf:
    """Guidance that returns one half of itself; core then evaluates both halves at any cfg."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"model": ("MODEL",), "half": (["cond", "uncond"],)}})
    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "follow", "test"

    def follow(self, model, half):
        model = model.clone()
        model.set_model_sampler_cfg_function(lambda args: args[half], disable_cfg1_optimization=True)
        return (model,)


class Wire:
    INPUT_TYPES = classmethod(lambda cls: {"required": {"lora_name": ("STRING",)}})
    RETURN_TYPES, FUNCTION, CATEGORY = ("LORA_MODEL",), "read", "test"

    def read(self, lora_name):
        return (comfy.utils.load_torch_file(folder_paths.get_full_path_or_raise("loras", lora_name)),)


NODE_CLASS_MAPPINGS = {"TestOneHalf": OneHalf, "TestWire": Wire}
'''


@pytest.fixture(scope="module")
def server(core: Core, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """One with the test's nodes, two checkpoints, and LoRAs named by what they are."""
    base = tmp_path_factory.mktemp("negative")
    prepare(base)
    link(cached("sd15"), base / "models" / "checkpoints" / CHECKPOINT)
    link(cached("sdxl"), base / "models" / "checkpoints" / "sdxl.safetensors")
    (base / "custom_nodes" / "one_half.py").write_text(PROBE, encoding="utf-8")
    folder = base / "models" / "loras"
    write_lora(folder / "liked.safetensors", cached("sd15"), 1, {"dspo.labels": "given"})
    write_lora(folder / "disliked.safetensors", cached("sd15"), 2, {"dspo.labels": "swapped"})
    write_lora(folder / "unknown.safetensors", cached("sd15"), 2)
    write_lora(folder / "sdxl.safetensors", cached("sdxl"), 2)
    tensors = load_file(folder / "unknown.safetensors")
    widened = {k: torch.cat([v, v], 1) if ".lora_down." in k else v for k, v in tensors.items()}
    renamed = {k.replace("lora_unet_", "lora_te_"): v for k, v in tensors.items()}
    first = next(key for key in widened if "_attn1_" in key).partition(".")[0]
    partly = {k: v if k.startswith(first) else tensors[k] for k, v in widened.items()}
    for name, content in (("wider", widened), ("text", renamed), ("partly", partly)):
        save_file(content, str(folder / f"{name}.safetensors"))
    with running(core, base) as started:
        yield started


def write_lora(path: Path, checkpoint: Path, seed: int, metadata: dict[str, str] | None = None) -> None:
    """Random factors of rank 2 for every attention projection, strong enough to show."""
    draw = torch.Generator().manual_seed(seed)
    prefix, tensors = "model.diffusion_model.", {}
    with safe_open(str(checkpoint), framework="pt") as file:
        for key in sorted(file.keys()):
            if key.startswith(prefix) and ".attn" in key and key.endswith(".weight"):
                rows, columns = file.get_slice(key).get_shape()
                name = "lora_unet_" + key.removeprefix(prefix).removesuffix(".weight").replace(".", "_")
                tensors[f"{name}.lora_down.weight"] = torch.randn(2, columns, generator=draw) * columns**-0.5
                tensors[f"{name}.lora_up.weight"] = torch.randn(rows, 2, generator=draw)
                tensors[f"{name}.alpha"] = torch.tensor(2.0)
    assert len(tensors) > 30
    save_file(tensors, str(path), metadata=metadata)


def workflow(
    *, ckpt: str = CHECKPOINT, on_model: tuple[str, ...] = (), half: str | None = None, **sampling: Any
) -> Graph:
    """Checkpoint -> LoRAs by core's own loader -> perhaps one half -> KSampler ("sample") -> SaveLatent ("saved")."""
    graph, model = with_model({}, ckpt), ["3", 0]
    for n, name in enumerate(on_model):
        inputs = {"model": model, "lora_name": f"{name}.safetensors", "strength_model": 1.0}
        graph[f"lora{n}"] = {"class_type": "LoraLoaderModelOnly", "inputs": inputs}
        model = [f"lora{n}", 0]
    if half is not None:
        graph["half"] = {"class_type": "TestOneHalf", "inputs": {"model": model, "half": half}}
        model = ["half", 0]
    wires = {"model": model, "positive": ["4", 0], "negative": ["5", 0], "latent_image": ["6", 0]}
    inputs = {**wires, **SAMPLING, "seed": SEED, "steps": 3, **sampling}
    graph["sample"] = {"class_type": "KSampler", "inputs": inputs}
    graph["saved"] = {"class_type": "SaveLatent", "inputs": {"samples": ["sample", 0], "filename_prefix": "test/n"}}
    return graph


def negated(graph: Graph, name: str | None = "disliked", strength: float = 1.0, **inputs: Any) -> Graph:
    """Our node ("ours") between the empty prompt and the sampler."""
    named = {"lora_name": f"{name}.safetensors"} if name else {}
    ours = {
        "class_type": "DSPONegativeLora",
        "inputs": {"negative": ["5", 0], "strength": strength, **named, **inputs},
    }
    sample = graph["sample"]
    return graph | {
        "ours": ours,
        "sample": {**sample, "inputs": {**sample["inputs"], "negative": ["ours", 0]}},
    }


def drawn(server: ComfyServer, graph: Graph) -> torch.Tensor:
    """The latent, drawn now by the model that is already loaded: core's cache keeps the last prompt's nodes alone."""
    kept = {key: graph[key] for key in ("3", "5")}
    server.run(kept | {"forget": {"class_type": "PreviewAny", "inputs": {"source": ["5", 0]}}}, LONG)
    entry = server.wait(server.queue(graph), LONG)
    assert entry["status"]["status_str"] == "success", entry["status"]
    messages = dict(entry["status"]["messages"])
    cached_nodes = messages["execution_cached"]["nodes"]
    assert "3" in cached_nodes and "sample" not in cached_nodes
    (saved,) = entry["outputs"]["saved"]["latents"]
    return load_file(server.base / "output" / saved["subfolder"] / saved["filename"])["latent_tensor"]


def failure(server: ComfyServer, graph: Graph) -> dict[str, Any]:
    status = server.wait(server.queue(graph), LONG)["status"]
    (error,) = [value for name, value in status["messages"] if name == "execution_error"]
    return error


def same_picture(one: bytes, other: bytes) -> bool:
    first, second = (np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in (one, other))
    return np.array_equal(first, second)


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return (one - other).abs().max().item()


@pytest.mark.parametrize("on_model", [(), ("liked",)], ids=["bare", "with the liked LoRA on the model"])
def test_each_half_is_predicted_with_its_own_weights(server: ComfyServer, on_model: tuple[str, ...]) -> None:
    """Against runs at cfg 1, where core evaluates one prompt alone, with core's own loader for what it should carry.

    The positive half is the same to the bit. What the model carries, the negative half carries too.
    """
    positive = drawn(server, negated(workflow(on_model=on_model, half="cond")))
    alone = drawn(server, workflow(on_model=on_model, cfg=1.0))
    assert torch.equal(positive, alone)
    negative = drawn(server, negated(workflow(on_model=on_model, half="uncond")))
    without = drawn(server, workflow(on_model=on_model, half="uncond"))
    both = workflow(on_model=(*on_model, "disliked"), cfg=1.0)
    both["sample"]["inputs"]["positive"] = ["5", 0]
    assert apart(negative, drawn(server, both)) < 1e-3
    assert apart(negative, without) > 1


def test_the_positive_half_is_that_of_a_run_without_the_node(server: ComfyServer) -> None:
    """Without the node core puts both halves into one batch, which rounds otherwise: by 1e-4 of a spread of 84."""
    without = drawn(server, workflow(half="cond"))
    assert apart(drawn(server, negated(workflow(half="cond"))), without) < 1e-5 * without.std().item()


def test_the_whole_of_guidance(server: ComfyServer) -> None:
    """One step at cfg 3 ends at negative + 3 (positive - negative), as Euler's last step ends at the prediction."""
    positive = drawn(server, negated(workflow(half="cond", steps=1)))
    negative = drawn(server, negated(workflow(half="uncond", steps=1)))
    guided = drawn(server, negated(workflow(steps=1)))
    assert apart(guided, negative + 3 * (positive - negative)) < 1e-3
    assert apart(guided, drawn(server, workflow(steps=1))) > 1


def test_nothing_is_left_on_the_model(server: ComfyServer) -> None:
    """The same loaded checkpoint before and after: the very same latents, with the liked LoRA on it too."""
    before = drawn(server, workflow()), drawn(server, workflow(on_model=("liked",)))
    with_node = drawn(server, negated(workflow()))
    assert torch.equal(drawn(server, workflow()), before[0])
    assert apart(with_node, before[0]) > 1
    on_both = drawn(server, negated(workflow(on_model=("liked",))))
    assert torch.equal(drawn(server, workflow(on_model=("liked",))), before[1])
    assert apart(on_both, with_node) > 1
    assert torch.equal(drawn(server, negated(workflow())), with_node), "nor do two runs with the node differ"


def test_strength(server: ComfyServer) -> None:
    """0 is no node; the others differ; and a changed strength does not meet weights kept from the one before."""
    plain = drawn(server, workflow())
    assert torch.equal(drawn(server, negated(workflow(), strength=0.0)), plain)
    full, half = (drawn(server, negated(workflow(), strength=strength)) for strength in (1.0, 0.5))
    assert min(apart(full, half), apart(half, plain)) > 1
    scaled = drawn(server, negated(workflow(half="uncond"), strength=0.5))
    by_core = workflow(on_model=("disliked",), cfg=1.0)
    by_core["sample"]["inputs"]["positive"] = ["5", 0]
    by_core["lora0"]["inputs"]["strength_model"] = 0.5
    assert apart(scaled, drawn(server, by_core)) < 1e-3


def test_a_wire_is_the_file_and_goes_before_the_name(server: ComfyServer) -> None:
    named = drawn(server, negated(workflow()))
    for name in (None, "liked"):
        wire = {"wire": {"class_type": "TestWire", "inputs": {"lora_name": "disliked.safetensors"}}}
        assert torch.equal(drawn(server, negated(workflow(), name, lora=["wire", 0]) | wire), named)


def test_two_of_them_add_up(server: ComfyServer) -> None:
    """Half of it twice is all of it: the second node keeps what the first one put on the conditioning."""
    graph = negated(workflow(), strength=0.5)
    graph["second"] = {
        "class_type": "DSPONegativeLora",
        "inputs": {"negative": ["ours", 0], "strength": 0.5, "lora_name": "disliked.safetensors"},
    }
    graph["sample"]["inputs"]["negative"] = ["second", 0]
    assert apart(drawn(server, graph), drawn(server, negated(workflow()))) < 1e-3


def test_below_zero_it_takes_off_what_the_model_carries(server: ComfyServer) -> None:
    """The liked LoRA on the model, and less one times itself on the negative half: what is left is the bare model."""
    negative = drawn(server, negated(workflow(on_model=("liked",), half="uncond"), "liked", strength=-1.0))
    bare = workflow(cfg=1.0)
    bare["sample"]["inputs"]["positive"] = ["5", 0]
    assert apart(negative, drawn(server, bare)) < 0.01


def test_compare_sampler_takes_it_as_ksampler_does(server: ComfyServer) -> None:
    graph = negated(workflow()) | compared("liked.safetensors")
    del graph["8"]
    graph["7"]["inputs"] |= {"negative": ["ours", 0], "steps": 3, "pictures": 1, "strengths": "1"}
    shown = server.run(graph | {"decode": DECODED, "see": SEEN}, LONG)
    ours, theirs = (server.view(**shown[node][key][0]) for node, key in (("7", "a_images"), ("see", "images")))
    assert same_picture(ours, theirs)


def test_at_cfg_1_there_is_no_negative_half(server: ComfyServer) -> None:
    assert torch.equal(drawn(server, negated(workflow(cfg=1.0))), drawn(server, workflow(cfg=1.0)))


def test_sdxl(server: ComfyServer) -> None:
    ckpt = "sdxl.safetensors"
    negative = drawn(server, negated(workflow(ckpt=ckpt, half="uncond"), "sdxl"))
    by_core = workflow(ckpt=ckpt, on_model=("sdxl",), cfg=1.0)
    by_core["sample"]["inputs"]["positive"] = ["5", 0]
    assert apart(negative, drawn(server, by_core)) < 1e-3
    assert torch.equal(
        drawn(server, negated(workflow(ckpt=ckpt, half="cond"), "sdxl")), drawn(server, workflow(ckpt=ckpt, cfg=1.0))
    )


@pytest.mark.parametrize("name", ["wider", "text"])
def test_a_lora_that_fits_nothing_is_refused(server: ComfyServer, name: str) -> None:
    """Of the same names and other shapes, and of no name that the model has; the model then draws as before."""
    before = drawn(server, workflow())
    error = failure(server, negated(workflow(), name))
    assert error["node_type"] == "KSampler"
    assert f"DSPO Negative LoRA: the LoRA '{name}.safetensors' {REFUSED[name]}" in error["exception_message"]
    drawn(server, negated(workflow()))
    assert torch.equal(drawn(server, workflow()), before)


@pytest.mark.parametrize("name", ["wider", "text", "sdxl"])
@pytest.mark.parametrize("node", ["DSPOApplyLora", "DSPOCompareSampler"])
def test_the_nodes_that_apply_a_lora_refuse_one_that_fits_nothing(server: ComfyServer, node: str, name: str) -> None:
    """Core's loader would draw without it, and the comparison would show two equal images."""
    if node == "DSPOApplyLora":
        graph = applied_by_name(CHECKPOINT, f"{name}.safetensors", "ours")
    else:
        graph = with_model({}, CHECKPOINT) | compared(f"{name}.safetensors")
    error = failure(server, graph)
    assert error["node_type"] == node
    title = {"DSPOApplyLora": "DSPO Apply LoRA", "DSPOCompareSampler": "DSPO Compare Sampler"}[node]
    assert f"{title}: the LoRA '{name}.safetensors' {REFUSED[name]}" in error["exception_message"]


def test_a_lora_that_fits_in_part_is_used_in_part(server: ComfyServer) -> None:
    before = len(server.log())
    drawn(server, negated(workflow(), "partly"))
    assert "DSPO Negative LoRA: 1 of " in server.log()[before:]
    before = len(server.log())
    drawn(server, negated(workflow()))
    assert "do not fit" not in server.log()[before:]


@pytest.mark.parametrize("name", ["gone", "../liked"])
def test_a_lora_that_is_not_listed_is_not_queued(server: ComfyServer, name: str) -> None:
    with pytest.raises(AssertionError, match="value_not_in_list") as refused:
        server.queue(negated(workflow(), name))
    assert "lora_name" in str(refused.value)


def test_no_lora_at_all(server: ComfyServer) -> None:
    error = failure(server, negated(workflow(), None))
    assert error["node_type"] == "DSPONegativeLora"
    assert "no LoRA is given; wire one into `lora`, or choose one in `lora_name`" in error["exception_message"]


@pytest.mark.parametrize(
    ("name", "strength", "told"),
    [("liked", 0.75, True), ("liked", -0.75, False), ("disliked", 0.75, False), ("unknown", 0.75, False)],
)
def test_a_lora_of_the_wrong_sign_is_told_of(server: ComfyServer, name: str, strength: float, told: bool) -> None:
    """By the labels that its file says it was trained with; it is used all the same."""
    before = len(server.log())
    with server.listen() as events:
        graph = negated(workflow(), name, strength=strength)
        status = server.wait(server.queue(graph, events.client_id), LONG)["status"]
        events.until(lambda e: e.of("execution_success"))
    assert status["status_str"] == "success"
    notes = [b.payload.decode() for b in events.binary if b.kind == PROGRESS_TEXT and b.about == {"node": "ours"}]
    assert [("labels swapped" in note, note.startswith(f"Note: the LoRA '{name}.safe")) for note in notes] == (
        [(True, True)] if told else []
    )
    assert ("labels swapped" in server.log()[before:]) is told
