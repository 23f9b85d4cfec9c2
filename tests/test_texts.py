"""Every text around the nodes fits the nodes as they are. Needs no ComfyUI: their schemas are read as source."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dspo_train.config.forms import inputs_of

ROOT = Path(__file__).resolve().parent.parent
HELP = ROOT / "web" / "docs"
LANGUAGES = ("en", "de", "zh")
TRANSLATED = ("de", "zh")
CATEGORY = "DSPO"
NODE_IDS = (
    "DSPOABGrid",
    "DSPOApplyLora",
    "DSPOBlindTest",
    "DSPOBlindTestImages",
    "DSPOCandidates",
    "DSPOCollectPairs",
    "DSPOCompareSampler",
    "DSPONegativeLora",
    "DSPOPlayground",
    "DSPOPreferenceSet",
    "DSPOScoreImages",
    "DSPOTaste",
    "DSPOTrainLora",
    "DSPOTrainingOptions",
)
WITHOUT_OUTPUTS: set[str] = set()
COMPILED = re.compile(r"[{}@|]")  # vue-i18n gives these a meaning of its own, and the text breaks
SHARED = ("list[io.Input]", "list[io.Output]")  # what functions give that several nodes call
PLACES = {"size": 1}  # a short form of `io.X.Input` in the nodes: where its tooltip stands


@dataclass(frozen=True)
class Node:
    """What a schema says; inputs and outputs as {id: tooltip} in their order, None where no literal text is found."""

    id: str
    display_name: str
    description: str | None
    inputs: dict[str, str | None]
    outputs: dict[str, str | None]
    output_names: list[str]


def literal(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((found.value for found in call.keywords if found.arg == name), None)


def tooltip(call: ast.Call, short: str | None) -> str | None:
    found = keyword(call, "tooltip")
    if found is None and short is not None and len(call.args) > PLACES[short]:
        found = call.args[PLACES[short]]
    return literal(found)


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    """In the order of the source."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    yield from sorted(found, key=lambda call: (call.lineno, call.col_offset))


Helpers = dict[str, ast.FunctionDef]


def shared_inputs(tree: ast.Module, folder: Path) -> Helpers:
    """The functions of modules beside this one that give inputs, and that this one takes from them."""
    found: Helpers = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
            taken = {alias.name for alias in node.names}
            beside = ast.parse((folder / f"{node.module.replace('.', '/')}.py").read_text(encoding="utf-8"))
            functions = [it for it in beside.body if isinstance(it, ast.FunctionDef) and it.name in taken]
            found |= {it.name: it for it in functions if it.returns and ast.unparse(it.returns) in SHARED}
    return found


def declared(call: ast.Call) -> list[tuple[str, str]]:
    """Inputs and tooltips of `setting_input(FORM, NAME)` and `setting_inputs(FORM, after=NAME)`."""
    found = [(one.name, one.tooltip) for one in inputs_of(literal(call.args[0]))]  # type: ignore[arg-type]
    if isinstance(call.func, ast.Name) and call.func.id == "setting_input":
        return [pair for pair in found if pair[0] == literal(call.args[1])]
    after = literal(keyword(call, "after"))
    return found[[name for name, _ in found].index(after) + 1 :] if after else found


def sockets(tree: ast.AST, kind: str, helpers: Helpers) -> Iterator[tuple[str, str | None, ast.Call]]:
    """`io.X.Input("id", ...)`, `Pairs.Input("id", ...)`, short forms, and settings; a helper's own body names no id.

    An id counts where it is written, in the order of the source; those of `helpers` where they are called.
    """
    for call in calls(tree):
        if isinstance(call.func, ast.Name) and call.func.id in helpers:
            yield from sockets(helpers[call.func.id], kind, {})
        if isinstance(call.func, ast.Name) and call.func.id in ("setting_input", "setting_inputs") and kind == "Input":
            for name, text in declared(call):
                yield name, text, call
        name = literal(call.args[0]) if call.args else None
        short = call.func.id if isinstance(call.func, ast.Name) and call.func.id in PLACES else None
        called = isinstance(call.func, ast.Attribute) and call.func.attr == kind
        if name is not None and (called or (short and kind == "Input")):
            yield name, tooltip(call, short), call


def read(path: Path) -> Node | None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    schemas = [c for c in calls(tree) if isinstance(c.func, ast.Attribute) and c.func.attr == "Schema"]
    if not schemas:
        return None
    assert len(schemas) == 1, f"{path.name}: one node a file"
    helpers = shared_inputs(tree, path.parent)
    inputs, outputs = sockets(tree, "Input", helpers), list(sockets(tree, "Output", helpers))
    return Node(
        id=literal(keyword(schemas[0], "node_id")) or "",
        display_name=literal(keyword(schemas[0], "display_name")) or "",
        description=literal(keyword(schemas[0], "description")),
        inputs={name: text for name, text, _ in inputs},
        outputs={name: text for name, text, _ in outputs},
        output_names=[literal(keyword(call, "display_name")) or name for name, _, call in outputs],
    )


