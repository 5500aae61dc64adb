from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from render_figures import BEGIN, END, insert_table, render_table  # noqa: E402 - tools is no package

MEMORY = {
    "measured_on": "2026-01-02",
    "trials": 1000,
    "submit_s": 4.05,
    "all_ended_s": 63.4,
    "launcher_peak_mib": 46.2,
    "supervisor_peak_mib": 21.8,
    "hardware": {"cpu": "a processor", "cores": 2},
}


def test_the_readme_quotes_what_the_benchmarks_wrote() -> None:
    command = [sys.executable, "tools/render_figures.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_row_says_what_was_measured_where_when_and_how_to_repeat_it(tmp_path: Path) -> None:
    (tmp_path / "launcher_memory.json").write_text(json.dumps(MEMORY), encoding="utf-8")
    table = render_table(tmp_path)
    assert "supervisor 22 MiB | a processor, 2 cores, 2026-01-02 | `make bench-launcher_memory` |" in table
    assert table.count("\n") == 4


def test_a_benchmark_that_was_not_run_has_no_row(tmp_path: Path) -> None:
    assert render_table(tmp_path) == "No benchmark has been run on this checkout: `make bench`.\n"


def test_only_what_is_between_the_marks_is_replaced() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert insert_table(page, "new\n") == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="figures: begin"):
        insert_table("no marks here", "table\n")
