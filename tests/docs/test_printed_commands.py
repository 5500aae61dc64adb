"""What README and the guide print is done here as a reader would do it, page by page, in a project of its own.

- `$ …` in a console block is run by a shell; it must exit 0, or with N where the line ends in `# exits N`.
- A block introduced by a file's name in backticks and a colon is that file. Other python blocks are run.
- A page may show ids: those its commands make stand for the ones shown, in order of appearance.
- Lines of output without a digit (headings, words) must come; the others differ from machine to machine.
- `make` is not run here: what a page says of it, `.ci/run` does.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.cli.cli_process import end_supervisor
from tests.cluster.slurm_cluster import Shape, SlurmCluster
from tests.docs.printed_page import Command, File, Program, find_stamps, read_steps

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "guide").glob("*.md")), ROOT / "docs" / "operations.md"]
COPIED = ("nexa_contracts", "nexa_infra", "nexa_train", "nexa_eval", "nexa_cli", "pyproject.toml", ".gitignore")
LONGEST_S = 300
ON_A_CLUSTER = ("slurm.md",)
ELSEWHERE = re.compile(r"^(?:make|git clone|cd) ")
"""Of a clone and of what `.ci/run` does, which starts with a clone."""


@dataclass(slots=True)
class Reader:
    """Somebody who types what a page prints."""

    root: Path
    ids: dict[str, str] = field(default_factory=dict)
    """What the page shows of an id, and what it is here."""
    seen: set[str] = field(default_factory=set)
    surroundings: dict[str, str] = field(default_factory=dict)
    """Variables of the place where the page is read."""

    def do(self, command: Command) -> None:
        """Run a command of the page, and hold the page to its exit status and to the words it shows."""
        text = command.text
        for shown, real in self.ids.items():
            text = text.replace(shown, real)
        done = self._run(["bash", "-c", text])
        where = f"line {command.line}: $ {text}\n{done.stdout}"
        assert done.returncode == command.status, f"exit status {done.returncode}, page says {command.status}; {where}"
        self._match_ids(command, where)
        printed = {" ".join(line.split()) for line in self._tell(done.stdout).splitlines()}
        words = [" ".join(line.split()) for line in command.output if not re.search(r"[0-9]|…", line)]
        assert [line for line in words if line and line not in printed] == [], where

    def run_program(self, text: str) -> None:
        """Run a python block."""
        done = self._run([sys.executable, "-c", text])
        assert done.returncode == 0, f"{text}\n{done.stdout}"

    def _tell(self, output: str) -> str:
        # As the pages tell where they were written.
        return output.replace(str(self.root), "~/nexa-compute").replace(sys.prefix, "~/nexa-compute/.venv")

    def _match_ids(self, command: Command, where: str) -> None:
        names = " ".join(path.name for path in (self.root / "runs" / "manifests").glob("*.json"))
        made = sorted(set(find_stamps(names)) - self.seen)
        self.seen |= set(made)
        shown = [stamp for stamp in find_stamps("\n".join(command.output)) if stamp not in self.ids]
        assert len(shown) <= len(made), f"the page shows the new ids {shown}, here came {made}; {where}"
        self.ids |= dict(zip(shown, made, strict=False))

    def _run(self, argv: list[str]) -> subprocess.CompletedProcess[str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            argv,
            cwd=self.root,
            env={**os.environ, "PATH": path, "COLUMNS": "160", **self.surroundings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )


@pytest.fixture
def reader(tmp_path: Path, state_dir: Path) -> Iterator[Reader]:
    root = tmp_path / "nexa-compute"
    root.mkdir()
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, root / name)
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "start"]):
        subprocess.run(["git", *command], cwd=root, check=True, timeout=60)
    yield Reader(root)
    end_supervisor()


@pytest.fixture
def login_node() -> Iterator[dict[str, str]]:
    """Give the reader a cluster of three nodes."""
    with tempfile.TemporaryDirectory(
        prefix="nxs-", dir="/tmp", ignore_cleanup_errors=True
    ) as folder:  # sockets are short
        cluster = SlurmCluster(Path(folder) / "c", Shape(nodes=3, cpus=8))
        cluster.start()
        try:
            yield dict(cluster.environment)
        finally:
            cluster.stop()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_prints_does_what_it_says(page: Path, reader: Reader, request: pytest.FixtureRequest) -> None:
    if page.name in ON_A_CLUSTER:
        reader.surroundings |= request.getfixturevalue("login_node")
    for step in read_steps(page):
        match step:
            case File(name=name, text=text):
                (reader.root / name).parent.mkdir(parents=True, exist_ok=True)
                (reader.root / name).write_text(text, encoding="utf-8")
            case Program(text=text):
                reader.run_program(text)
            case Command() if not ELSEWHERE.match(step.text):
                reader.do(step)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_make_target_that_a_page_prints_is_made_before_every_merge(page: Path) -> None:
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    printed = {step.text for step in read_steps(page) if isinstance(step, Command) and step.text.startswith("make ")}
    assert [text for text in sorted(printed) if not re.search(rf"\b{re.escape(text)}\b", ci)] == []
