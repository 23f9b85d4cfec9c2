"""The documentation and the texts of settings: generated where they can be, complete where they are written."""

from __future__ import annotations

import json
import re

import pytest

from dspo_train.cli.main import main
from dspo_train.config import SETTINGS
from dspo_train.config.forms import inputs_of
from dspo_train.objectives import OBJECTIVES
from tools.derive import LANGUAGES, NODES, ROOT, derived

INPUTS = [one.name for form in NODES for one in inputs_of(form)]
WRITTEN = ROOT / "locales" / "settings.json"


@pytest.mark.parametrize("path", sorted(derived()), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_derived_file_is_not_stale(path):
    assert path.read_text(encoding="utf-8") == derived()[path], "run: python -m tools.derive"


def test_every_setting_on_a_node_has_its_words_in_each_language():
    texts = json.loads(WRITTEN.read_text(encoding="utf-8"))
    assert list(texts) == INPUTS
    for name, words in texts.items():
        assert list(words) == list(LANGUAGES), name
        for language, entry in words.items():
            needed = {"name"} if language == "en" else {"name", "tooltip"}
            assert needed <= entry.keys() <= needed | {"meaning", "when"}, (name, language)
            assert all(text and text.strip() == text for text in entry.values()), (name, language)
        assert len({"when" in entry for entry in words.values()}) == 1, name


def test_every_declaration_helps_in_one_sentence():
    for name, one in SETTINGS.items():
        assert re.fullmatch(r"[^\n]{10,}\.", one.help), name
        assert ". " not in one.help.replace("et al. ", ""), name


def test_the_command_line_lists_every_setting_and_argument(capsys):
    assert main(["settings"]) == 0
    told = capsys.readouterr().out
    for name in SETTINGS:
        assert re.search(rf"(?m)^{re.escape(name)}( = |$)", told), name
    for objective, info in OBJECTIVES.items():
        assert all(f"objective_args.{name} ({objective}) = " in told for name in info.arguments)
    assert "lora.rank = 16    1 to 1024\n    Rank of the LoRA" in told
