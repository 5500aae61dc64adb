"""A command pays only for what it uses."""

from __future__ import annotations

import sys

import pytest

from nexa_infra.process import SystemRunner
from tests.cli.cli_process import Cli

HEAVY = ("torch", "transformers", "pandas", "numpy", "pyarrow", "matplotlib", "datasets", "trl")
_PROBE = """
import atexit, sys
atexit.register(lambda: print("LOADED", *sorted(name for name in sys.modules if "." not in name), file=sys.stderr))
from nexa_cli.main import main
main(sys.argv[1:])
"""


def loaded_modules(cli: Cli, *arguments: str) -> set[str]:
    done = SystemRunner().run([sys.executable, "-c", _PROBE, *arguments], timeout_s=60, cwd=cli.project.root)
    last = [line for line in done.stderr.splitlines() if line.startswith("LOADED ")][-1]
    return set(last.split()[1:])


@pytest.mark.parametrize("arguments", [["--help"], ["launch", "--help"], ["nosuch"], ["--version"]])
def test_help_loads_neither_the_stack_nor_the_schemas(cli: Cli, arguments: list[str]) -> None:
    loaded = loaded_modules(cli, *arguments)
    assert not loaded & {*HEAVY, "pydantic", "ruamel", "rich", "psutil", "sqlite3"}


@pytest.mark.parametrize(
    "arguments", [["runs"], ["runs", "--json"], ["status", "last"], ["logs", "last"], ["cancel", "last"]]
)
def test_commands_that_read_no_config_load_no_schema(cli: Cli, arguments: list[str]) -> None:
    cli.ok("launch", "hello.yaml")
    assert not loaded_modules(cli, *arguments) & {*HEAVY, "pydantic", "ruamel"}


def test_a_launch_loads_no_training_stack(cli: Cli) -> None:
    assert not loaded_modules(cli, "launch", "hello.yaml", "--dry-run") & set(HEAVY)


def test_the_overview_is_what_click_would_print_and_loads_not_even_click(cli: Cli) -> None:
    done = SystemRunner().run([sys.executable, "-c", _PROBE.replace("nexa_cli.main", "nexa_cli.entry").replace(
        "main(sys.argv[1:])", "main()"), "--help"], timeout_s=60, cwd=cli.project.root)  # fmt: skip
    assert done.stdout == cli.ok("--help", env={"COLUMNS": "80"})
    assert not {"click", "pydantic", "re"} & set(done.stderr.split())
