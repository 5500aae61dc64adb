from __future__ import annotations

import subprocess
import sys
import tomllib

import pytest

from tests.architecture.source_files import PACKAGES, ROOT, read_sources

HEAVY = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "pandas", "pyarrow", "matplotlib", "plotext")


def test_imports_go_down_the_floors() -> None:
    # In a process of its own: it would silence every logger of this one.
    lint = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run(
        [sys.executable, "-c", lint], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_package_stands_on_a_floor() -> None:
    # A package that the list of layers forgets is one that may import anything.
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    floors = next(contract for contract in config["tool"]["importlinter"]["contracts"] if contract["type"] == "layers")
    listed = {column.strip() for layer in floors["layers"] for column in layer.split("|")}
    modules = {source.module for source in read_sources(*PACKAGES)}
    inside = {".".join(module.split(".")[:2]) for module in modules if module.startswith("nexa_infra.")}
    needed = (set(PACKAGES) - {"nexa_infra"}) | (inside - {"nexa_infra.testing"})
    assert listed == needed


def test_only_tests_use_the_fakes() -> None:
    using = [
        source.path
        for source in read_sources(*PACKAGES)
        if "nexa_infra.testing" in source.text and not source.path.startswith("nexa_infra/testing/")
    ]
    assert using == []


def test_importing_the_project_loads_no_heavy_package() -> None:
    # In a process of its own: this one has long imported some of them.
    modules = [source.module for source in read_sources(*PACKAGES) if not source.path.startswith("nexa_train/")]
    light = [module for module in modules if not module.endswith("__main__")]
    assert loaded_by(light, HEAVY) == []


@pytest.mark.parametrize(
    "module",
    [
        "nexa_cli.main",
        "nexa_infra.process",
        "nexa_infra.storage.atomic",
        "nexa_infra.storage.index",
        "nexa_infra.storage.layout",
    ],
)
def test_commands_that_read_no_config_do_not_load_pydantic(module: str) -> None:
    # It costs 0.13 s of CPU, which is most of what `nexa runs` may take.
    assert loaded_by([module], ("pydantic", "ruamel", *HEAVY)) == []


def loaded_by(modules: list[str], watched: tuple[str, ...]) -> list[str]:
    lines = ["import importlib, sys"]
    lines += [f"importlib.import_module({module!r})" for module in modules]
    lines += [f"print(*[name for name in {watched!r} if name in sys.modules])"]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()
