"""A project of its own for each test."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nexa_infra.operations.backends import state_dir as find_state_dir
from nexa_infra.scheduling.local_queue import LocalQueue
from nexa_infra.scheduling.process_tree import is_alive, send_signal
from nexa_infra.storage.layout import Project
from tests.cli.cli_process import HELLO, Cli


@pytest.fixture
def cli(tmp_path: Path, state_dir: Path) -> Iterator[Cli]:
    root = tmp_path / "project"
    root.mkdir()
    (root / "nexa.yaml").write_text("project: tests\n", encoding="utf-8")
    (root / "hello.yaml").write_text(HELLO, encoding="utf-8")
    yield Cli(Project(root))
    _end_supervisor()


@pytest.fixture
def tree_digest() -> Callable[[Path], dict[str, bytes]]:
    """Return every file under a folder with its content, to see that nothing was touched."""

    def digest(root: Path) -> dict[str, bytes]:
        return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}

    return digest


def _end_supervisor() -> None:
    queue_file = find_state_dir(os.environ).queue
    if not queue_file.exists():
        return
    queue = LocalQueue(queue_file)
    try:
        mark = queue.find_supervisor()
        if mark is not None and is_alive(mark):
            send_signal(mark.pid, signal.SIGTERM)
    finally:
        queue.close()
