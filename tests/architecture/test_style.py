from __future__ import annotations

import ast
import re

import pytest

from tests.architecture.source_files import OTHERS, PACKAGES, ROOT, Source, read_sources

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 50
MAX_POSITIONAL = 3
HOOKS = ("_", "on_")
"""Private functions, and the Trainer's hooks, whose parameters are not ours to choose."""
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "shared", "tools"}
LAST_RESORT = {"nexa_cli/main.py", "nexa_infra/scheduling/job_entry.py", "nexa_infra/scheduling/slurm_entry.py"}
"""The places that report whatever comes, and exit."""
SEAMS = {
    "subprocess": {"nexa_infra/process.py"},
    "datetime.now": {"nexa_contracts/clock.py"},
    "datetime.utcnow": set(),
    "time.time": {"nexa_contracts/clock.py"},
    "os.system": set(),
    "os.popen": set(),
}
"""What only its owner may use: other programs, and the wall clock."""


def test_no_file_is_longer_than_a_person_reads_at_once() -> None:
    sources = read_sources(*PACKAGES, *OTHERS)
    assert [s.path for s in sources if len(s.text.splitlines()) > MAX_FILE_LINES] == []


def test_no_function_is_longer_than_a_screen() -> None:
    long = [
        f"{source.path}:{node.lineno} {node.name} {length}"
        for source in read_sources(*PACKAGES, *OTHERS)
        for node in source.functions()
        if (length := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]
    assert not long, "\n".join(long)


def test_a_public_function_takes_few_parameters_by_position() -> None:
    # ruff counts them all (six at most); what it cannot see is that later ones are named by the caller.
    found = [
        f"{source.path}:{node.lineno} {node.name}: {', '.join(ordered)}"
        for source in read_sources(*PACKAGES)
        for node in source.functions()
        if not node.name.startswith(HOOKS) and not any("click" in ast.unparse(mark) for mark in node.decorator_list)
        for ordered in [[arg.arg for arg in node.args.args if arg.arg not in ("self", "cls")]]
        if len(ordered) > MAX_POSITIONAL
    ]
    assert not found, "\n".join(found)


def test_a_package_file_holds_one_docstring_and_nothing_else() -> None:
    for source in read_sources(*PACKAGES):
        if source.path.endswith("__init__.py"):
            assert len(source.tree.body) == 1, source.path
            assert ast.get_docstring(source.tree), source.path


def test_a_module_is_named_for_the_noun_it_owns() -> None:
    empty = [s.path for s in read_sources(*PACKAGES, *OTHERS) if EMPTY_NAMES & set(s.module.split(".")[1:])]
    assert not empty, "\n".join(empty)


def test_no_error_is_swallowed() -> None:
    found = []
    for source, handler in handlers(*PACKAGES, *OTHERS):
        only = handler.body[0] if len(handler.body) == 1 else None
        is_ellipsis = isinstance(only, ast.Expr) and isinstance(only.value, ast.Constant)
        if isinstance(only, ast.Pass) or is_ellipsis:
            found.append(f"{source.path}:{handler.lineno}")
    assert not found, "\n".join(found)


def test_only_the_outermost_callers_catch_everything() -> None:
    broad = ("Exception", "BaseException")
    found = [
        f"{source.path}:{handler.lineno}"
        for source, handler in handlers(*PACKAGES)
        if source.path not in LAST_RESORT
        and not passes_on(handler)
        and (handler.type is None or any(word in ast.unparse(handler.type).split("|") for word in broad))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("seam", sorted(SEAMS))
def test_a_seam_has_one_owner(seam: str) -> None:
    using = {source.path for source in read_sources(*PACKAGES) if uses(source, seam)}
    assert using - SEAMS[seam] == set()


def test_no_test_replaces_a_part_of_the_code() -> None:
    banned = re.compile(
        r"unittest" + r"\.mock|\bMagic" + r"Mock\b|\bmock" + r"er\b|monkeypatch\.(?:set|del)(?:attr|item)\b"
    )
    assert [s.path for s in read_sources("tests") if banned.search(s.text)] == []


def test_no_test_is_left_out() -> None:
    banned = re.compile(r"pytest\.(?:skip|xfail|importor" + r"skip)\b|mark\.(?:skip|skipif|xfail)\b")
    assert [s.path for s in read_sources("tests") if banned.search(s.text)] == []


def test_nothing_is_left_to_do_without_an_issue() -> None:
    unowned = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b(?! ?\(?#\d+)")
    assert [s.path for s in read_sources(*PACKAGES, *OTHERS) if unowned.search(s.text)] == []


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    homes = re.compile(r"(?<![\w.<$}])/(?:ro" + r"ot|wo" + r"rk|fa" + r"rm|home/[a-z]+)/\w")
    texts = [*ROOT.glob("*.md"), *ROOT.glob("*.toml"), ROOT / "Makefile", *(ROOT / "docs").rglob("*.md")]
    texts += [path for package in PACKAGES for path in (ROOT / package).rglob("*.yaml")]
    found = [path.name for path in texts if homes.search(path.read_text(encoding="utf-8"))]
    found += [source.path for source in read_sources(*PACKAGES, *OTHERS) if homes.search(source.text)]
    assert not found, "\n".join(found)


def passes_on(handler: ast.ExceptHandler) -> bool:
    # What cleans up and raises again hides nothing.
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def handlers(*folders: str) -> list[tuple[Source, ast.ExceptHandler]]:
    return [
        (source, node)
        for source in read_sources(*folders)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ExceptHandler)
    ]


def uses(source: Source, seam: str) -> bool:
    module, _, name = seam.partition(".")
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and name and ast.unparse(node).endswith(seam):
            return True
        if isinstance(node, ast.Import) and not name and any(alias.name == module for alias in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and node.module == module:
            names = {alias.name for alias in node.names}
            if not name or (module in ("time", "os") and name in names):
                return True
    return False
