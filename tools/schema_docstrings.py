"""What each field of a contract means: the text under it in the source, which Python itself throws away."""

from __future__ import annotations

import ast
import inspect
from functools import cache
from pathlib import Path

import nexa_contracts


def find_docstrings(class_name: str) -> dict[str, str]:
    """Return the meaning of each documented field of a contract class, those of its bases too; empty if unknown."""
    bases, own = _read_all().get(class_name, ((), {}))
    meanings: dict[str, str] = {}
    for base in bases:
        meanings |= find_docstrings(base)
    return meanings | own


@cache
def _read_all() -> dict[str, tuple[tuple[str, ...], dict[str, str]]]:
    folder = Path(nexa_contracts.__path__[0])
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.py"))]
    classes = [node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    return {node.name: (tuple(ast.unparse(base) for base in node.bases), _read_class(node)) for node in classes}


def _read_class(node: ast.ClassDef) -> dict[str, str]:
    meanings = {}
    for field, text in zip(node.body, node.body[1:], strict=False):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            meanings[field.target.id] = " ".join(inspect.cleandoc(str(text.value.value)).split())
    return meanings