NODES = {node.id: node for path in sorted((ROOT / "nodes").glob("*.py")) if (node := read(path))}
each_node = pytest.mark.parametrize("node", NODES.values(), ids=NODES)


def locale(language: str, name: str = "nodeDefs") -> dict[str, Any]:
    return json.loads((ROOT / "locales" / language / f"{name}.json").read_text(encoding="utf-8"))


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for part in value.values():
            yield from strings(part)
    else:
        assert isinstance(value, str)
        yield value


def help_page(node: str, language: str) -> str:
    path = HELP / f"{node}.md" if language == "en" else HELP / node / f"{language}.md"
    return path.read_text(encoding="utf-8")


def tables(text: str) -> list[list[str]]:
    """The first column of each table, without its heading."""
    blocks = re.findall(r"(?:^\|.*\n)+", text + "\n", flags=re.MULTILINE)
    return [[line.split("|")[1].strip() for line in block.splitlines()[2:]] for block in blocks]


def names(node: Node, language: str) -> list[str]:
    """What the node shows beside its inputs; a translation's help adds the name that workflows use."""
    shown = {key: entry["name"] for key, entry in locale(language)[node.id]["inputs"].items()}
    return [shown[key] if language == "en" else f"{shown[key]} (`{key}`)" for key in node.inputs]


def test_the_source_was_understood():
    """Counted by hand, once: a node that is added or an input that is written in a new way is to be noticed here."""
    assert sorted(NODES) == sorted(NODE_IDS)
    assert list(NODES["DSPOPreferenceSet"].inputs) == ["dataset", "shown", "allow_empty_captions", "read_as"]
    assert NODES["DSPOPreferenceSet"].output_names == ["pairs", "report", "sheet"]
    trainer = list(NODES["DSPOTrainLora"].inputs)
    assert trainer[:5] == ["model", "clip", "vae", "pairs", "name"]
    assert {"refine_lora", "objective", "learning_rate", "gradient_checkpointing"} < set(trainer)
    assert list(NODES["DSPOApplyLora"].inputs) == ["model", "strength", "lora", "lora_name"]
    assert len(NODES["DSPOCompareSampler"].inputs) == 15
    assert len(NODES["DSPOBlindTest"].inputs) == 17 and len(NODES["DSPOBlindTestImages"].inputs) == 7
    assert list(NODES["DSPOBlindTest"].outputs) == ["test", "base_images", "aligned_images", "prompts_used"]
    candidates = list(NODES["DSPOCandidates"].inputs)
    assert candidates[:3] == ["model", "clip", "vae"] and candidates[7:10] == ["width", "height", "batch_size"]
    assert len(candidates) == 19
    assert list(NODES["DSPOCandidates"].outputs) == ["images", "candidates", "prompts_used"]
    assert list(NODES["DSPOTaste"].inputs) == ["model", "clip", "vae", "pairs", "name"]
    scored = ["images", "model", "clip", "vae", "best", "among", "taste", "taste_name", "prompts", "candidates"]
    assert list(NODES["DSPOScoreImages"].inputs) == scored
    assert list(NODES["DSPOPlayground"].inputs) == ["model"]
    assert list(NODES["DSPOPlayground"].outputs) == ["model", "clip", "vae"]
    assert all(node.inputs for node in NODES.values())
    assert {node.id for node in NODES.values() if not node.outputs} == WITHOUT_OUTPUTS


@each_node
def test_every_socket_has_a_tooltip_in_the_schema(node: Node):
    assert node.display_name and node.description
    empty = [key for key, text in (node.inputs | node.outputs).items() if not (text and text.strip())]
    assert not empty


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_locale_has_exactly_the_nodes_and_inputs_there_are(language: str):
    found = {node: set(entry["inputs"]) for node, entry in locale(language).items()}
    assert found == {node.id: set(node.inputs) for node in NODES.values()}


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_translation_has_all_texts_and_no_other(language: str):
    for key, entry in locale(language).items():
        outputs = entry.get("outputs", {})
        assert entry.keys() - {"outputs"} == {"display_name", "description", "inputs"}, key
        assert list(outputs) == [str(n) for n in range(len(NODES[key].outputs))], key
        for socket in (*entry["inputs"].values(), *outputs.values()):
            assert socket.keys() == {"name", "tooltip"}, key


