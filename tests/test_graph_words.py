"""Every message that reaches the graph names settings as the nodes' inputs do."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

import dspo_train
from dspo_train.config import SETTINGS
from dspo_train.config.forms import Input, Overrides, inputs_of, read_form
from dspo_train.config.naming import rendered
from dspo_train.config.setting import Form
from dspo_train.exceptions import DspoError
from dspo_train.objectives import OBJECTIVES, check_objective
from dspo_train.runs.graph_words import GRAPH_WORDS
from dspo_train.runs.presets import OWN_NUMBER, PRESETS, configure

ROOT = Path(dspo_train.__file__).parent
LABELS = json.loads((ROOT.parent / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
NODES = {"train": "DSPOTrainLora", "options": "DSPOTrainingOptions"}
FORMS: tuple[Form, ...] = get_args(Form)
INPUTS = [(form, one) for form in FORMS for one in inputs_of(form)]
QUOTED = re.compile(r"`([a-z]\w*(?:\.\w+)*)`")
DOTTED = re.compile(r"\b(?:lora|optim|data|loss|held_out|objective_args)\.\w+")
ELSEWHERE = {  # modules that the graph does not use
    "cli",
    "demo",
    "evaluate",
    "sheets",
    "models/sampling.py",  # the library's own sampler: ComfyUI draws the previews
    "lora/extract.py",  # after a training of all weights
    "training/full.py",
}
UNSEEN = {  # settings that no message of a run in the graph can name, and why
    "method": "always lora there; the rule on refining names it for full only",
    "optim.name": "preflight leaves it out of its advice, as the nodes do not offer it",
    "optim.warmup": "5% of the steps, which is always fewer",
    "data.bucket_step": "a multiple of the model's own that the resolution is checked against before",
    "held_out.draws": "always at its default",
    "objective_args.*": "only the objective's own number can be given",
}


def bad_values(one: Input) -> Iterator[Any]:
    """Of every kind that a widget or a script may send."""
    if one.empty:
        yield from ("1e-4x", "1e999", "-1", "nan")
    if one.kind in (int, float):
        yield -1
    if one.kind is int:
        yield 1.5
    if (high := SETTINGS[one.setting].high) is not None:
        yield one.kind(high * 2 + 1)
    yield "many"
    if one.setting != "objective":
        yield [1]


@pytest.mark.parametrize(("form", "one"), INPUTS, ids=[one.name for _, one in INPUTS])
def test_what_is_wrong_with_an_input_is_said_under_its_name(form: Form, one: Input):
    for value in bad_values(one):
        with pytest.raises(DspoError) as caught:
            values = read_form(form, {"steps": 400, one.name: value})
            check_objective(configure("balanced", 512, values))
        told = rendered(str(caught.value), GRAPH_WORDS)
        assert one.name in told, (value, told)
        assert "`" not in told, (value, told)
        assert not DOTTED.search(told), (value, told)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_what_does_not_go_together_is_said_in_the_words_of_the_nodes(objective: str):
    """Each option with each objective, for pairs and for single images; and a number of the objective's own."""
    for given in (
        {"safeguard": "0.5"},
        {"margin_cap": "0.001"},
        {"label_smoothing": "0.1"},
        {"sharpness": "auto"},
        {"sharpness": "500"},
        {"min_snr": "5"},
        {"keep": "best"},
        {"held_out_patience": "3"},
        {"least_noise": 0.9, "most_noise": 0.1},
    ):
        for own in ("", "0.5", "1e9"):
            for unpaired in (False, True):
                try:
                    options = Overrides(read_form("options", given))
                    changes = {"objective": objective, **options.values}
                    check_objective(configure("gentle", 512, changes, own), unpaired=unpaired)
                except DspoError as error:
                    told = rendered(str(error), GRAPH_WORDS)
                    assert "`" not in told, told
                    assert not DOTTED.search(told), told


@pytest.mark.parametrize("text", ["1x", "0,5", "1e999"])
def test_the_objectives_own_number_is_told_by_its_input(text: str):
    for preset in PRESETS:
        with pytest.raises(DspoError) as caught:
            configure(preset, 512, {}, text)
        assert rendered(str(caught.value), GRAPH_WORDS).startswith(f"{OWN_NUMBER}")


def test_every_name_in_the_librarys_messages_is_one_that_the_graph_knows():
    found = {name for _, name in quoted()}
    unknown = {
        name
        for name in found
        if name not in GRAPH_WORDS and name not in UNSEEN and (name in SETTINGS or "." in name or name.islower())
    }
    assert unknown <= {"attached", "step", "sft"}, "words that are no settings"
    assert {name for name in UNSEEN if name in SETTINGS} <= {name for name in SETTINGS if name not in GRAPH_WORDS}


def test_a_word_of_the_graph_is_an_input_and_says_its_label():
    inputs = {name: label["name"] for node in NODES.values() for name, label in LABELS[node]["inputs"].items()}
    inputs["allow_empty_captions"] = LABELS["DSPOPreferenceSet"]["inputs"]["allow_empty_captions"]["name"]
    for setting, word in GRAPH_WORDS.items():
        if setting == "prediction":
            continue
        name, label = word.split()[0], inputs[word.split()[0]]
        if not set(re.findall(r"[a-z]+", label.lower())) & set(re.findall(r"[a-z]+", name)):
            assert f"({label})" in word


def quoted() -> Iterator[tuple[Path, str]]:
    """What stands in backticks in the texts of the modules that the graph uses, docstrings left out."""
    for path in sorted(ROOT.rglob("*.py")):
        inside = path.relative_to(ROOT)
        if inside.parts[0] in ELSEWHERE or inside.as_posix() in ELSEWHERE:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                yield from ((path, name) for name in QUOTED.findall(node.value))
