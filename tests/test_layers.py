"""Which package may import which: the picture of the library, and a change to it is made here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import dspo_train

ROOT = Path(dspo_train.__file__).parent
HOST = {"comfy", "comfy_api", "comfy_execution", "folder_paths", "server", "nodes", "execution", "web"}

# From the top down: a package imports only what stands below it, and of that only what is named.
ALLOWED = {
    "__main__": "cli",
    "__init__": "version",  # the rest when it is first asked for
    "cli": "config demo exceptions files images lora models objectives pairs rounds runs scorers sheets taste training",
    "demo": "config data evaluate exceptions files images lora models runs scorers sheets training",
    "rounds": "config data exceptions files images lora models pairs runs taste training",
    "runs": "config data drawing exceptions files lora models objectives pairs stepwise training version",
    "stepwise": "config data exceptions images models pairs scorers taste training",
    "taste": "data drawing evaluate exceptions files images models objectives pairs preferences training",
    "training": "config data exceptions lora models objectives",
    "data": "config exceptions files images models pairs",
    "sheets": "drawing exceptions images lora models pairs",
    "pairs": "exceptions files images preferences",
    "lora": "config exceptions files models",
    "scorers": "evaluate exceptions files models",
    "evaluate": "files preferences",
    "preferences": "exceptions files images",
    "models": "exceptions files images",
    "objectives": "config exceptions",
    "config": "exceptions",
    "drawing": "exceptions",
    "images": "exceptions",
    "files": "exceptions",
    "exceptions": "",
    "version": "",
}
DIFFUSERS = {"models", "demo"}  # demo: the script that trained the embedded model


def modules() -> Iterator[tuple[str, Path]]:
    """Each module with its package, or its own name where it lies at the root."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).parts
        yield (parts[0] if len(parts) > 1 else path.stem), path


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(level, dotted name) of every import statement that runs, those for type checkers left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from ((node.level, name) for name in names)


def arrows() -> dict[str, set[str]]:
    """Package -> the packages that it imports."""
    found: dict[str, set[str]] = {}
    for package, path in modules():
        own = found.setdefault(package, set())
        parents = path.relative_to(ROOT).parts[:-1]
        for level, name in imports(path):
            if level:
                target = (*parents[: len(parents) - level + 1], *name.split("."))[0]
                own |= {target} - {package}
    return found


def test_the_arrows_are_those_of_the_table():
    assert {package: " ".join(sorted(found)) for package, found in arrows().items()} == ALLOWED


def test_the_table_runs_downwards():
    order = list(ALLOWED)
    for package, below in ALLOWED.items():
        for target in below.split():
            assert order.index(target) > order.index(package), f"{package} -> {target} runs back up"


def test_nothing_of_the_host_and_nothing_by_our_own_name():
    for _, path in modules():
        roots = {name.partition(".")[0] for level, name in imports(path) if level == 0}
        assert not roots & HOST, path
        assert "dspo_train" not in roots, f"{path}: inside ComfyUI the package has another name: import relatively"


def test_diffusers_is_imported_by_the_models_alone():
    found = {package for package, path in modules() if any(n.startswith("diffusers") for _, n in imports(path))}
    assert found == DIFFUSERS
