"""Write the pages that come from the code: JSON schemas, the config reference, the command reference.

`python tools/generate_docs.py` writes them; `--check` changes nothing and exits 1 when a page differs from the code.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cli_reference import render_commands, render_overview
from config_reference import render_config_reference
from schema_docstrings import find_docstrings

import nexa_contracts
from nexa_contracts.base import Contract

ROOT = Path(__file__).resolve().parent.parent
SCHEMAS = Path("docs/schemas")
REFERENCE = Path("docs/reference")


def main(arguments: Sequence[str]) -> int:
    """Return the exit status: 0, or 1 when `--check` finds a page that differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, name the pages that differ")
    check = parser.parse_args(arguments).check
    pages = render_pages()
    stale = [path for path, text in pages.items() if _read(ROOT / path) != text]
    orphans = sorted(_find_generated() - set(pages))
    for path in [*stale, *orphans]:
        sys.stdout.write(f"{path}: {'differs from the code' if check else 'written'}\n")
    if check:
        if stale or orphans:
            sys.stdout.write("run: make docs\n")
        return 1 if stale or orphans else 0
    for path in stale:
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(pages[path], encoding="utf-8")
    for path in orphans:
        (ROOT / path).unlink()
    return 0


def render_pages() -> dict[Path, str]:
    """Return the text of every generated page by its path from the root."""
    pages = {
        SCHEMAS / f"{_file_name(contract)}.json": json.dumps(render_schema(contract), indent=2, ensure_ascii=False)
        + "\n"
        for contract in find_contracts()
    }
    pages[REFERENCE / "config.md"] = render_config_reference()
    pages[REFERENCE / "cli.md"] = render_commands()
    pages[Path("nexa_cli/help.txt")] = render_overview()
    return pages


def find_contracts() -> list[type[Contract]]:
    """Return every contract of nexa_contracts, sorted by name."""
    for module in pkgutil.iter_modules(nexa_contracts.__path__, "nexa_contracts."):
        importlib.import_module(module.name)
    own = [contract for contract in Contract.__subclasses__() if contract.__module__.startswith("nexa_contracts.")]
    return sorted(own, key=lambda contract: contract.__name__)


def render_schema(contract: type[Contract]) -> dict[str, Any]:
    """Return a contract's JSON schema, each field described by the docstring that stands under it."""
    schema = contract.model_json_schema()
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    _describe(schema, contract.__name__)
    for name, part in schema.get("$defs", {}).items():
        _describe(part, name)
    return schema


def _describe(schema: dict[str, Any], class_name: str) -> None:
    # pydantic can read the docstrings itself, but then every start of a command pays for it.
    meanings = find_docstrings(class_name)
    for name, field in schema.get("properties", {}).items():
        if name in meanings:
            rule = field.get("description")
            field["description"] = f"{meanings[name]} Allowed: {rule}." if rule else meanings[name]


def _file_name(contract: type[Contract]) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", contract.__name__).lower()


def _find_generated() -> set[Path]:
    return {path.relative_to(ROOT) for path in (ROOT / SCHEMAS).glob("*.json")}


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
