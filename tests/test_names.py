"""No two modules of the library give one public name to different things."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import dspo_train

ROOT = Path(dspo_train.__file__).parent
# `run` is a command's entry point and `main` a program's; `log` is each module's logger.
PERMITTED = {"run", "main", "log"}


def defined(module: ast.Module) -> Iterator[str]:
    """Public names of the classes, functions, type variables and constants that a module defines."""
    for node in module.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            names = [node.name]
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
        else:
            names = []
        yield from (name for name in names if not name.startswith("_"))


def test_a_public_name_is_defined_once() -> None:
    where: dict[str, set[str]] = defaultdict(set)
    for path in sorted(ROOT.rglob("*.py")):
        for name in defined(ast.parse(path.read_text(encoding="utf-8"))):
            where[name].add(path.relative_to(ROOT).as_posix())
    assert {"TrainConfig", "load_base", "OBJECTIVES"} <= where.keys()
    twice = {name: sorted(paths) for name, paths in where.items() if len(paths) > 1 and name not in PERMITTED}
    assert not twice


def test_names_are_found_in_every_form() -> None:
    source = "A = 1\nB: int = 2\nC, D = 3, 4\n_E = 5\ndef f(): g = 6\nclass H:\n    i = 7\nfrom x import j\n"
    assert list(defined(ast.parse(source))) == ["A", "B", "C", "D", "f", "H"]
