"""What ComfyUI knows of the pack: every node's schema, its texts, and names that lead out of its folders."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from comfy_server import PACK_NAME, ComfyServer
from graphs import SAMPLING, put_pairs, train_graph, with_model
from test_confine import HOSTILE

pytestmark = pytest.mark.comfy
SNAPSHOT = Path(__file__).with_name("schemas.json")
LISTS = {"dataset", "refine_lora", "lora_name", "taste_name", "prompts_file"}  # of what is there
FOUND = {*LISTS, "sampler_name", "scheduler"}
KEPT = ("default", "min", "max", "step", "round", "tooltip", "multiline", "forceInput", "advanced")


def schema(info: dict[str, Any]) -> dict[str, Any]:
    """The part of a node's description that saved workflows depend on, the same on every core."""
    inputs = {
        group: {name: _input(name, *spec) for name, spec in info["input"].get(group, {}).items()}
        for group in ("required", "optional")
    }
    order = [name for group in ("required", "optional") for name in info["input"].get(group, {})]
    return {
        "inputs": inputs,
        "order": order,
        "outputs": [list(pair) for pair in zip(info["output"], info["output_name"], strict=True)],
        "output_node": info["output_node"],
        **{key: info[key] for key in ("display_name", "category", "description")},
    }


def _input(name: str, kind: Any, options: dict[str, Any] | None = None) -> dict[str, Any]:
    options = options or {}
    choices = kind if isinstance(kind, list) else options.get("options")
    listed = {} if choices is None or name in FOUND else {"options": choices}
    return {
        "type": "COMBO" if isinstance(kind, list) else kind,
        **listed,
        **{k: options[k] for k in KEPT if k in options},
    }


def ours(server: ComfyServer) -> dict[str, Any]:
    found = {name: info for name, info in server.get("/object_info").items() if name.startswith("DSPO")}
    return {name: schema(info) for name, info in sorted(found.items())}


