import json
import time

import pytest
from PIL import Image, PngImagePlugin

from dspo_train.pairs import prompt_from_image
from dspo_train.pairs.comfy_graph import positive_prompt, prompt_upstream
from dspo_train.pairs.image_metadata import prompt_from_parameters


def node(kind: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs}


def sampler(positive, kind="KSampler", latent=("9", 0), **more) -> dict:
    return node(kind, positive=list(positive), negative=["8", 0], latent_image=list(latent), seed=1, **more)


REST = {"8": node("CLIPTextEncode", text="bad hands"), "9": node("EmptyLatentImage", width=512)}
TEXT = node("CLIPTextEncode", text=" a cat ", clip=["4", 1])

GRAPHS = {
    "plain": ({"3": sampler(("6", 0)), "6": TEXT}, "a cat"),
    "encoder first, negative first": (
        {"1": node("CLIPTextEncode", text="bad"), "3": sampler(("6", 0)), "6": TEXT},
        "a cat",
    ),
    "SDXL encoder": (
        {"3": sampler(("6", 0)), "6": node("CLIPTextEncodeSDXL", text_g="a cat", text_l="a dog", width=1024)},
        "a cat",
    ),
    "text from a primitive": (
        {
            "3": sampler(("6", 0)),
            "6": node("CLIPTextEncode", text=["7", 0]),
            "7": node("PrimitiveStringMultiline", value="a cat"),
        },
        "a cat",
    ),
    "text through two string nodes": (
        {
            "3": sampler(("6", 0)),
            "6": node("CLIPTextEncode", text=["7", 0]),
            "7": node("ShowText", text=["5", 0]),
            "5": node("String Literal", string="a cat"),
        },
        "a cat",
    ),
    "joined strings": (
        {
            "3": sampler(("6", 0)),
            "6": node("CLIPTextEncode", text=["7", 0]),
            "7": node("StringConcatenate", string_a="a", string_b=["5", 0], delimiter=" "),
            "5": node("PrimitiveString", value="cat"),
        },
        "a cat",
    ),
    "ControlNet between": (
        {
            "3": sampler(("5", 0)),
            "5": node("ControlNetApplyAdvanced", positive=["6", 0], negative=["8", 0], strength=1.0, image=["9", 0]),
            "6": TEXT,
        },
        "a cat",
    ),
    "guider": (
        {
            "3": node("SamplerCustomAdvanced", guider=["2", 0], latent_image=["9", 0]),
            "2": node("BasicGuider", conditioning=["5", 0], model=["4", 0]),
            "5": node("FluxGuidance", conditioning=["6", 0], guidance=3.5),
            "6": TEXT,
            "4": node("UNETLoader"),
        },
        "a cat",
    ),
    "reroute": ({"3": sampler(("5", 0)), "5": {"class_type": "Reroute", "inputs": {"": ["6", 0]}}, "6": TEXT}, "a cat"),
    "combined": (
        {
            "3": sampler(("5", 0)),
            "5": node("ConditioningConcat", conditioning_to=["6", 0], conditioning_from=["7", 0]),
            "6": TEXT,
            "7": node("CLIPTextEncode", text="on a mat"),
        },
        "a cat, on a mat",
    ),
    "loader that holds the text": (
        {
            "3": sampler(("5", 1), kind="KSampler (Efficient)"),
            "5": node("Efficient Loader", positive="a cat", negative="bad"),
        },
        "a cat",
    ),
    "second pass with another text": (
        {
            "1": sampler(("7", 0), latent=("2", 0)),
            "2": node("LatentUpscale", samples=["3", 0]),
            "3": sampler(("6", 0)),
            "6": TEXT,
            "7": node("CLIPTextEncode", text="sharp details"),
        },
        "a cat",
    ),
    "two samplers, one text": ({"1": sampler(("6", 0)), "3": sampler(("6", 0)), "6": TEXT}, "a cat"),
    "two samplers, two texts: no guess": (
        {"1": sampler(("6", 0)), "3": sampler(("7", 0)), "6": TEXT, "7": node("CLIPTextEncode", text="a dog")},
        "",
    ),
    "empty text": ({"3": sampler(("6", 0)), "6": node("CLIPTextEncode", text="  ")}, ""),
    "no sampler": ({"6": TEXT}, ""),
    "link to nowhere": ({"3": sampler(("99", 0))}, ""),
    "a ring": (
        {"3": sampler(("5", 0)), "5": node("A", conditioning=["7", 0]), "7": node("B", conditioning=["5", 0])},
        "",
    ),
    "rubbish nodes": (
        {"3": sampler(("6", 0)), "6": TEXT, "a": 1, "b": {"inputs": []}, "c": {"class_type": 3, "inputs": {}}},
        "a cat",
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_comfy_graphs(name):
    graph, expected = GRAPHS[name]
    assert positive_prompt({**REST, **graph}) == expected


@pytest.mark.parametrize("graph", [None, [], "x", 3, {}, {"3": None}])
def test_what_is_no_graph(graph):
    assert positive_prompt(graph) == ""


TWO_IMAGES = {
    **REST,
    "3": sampler(("6", 0)),
    "6": TEXT,
    "13": sampler(("16", 0)),
    "16": node("CLIPTextEncode", text="a dog"),
    "20": node("DSPOCollectPairs", images=["3", 0], other=["13", 0], schedule="all"),
}


@pytest.mark.parametrize(
    ("at", "socket", "expected"),
    [
        ("20", "images", "a cat"),
        ("20", "other", "a dog"),
        ("20", "schedule", ""),
        ("20", "none", ""),
        ("99", "images", ""),
    ],
)
def test_only_what_leads_to_a_socket_is_read(at, socket, expected):
    assert positive_prompt(TWO_IMAGES) == "", "two samplers with two texts"
    assert prompt_upstream(TWO_IMAGES, at, socket) == expected


def test_a_crafted_graph_cannot_hang_the_scan():
    """Forty nodes, each reached twice from the one before: 2^40 paths."""
    graph = {
        str(n): node("Combine", conditioning_1=[str(n + 1), 0], conditioning_2=[str(n + 1), 0]) for n in range(100, 140)
    }
    start = time.process_time()
    positive_prompt({**REST, **graph, "3": sampler(("100", 0))})
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a cat\nNegative prompt: bad\nSteps: 20, Sampler: Euler", "a cat"),
        ("a cat,\non a mat\nSteps: 20, Sampler: Euler", "a cat,\non a mat"),
        ("a cat <lora:fur:0.8>\nSteps: 20", "a cat <lora:fur:0.8>"),
        ("Negative prompt: bad\nSteps: 20", ""),
        ("Steps to heaven, painting\nSteps: 20", "Steps to heaven, painting"),
        ("just a prompt", "just a prompt"),
    ],
)
def test_a1111_parameters(text, expected):
    assert prompt_from_parameters(text) == expected


