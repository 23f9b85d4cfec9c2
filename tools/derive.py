"""Write every file that is derived from the declarations of settings: `python -m tools.derive`.

- `docs/training.md`, `docs/comfyui.md`: the tables between their markers.
- `locales/*/nodeDefs.json`: names and tooltips of the inputs that are settings.
- `web/docs/`: the rows of those inputs on the help pages.

English help texts stand with the declarations, names and translations in `locales/settings.json`:

    input: {language: {"name", "tooltip", "meaning", "when"}}

`tooltip` is a translation's (English has the declaration's); `meaning` replaces it on the help page where that says
more; `when` is the page's advice on when to change the input.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dspo_train import files
from dspo_train.config import SETTINGS
from dspo_train.config.describe import default_text, number_text, range_text
from dspo_train.config.forms import Input, inputs_of
from dspo_train.config.setting import Form
from dspo_train.objectives import OBJECTIVES

ROOT = Path(__file__).resolve().parent.parent
NODES: Mapping[Form, str] = {"train": "DSPOTrainLora", "options": "DSPOTrainingOptions"}
LANGUAGES = ("en", "de", "zh")
Texts = Mapping[str, Mapping[str, Mapping[str, str]]]


def derived() -> dict[Path, str]:
    """What each derived file should hold."""
    texts: Texts = json.loads((ROOT / "locales" / "settings.json").read_text(encoding="utf-8"))
    found = {ROOT / "docs" / "training.md": {"settings": _settings(), "arguments": _arguments()}}
    found[ROOT / "docs" / "comfyui.md"] = {"options": _options()}
    pages = {path: _between(_read(path), tables) for path, tables in found.items()}
    for language in LANGUAGES:
        definitions = ROOT / "locales" / language / "nodeDefs.json"
        pages[definitions] = _definitions(_read(definitions), texts, language)
        for form, node in NODES.items():
            page = f"{node}.md" if language == "en" else f"{node}/{language}.md"
            path = ROOT / "web" / "docs" / page
            pages[path] = _help(_read(path), form, texts, language)
    return pages


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _settings() -> Iterator[str]:
    yield "| key | default | values | meaning |"
    yield "|---|---|---|---|"
    for one in SETTINGS.values():
        name = f"{one.name}.*" if one.kind is Mapping else one.name
        yield _row(_code(name), _code(default_text(one.default)), range_text(one), one.help)


def _arguments() -> Iterator[str]:
    yield "| objective | argument | default | range | meaning |"
    yield "|---|---|---|---|---|"
    for objective, info in OBJECTIVES.items():
        for name, argument in info.arguments.items():
            limits = f"{number_text(argument.low)} to {number_text(argument.high)}"
            yield _row(_code(objective), _code(name), number_text(argument.default), limits, argument.help)


def _options() -> Iterator[str]:
    yield "| widget | setting | meaning |"
    yield "|---|---|---|"
    for one in inputs_of("options"):
        yield _row(_code(one.name), _code(one.setting), one.tooltip)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _between(text: str, tables: Mapping[str, Iterator[str]]) -> str:
    """The text with its tables put between `<!-- NAME -->` and `<!-- /NAME -->`."""
    for name, rows in tables.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, _, rest = text.partition(begin)
        text = before + begin + "\n".join(["", *rows, "", ""]) + end + rest.partition(end)[2]
    return text


def _definitions(text: str, texts: Texts, language: str) -> str:
    """ComfyUI's names and tooltips; English has its tooltips in the schema."""
    nodes = json.loads(text)
    for form, node in NODES.items():
        ours = {one.name: _definition(texts[one.name][language]) for one in inputs_of(form)}
        nodes[node]["inputs"] = _merged(nodes[node]["inputs"], ours)
    return json.dumps(nodes, ensure_ascii=False, indent=2) + "\n"


def _definition(words: Mapping[str, str]) -> dict[str, str]:
    return {key: words[key] for key in ("name", "tooltip") if key in words}


def _help(text: str, form: Form, texts: Texts, language: str) -> str:
    """A help page with the rows of its first table that are settings."""
    table = re.search(r"(?m)^\|.*\n\|[-|]+\n((?:\|.*\n)+)", text)
    assert table is not None
    there = {line.split("|")[1].strip(): line for line in table[1].splitlines()}
    ours = {}
    for one in inputs_of(form):
        words = texts[one.name][language]
        label = words["name"] if language == "en" else f"{words['name']} (`{one.name}`)"
        ours[label] = _row(label, _meaning(one, words), words.get("when", ""))
    rows = _merged(there, ours)
    return text[: table.start(1)] + "".join(f"{row}\n" for row in rows.values()) + text[table.end(1) :]


def _meaning(one: Input, words: Mapping[str, str]) -> str:
    """The tooltip with its choices in code, where nothing else is said."""
    text = words.get("meaning") or words.get("tooltip") or one.tooltip
    return re.sub(rf"(?<![\w`])({'|'.join(one.choices)})(?=[:\uff1a])", r"`\1`", text) if one.choices else text


def _merged(there: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """`there` with the entries of `ours`; a new one follows the one before it in `ours`."""
    merged = dict(there)
    before = None
    for key, value in ours.items():
        if key not in merged and before is not None:
            keys = list(merged)
            later = {other: merged.pop(other) for other in keys[keys.index(before) + 1 :]}
            merged |= {key: value, **later}
        merged[key] = value
        before = key
    return merged


def main() -> None:
    for path, text in derived().items():
        files.write_text(path, text)


if __name__ == "__main__":
    main()