def test_every_schema_is_as_it_was(server: ComfyServer) -> None:
    """Saved workflows hold widget values by their place: ids, order and types are frozen.

    After a deliberate change: DSPO_UPDATE_SCHEMAS=1 pytest tests/host/test_registration.py
    """
    found = ours(server)
    if os.environ.get("DSPO_UPDATE_SCHEMAS"):
        SNAPSHOT.write_text(json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
    assert found == json.loads(SNAPSHOT.read_text(encoding="utf-8"))


def test_the_pack_registers_without_a_complaint(server: ComfyServer) -> None:
    started, ready, _ = server.log().partition("To see the GUI go to")  # what graphs said later is not meant
    assert ready
    lines = [line for line in started.splitlines() if PACK_NAME in line]
    assert any("seconds" in line for line in lines), "the core lists the pack among what it imported"
    assert not [line for line in lines if "FAILED" in line or "rror" in line]
    assert {info["category"] for info in ours(server).values()} == {"DSPO"}


def test_every_input_has_a_tooltip(server: ComfyServer) -> None:
    silent = [
        (node, name)
        for node, info in ours(server).items()
        for group in info["inputs"].values()
        for name, spec in group.items()
        if len(spec.get("tooltip", "")) < 10
    ]
    assert silent == []


def test_help_pages_locales_and_scripts_are_served(server: ComfyServer) -> None:
    (script,) = [path for path in server.get("/extensions") if path.endswith("/dspo.js") and PACK_NAME in path]
    assert b"lora_saved" in server.fetch(script)
    texts = server.get("/i18n")
    for node in ours(server):
        for page in (f"{node}.md", f"{node}/de.md", f"{node}/zh.md"):
            assert len(server.fetch(f"/extensions/{PACK_NAME}/docs/{page}")) > 500
        assert all(texts[language]["nodeDefs"][node]["display_name"] for language in ("de", "zh"))


def outcome(server: ComfyServer, graph: dict[str, Any]) -> str:
    """The words of the refusal: of the server's check before it runs, or of the node."""
    try:
        prompt = server.queue(graph)
    except AssertionError as refused:
        return str(refused)
    status = server.wait(prompt, 60)["status"]
    assert status["status_str"] == "error", status
    (error,) = [value for name, value in status["messages"] if name == "execution_error"]
    return error["exception_message"]


def everything(base: Path) -> set[str]:
    """All files and folders around the base, but for the log and what a refusal may leave: nothing."""
    skipped = ("server.log", "custom_nodes", "user", "temp", "models")
    found = set()
    for parent, folders, names in os.walk(base.parent):
        if Path(parent) == base:
            folders[:] = [name for name in folders if name not in skipped]
        found |= {os.path.join(parent, name) for name in [*folders, *names] if name not in skipped}
    return found


def hostile_graphs(dataset: str, name: str) -> dict[str, dict[str, Any]]:
    """A hostile name in each input that takes one."""
    apply = with_model({}) | {
        "9": {"class_type": "DSPOApplyLora", "inputs": {"model": ["3", 0], "strength": 1.0, "lora_name": name}},
        "10": {
            "class_type": "KSampler",
            "inputs": {
                **{"model": ["9", 0], "positive": ["4", 0], "negative": ["5", 0], "latent_image": ["6", 0], "seed": 1},
                **SAMPLING,
            },
        },
        "11": {"class_type": "PreviewAny", "inputs": {"source": ["10", 0]}},
    }
    negative = with_model({}) | {
        "9": {"class_type": "DSPONegativeLora", "inputs": {"negative": ["5", 0], "strength": 1.0, "lora_name": name}},
        "10": {"class_type": "PreviewAny", "inputs": {"source": ["9", 0]}},
    }
    picture = {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}}
    sheet = {"base": ["1", 0], "aligned": ["1", 0], "prompts": "", "strengths": "1", "title": "", "theme": "light"}
    grid = {"1": picture, "2": {"class_type": "DSPOABGrid", "inputs": {**sheet, "filename_prefix": name}}}
    return {
        "dataset": train_graph(name, "x"),
        "name": train_graph(dataset, name),
        "refine_lora": train_graph(dataset, "x", refine_lora=name),
        "lora_name": apply,
        "negative lora_name": negative,
        "filename_prefix": grid,
    }


def test_hostile_names_lead_nowhere(server: ComfyServer) -> None:
    """Each name of the table in each input: refused in words, and nothing appears on the disk."""
    dataset = put_pairs(server.base)
    secret = server.base.parent / "secret.safetensors"
    secret.write_bytes(b"what nobody may read")
    names = [name for name in HOSTILE if "\ud800" not in name]
    names += ["../secret.safetensors", "..\\secret.safetensors", str(secret), f"dspo/../../../{secret.name}"]
    assert len(names) >= 40
    before = everything(server.base)
    for name in names:
        for place, graph in hostile_graphs(dataset, name).items():
            if place == "name" and name in ("a ", " a", "a\r"):  # trimmed: a person's slip, and a plain name then
                continue
            words = outcome(server, graph)
            assert "what nobody may read" not in words
            assert not {"Traceback", "PermissionError", "FileNotFoundError"} & set(words.split()), (place, name, words)
    assert everything(server.base) == before
    assert server.answers()


def test_a_link_that_leads_out_is_no_dataset(server: ComfyServer) -> None:
    put_pairs(server.base)
    put_pairs(server.base.parent, "outside-set")
    try:
        (server.base / "input" / "leak").symlink_to(server.base.parent / "input" / "outside-set", True)
    except OSError:
        pytest.skip("this system does not let us make links")
    listed = server.get("/object_info/DSPOPreferenceSet")["DSPOPreferenceSet"]["input"]["required"]["dataset"]
    assert "leak" not in json.dumps(listed)
    words = outcome(server, train_graph("leak", "x"))
    assert "leads out of its folder" in words or "not in list" in words