def test_english_texts_stand_in_the_schema_only():
    for key, entry in locale("en").items():
        assert entry.keys() == {"inputs"}, key
        assert all(socket.keys() == {"name"} for socket in entry["inputs"].values()), key


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", ["nodeDefs", "main"])
def test_a_locale_says_something_everywhere(language: str, name: str):
    for text in strings(locale(language, name)):
        assert text.strip() == text and text
        assert not COMPILED.search(text), text


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_category_is_named(language: str):
    assert list(locale(language, "main")["nodeCategories"]) == [CATEGORY]


@pytest.mark.parametrize("language", LANGUAGES)
@each_node
def test_names_on_a_node_differ(node: Node, language: str):
    assert len(set(names(node, language))) == len(node.inputs)


@pytest.mark.parametrize("language", LANGUAGES)
@each_node
def test_help_names_every_input_and_output(node: Node, language: str):
    """The first tables are the inputs and the outputs, if there are any, by the names that the node shows."""
    found = tables(help_page(node.id, language))
    if node.inputs:
        assert found.pop(0) == names(node, language)
    if node.outputs:
        shown = locale(language)[node.id].get("outputs")
        assert found[0] == ([entry["name"] for entry in shown.values()] if shown else node.output_names)


@pytest.mark.parametrize("language", LANGUAGES)
@each_node
def test_help_is_headed_by_the_node(node: Node, language: str):
    entry = locale(language)[node.id]
    assert help_page(node.id, language).startswith(f"# {entry.get('display_name', node.display_name)}\n")


def test_no_help_page_is_left_over():
    expected = {HELP / f"{node}.md" for node in NODES}
    expected |= {HELP / node / f"{language}.md" for node in NODES for language in TRANSLATED}
    assert set(HELP.rglob("*.md")) == expected


def test_the_manual_names_every_node():
    manual = (ROOT / "docs" / "comfyui.md").read_text(encoding="utf-8")
    assert [node.display_name for node in NODES.values() if node.display_name not in manual] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_help_counts_the_questions_of_each_schedule_as_they_are_asked(language: str):
    """4 pictures: 6 pairs of all, 3 of neighbours, and with swiss 2 rounds of 2."""
    from dspo_train.preferences.schedule import expected

    page = help_page("DSPOCollectPairs", language)
    assert "| 4 | 6 | 3 | 4 |" in page
    for pictures in (2, 4, 8, 16):
        row = [pictures, *(expected(schedule, pictures) for schedule in ("all", "neighbours", "swiss"))]
        assert f"| {' | '.join(map(str, row))} |" in page


def test_the_manual_gives_the_panels_keys():
    """What the page listens to, each action by one of its keys at least."""
    source = (ROOT / "web" / "core" / "keymap.js").read_text(encoding="utf-8")
    tables = source[source.index("const ALWAYS") : source.index("const SHIFTED")]
    keys: dict[str, list[str]] = {}
    for key, action in re.findall(r'"?([^\s"]+?)"?: "(\w+)"', tables):
        name = "Esc" if key == "Escape" else key.removeprefix("Arrow")
        keys.setdefault(action, []).append(name.upper() if len(name) == 1 else name)
    assert (
        keys["left"] == ["Left", "Up"] and keys["skip"] == ["S"] and keys["help"] == ["?"] and keys["done"] == ["Enter"]
    )
    manual = (ROOT / "docs" / "comfyui.md").read_text(encoding="utf-8")
    told = set(re.findall("`([^`]+)`", manual[manual.index("| key | all") :].split("\n\n")[0]))
    assert [action for action, its in keys.items() if not told & set(its)] == []


def test_the_manuals_give_the_presets_as_they_are():
    """A row of each table: the name as the node offers it, strength, learning rate, rank; then the layers."""
    from dspo_train.runs.presets import PRESETS

    help_pages = ROOT / "web" / "docs"
    manuals = [ROOT / "docs" / "comfyui.md", help_pages / "DSPOTrainLora.md", *help_pages.glob("DSPOTrainLora/*.md")]
    assert len(manuals) == 4
    for manual in manuals:
        text = manual.read_text(encoding="utf-8")
        for name, preset in PRESETS.items():
            rate = f"{preset['optim.lr']:.0e}".replace("e-0", "e-")
            row = f"| {name.capitalize()} | {preset['objective_args.strength']:g} | {rate} | {preset['lora.rank']} | "
            if manual.name == "comfyui.md":  # there the layers go by the names that a settings file takes
                row += f"`{preset['lora.targets']}` |"
            assert row in text, (manual, row)
