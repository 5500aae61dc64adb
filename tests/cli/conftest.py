"""A project of its own for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nexa_infra.storage.layout import Project
from tests.cli.cli_process import HELLO, Cli, end_supervisor


@pytest.fixture
def cli(tmp_path: Path, state_dir: Path) -> Iterator[Cli]:
    root = tmp_path / "project"
    root.mkdir()
    (root / "nexa.yaml").write_text("project: tests\n", encoding="utf-8")
    (root / "hello.yaml").write_text(HELLO, encoding="utf-8")
    yield Cli(Project(root))
    end_supervisor()


@pytest.fixture
def tree_digest() -> Callable[[Path], dict[str, bytes]]:
    """Return every file under a folder with its content, to see that nothing was touched."""

    def digest(root: Path) -> dict[str, bytes]:
        return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}

    return digest