def save_png(path, **chunks) -> None:
    info = PngImagePlugin.PngInfo()
    for key, value in chunks.items():
        info.add_text(key, value)
    Image.new("RGB", (64, 64)).save(path, pnginfo=info)


GRAPH = json.dumps({**REST, "3": sampler(("6", 0)), "6": TEXT})


@pytest.mark.parametrize(
    "chunks, expected",
    [
        ({"prompt": GRAPH, "workflow": "{}"}, "a cat"),
        ({"prompt": GRAPH.replace("a cat", "NaN is fine").replace('"seed": 1', '"seed": NaN')}, "NaN is fine"),
        ({"parameters": "a cat\nSteps: 20"}, "a cat"),
        ({"prompt": "{broken", "parameters": "a cat\nSteps: 20"}, "a cat"),
        ({"parameters": json.dumps({"sui_image_params": {"prompt": "a cat", "seed": 1}})}, "a cat"),
        ({"invokeai_metadata": json.dumps({"positive_prompt": "a cat"})}, "a cat"),
        ({"parameters": "{broken json"}, ""),
        ({"Comment": "a cat"}, ""),
        ({"prompt": "[" * 100_000}, ""),
    ],
)
def test_png_chunks(tmp_path, chunks, expected):
    save_png(tmp_path / "a.png", **chunks)
    assert prompt_from_image(tmp_path / "a.png") == expected


PARAMETERS = "a cat, 猫\nNegative prompt: bad\nSteps: 20, Sampler: Euler"


@pytest.mark.parametrize(
    "tag, value, expected",
    [
        (0x9286, b"UNICODE\0" + PARAMETERS.encode("utf-16-be"), "a cat, 猫"),
        (0x9286, b"UNICODE\0" + PARAMETERS.encode("utf-16-le"), "a cat, 猫"),
        (0x9286, b"UNICODE\0" + PARAMETERS.encode("utf-16"), "a cat, 猫"),
        (0x9286, b"ASCII\0\0\0a cat\nSteps: 20", "a cat"),
        (0x9286, b"\0" * 8 + PARAMETERS.encode(), "a cat, 猫"),
        (0x9286, b"ASCII\0\0\0" + json.dumps({"prompt": json.loads(GRAPH), "workflow": {}}).encode(), "a cat"),
        (0x0110, "prompt:" + GRAPH, "a cat"),
        (0x010F, "Prompt:" + GRAPH, "a cat"),
        (0x010F, "workflow:{}", ""),
        (0x0110, "Canon EOS", ""),
    ],
)
@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_exif(tmp_path, tag, value, expected, suffix):
    exif = Image.Exif()
    if tag == 0x9286:
        exif[0x8769] = {tag: value}  # a sub-directory; Pillow before 11.3 forgets what `get_ifd` was given
    else:
        exif[tag] = value
    Image.new("RGB", (64, 64)).save(tmp_path / f"a.{suffix}", exif=exif)
    assert prompt_from_image(tmp_path / f"a.{suffix}") == expected


def test_looking_for_a_prompt_decodes_no_pixels(tmp_path, monkeypatch):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda self: pytest.fail("decoded"))
    assert prompt_from_image(tmp_path / "a.png") == ""


def test_what_is_no_picture_has_no_prompt(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert prompt_from_image(tmp_path / "a.png") == prompt_from_image(tmp_path / "b.png") == ""
